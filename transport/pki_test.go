package transport_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/transport"
)

// issued makes a CA and one node's files.
func issued(t *testing.T) (ca, node string) {
	t.Helper()
	dir := t.TempDir()
	ca, node = filepath.Join(dir, "ca"), filepath.Join(dir, "n1")
	require.NoError(t, transport.InitCA(ca))
	require.NoError(t, transport.Issue(ca, "n1", node, time.Hour))
	return ca, node
}

func TestIssuedFilesAreThoseOfANodeAndPrivate(t *testing.T) {
	t.Parallel()
	ca, node := issued(t)
	entries, err := os.ReadDir(node)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		info, err := e.Info()
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), e.Name())
	}
	require.Equal(t, []string{"ca.crt", "cluster.key", "node.crt", "node.key"}, names)
	info, err := os.Stat(filepath.Join(ca, "ca.key"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())

	id, err := transport.LoadIdentity(node)
	require.NoError(t, err)
	require.Equal(t, "n1", id.Name)
	require.Len(t, id.Cluster, 32)
	key, err := os.ReadFile(filepath.Join(ca, "cluster.key"))
	require.NoError(t, err)
	require.Equal(t, key, id.ClusterKey[:])
	require.WithinDuration(t, time.Now().Add(time.Hour), id.NotAfter, time.Minute)
}

func TestSecondCAIsRefused(t *testing.T) {
	t.Parallel()
	ca, _ := issued(t)
	require.ErrorContains(t, transport.InitCA(ca), "already has one")
}

func TestIssueRenewsButMixesNothing(t *testing.T) {
	t.Parallel()
	ca, node := issued(t)
	key, err := os.ReadFile(filepath.Join(node, "node.key"))
	require.NoError(t, err)
	for _, name := range []string{"n1", "n2"} {
		require.ErrorContains(t, transport.Issue(ca, name, node, time.Hour), "the key of n1 already")
	}
	require.ErrorContains(t, transport.Renew(ca, "n2", node, time.Hour), `the certificate of "n1"`)
	require.ErrorIs(t, transport.Renew(ca, "n1", t.TempDir(), time.Hour), fs.ErrNotExist)
	same, err := os.ReadFile(filepath.Join(node, "node.key"))
	require.NoError(t, err)
	require.Equal(t, key, same, "a refusal changes nothing")

	require.NoError(t, os.Remove(filepath.Join(node, "node.crt")), "cut short before its end")
	require.NoError(t, transport.Issue(ca, "n1", node, time.Hour))
	require.NoError(t, transport.Renew(ca, "n1", node, 2*time.Hour))
	id, err := transport.LoadIdentity(node)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(2*time.Hour), id.NotAfter, time.Minute)

	other, _ := issued(t)
	require.ErrorContains(t, transport.Renew(other, "n1", node, time.Hour), "another cluster's files")
	require.ErrorContains(t, transport.Issue(ca, "n1", ca, time.Hour), "CA's key")
	require.ErrorContains(t, transport.Issue(ca, "n1", t.TempDir(), 0), "not positive")
	require.ErrorIs(t, transport.Issue(t.TempDir(), "n1", t.TempDir(), time.Hour), fs.ErrNotExist)
	for _, name := range []string{"", "a/b", "a b", "n\x00", string(make([]byte, 65)), "ü"} {
		require.Error(t, transport.Issue(ca, name, t.TempDir(), time.Hour), "%q", name)
	}
}

func TestLoadIdentitySaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	read := func(t *testing.T, path string) []byte {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return b
	}
	_, foreign := issued(t)
	for _, file := range []string{"ca.crt", "node.crt", "node.key", "cluster.key"} {
		_, node := issued(t)
		path := filepath.Join(node, file)
		require.NoError(t, os.Remove(path))
		_, err := transport.LoadIdentity(node)
		require.ErrorContains(t, err, path+" is missing")
		require.ErrorIs(t, err, fs.ErrNotExist)

		require.NoError(t, os.WriteFile(path, []byte("rubbish"), 0o600))
		_, err = transport.LoadIdentity(node)
		require.ErrorContains(t, err, path)
	}
	for file, want := range map[string]string{
		"ca.crt": "does not fit ca.crt", "node.crt": "is not the key of", "node.key": "is not the key of",
	} {
		_, node := issued(t)
		require.NoError(t, os.WriteFile(filepath.Join(node, file), read(t, filepath.Join(foreign, file)), 0o600))
		_, err := transport.LoadIdentity(node)
		require.ErrorContains(t, err, want, file)
	}
}

func TestLapsedCertificateIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, node := issued(t)
		time.Sleep(2 * time.Hour)
		_, err := transport.LoadIdentity(node)
		require.ErrorContains(t, err, "expired on")
		require.ErrorContains(t, err, "edged ca issue")
	})
}

func TestSelfIdentityIsMintedOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	first, err := transport.SelfIdentity(dir, "alone")
	require.NoError(t, err)
	require.Equal(t, "alone", first.Name)
	again, err := transport.SelfIdentity(dir, "alone")
	require.NoError(t, err)
	require.Equal(t, first.Cluster, again.Cluster)
	require.Equal(t, first.ClusterKey, again.ClusterKey)
	_, err = transport.SelfIdentity(dir, "other")
	require.ErrorContains(t, err, `of node "alone"`)

	// Cut short after the CA was made, and before it was whole.
	require.NoError(t, os.Remove(filepath.Join(dir, "node.crt")))
	again, err = transport.SelfIdentity(dir, "alone")
	require.NoError(t, err)
	require.Equal(t, first.Cluster, again.Cluster)
	require.NoError(t, os.Remove(filepath.Join(dir, "node.crt")))
	require.NoError(t, os.Remove(filepath.Join(dir, "ca", "ca.key")))
	again, err = transport.SelfIdentity(dir, "alone")
	require.NoError(t, err)
	require.NotEqual(t, first.Cluster, again.Cluster)
}
