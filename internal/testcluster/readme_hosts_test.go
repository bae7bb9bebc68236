package testcluster_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// threeHosts are the hosts of the README's section, and the machine from which
// they are set up.
func threeHosts() map[string]string {
	return map[string]string{"n1": "10.0.0.1", "n2": "10.0.0.2", "n3": "10.0.0.3", "me": "10.0.0.9"}
}

// walk runs the commands of a section of the README as they stand there, each
// on its host, and returns what each printed.
func walk(t *testing.T, l *lab, heading string) map[string]string {
	t.Helper()
	printed := map[string]string{}
	for _, b := range blocks(t, heading) {
		h := l.hosts[b.host]
		require.NotNil(t, h, "no host %s", b.host)
		if strings.Contains(b.text, "=$(") { // its lines share a variable
			printed[b.text] = h.must(b.text)
			continue
		}
		for line := range strings.SplitSeq(strings.TrimSpace(b.text), "\n") {
			if strings.HasPrefix(strings.TrimPrefix(line, "./")+" ", "edged serve ") {
				h.serve(line)
				h.waitFor(statusOf(line))
				continue
			}
			printed[line] = h.must(line)
		}
	}
	return printed
}

// statusOf is the command that says whether a node that was started by a
// command is ready.
func statusOf(serve string) string {
	match := regexp.MustCompile(`--admin-listen (\S+) --admin-token-file (\S+)`).FindStringSubmatch(serve)
	if match == nil {
		program, _, _ := strings.Cut(serve, " ")
		return program + " status"
	}
	return "./edged status --admin http://" + match[1] + " --token-file " + match[2]
}

// The README's section "On three hosts" is true, word for word.
func TestThreeHostsByTheReadme(t *testing.T) {
	t.Parallel()
	l := newLab(t, threeHosts())
	require.NoError(t, os.Symlink(filepath.Join(l.root, "wasm-examples"), filepath.Join(l.hosts["me"].dir, "wasm-examples")))
	printed := walk(t, l, "On three hosts")

	// One copy may be a moment behind what another connection was told is written.
	l.hosts["n1"].waitFor("redis-cli -h 10.0.0.3 -p 7379 get greeting | grep -x hello")
	status := printed["./edged status"]

	require.Contains(t, status, "3 members")
	require.Len(t, regexp.MustCompile(`(?m)^n[123].* ready `).FindAllString(status, -1), 3, status)
	for line, out := range printed {
		switch {
		case strings.Contains(line, "policy deploy"):
			require.Contains(t, out, `decides keys that begin with "tags/"`)
		case strings.Contains(line, "policy list"):
			require.Regexp(t, `(?m)^union .* yes .*"tags/"@1`, out, "what one node was told, another holds")
		case strings.Contains(line, "loadtest"):
			require.Regexp(t, `roots equal +yes`, out)
		}
	}
	certificatesAreWhole(t, l)
	mistakesAreRefused(t, l)
	strangersAreRefused(t, l)
	if l.lan != "" {
		require.Contains(t, l.hosts["n1"].log(), "resp.listen 10.0.0.1:7379 is not loopback and resp.password-file is not set")
		require.Contains(t, l.hosts["n1"].log(), "http.listen 10.0.0.1:7380 is not loopback")
	}
	for _, name := range []string{"n1", "n2"} { // n3 was started by loadtest's command last
		l.hosts[name].stop()
	}
}

// certificatesAreWhole wants on each node what it needs, and nowhere but at home
// the authority's key.
func certificatesAreWhole(t *testing.T, l *lab) {
	t.Helper()
	for _, name := range []string{"n1", "n2", "n3"} {
		for _, file := range []string{"ca.crt", "node.crt", "node.key", "cluster.key"} {
			require.FileExists(t, filepath.Join(l.hosts[name].dir, "tls", file))
		}
	}
	require.FileExists(t, filepath.Join(l.hosts["me"].dir, "ca", "ca.key"))
	err := filepath.WalkDir(l.dir, func(path string, _ os.DirEntry, err error) error {
		if filepath.Base(path) == "ca.key" {
			require.Equal(t, filepath.Join(l.hosts["me"].dir, "ca", "ca.key"), path)
		}
		return err
	})
	require.NoError(t, err)
}

// mistakesAreRefused makes those that the section warns of.
func mistakesAreRefused(t *testing.T, l *lab) {
	t.Helper()
	elsewhere := " --node-listen 10.0.0.1:0 --resp-listen 127.0.0.1:0 --http-listen 127.0.0.1:0"
	code, out := l.hosts["n1"].run("./edged serve --data-dir emptied --tls-dir tls --cluster-found --admin-listen 127.0.0.1:0" + elsewhere)
	require.Equal(t, 78, code, out)
	require.Contains(t, out, "second cluster")

	code, out = l.hosts["n2"].run("./edged serve --data-dir emptied --tls-dir tls --admin-listen 127.0.0.1:0" + elsewhere)
	require.Equal(t, 78, code, "neither to found nor to join")
	require.Contains(t, out, "--cluster-join")

	code, out = l.hosts["n2"].run("./edged serve --data-dir emptied --tls-dir tls --cluster-join 10.0.0.1:7383 --admin-listen 0.0.0.0:0" + elsewhere)
	require.Equal(t, 78, code, out)
	require.Contains(t, out, "admin.token-file")

	code, out = l.hosts["me"].run("edged status --admin http://10.0.0.1:7381")
	require.NotZero(t, code, "without the token")
	require.Contains(t, out, "token")

	code, out = l.hosts["n3"].run("printf 'resp: {listen: 0.0.0.0:7379}\\nhttp: {listen: 0.0.0.0:7380}\\n' >open.yaml; ./edged config check open.yaml")
	require.Zero(t, code, out)
	require.Contains(t, out, "resp.listen 0.0.0.0:7379 is not loopback")
	require.Contains(t, out, "http.listen 0.0.0.0:7380 is not loopback")
}

// strangersAreRefused lets a node with another authority's certificate try to
// join, under a member's name.
func strangersAreRefused(t *testing.T, l *lab) {
	t.Helper()
	me := l.hosts["me"]
	me.must("edged ca init --dir other && edged ca issue n3 --dir other --out stranger")
	me.serve("edged serve --data-dir stranger-data --tls-dir stranger --node-listen 10.0.0.9:7383 --resp-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --cluster-join 10.0.0.1:7383 --log-level debug")
	me.waitLog("certificate not accepted")
	require.NotContains(t, me.log(), "msg=connected")
	me.kill()
	status := l.hosts["me"].must("edged status --admin http://10.0.0.1:7381 --token-file admin.token")
	require.Contains(t, status, "3 members")
	require.NotContains(t, status, "10.0.0.9:")
}

// The systemd unit's own command line runs a node, with the settings beside it.
func TestUnitRunsANode(t *testing.T) {
	t.Parallel()
	l := newLab(t, map[string]string{"n1": "10.0.0.21"})
	h := l.hosts["n1"]
	unit, err := os.ReadFile(filepath.Join(l.root, "deploy", "edged.service"))
	require.NoError(t, err)
	settings, err := os.ReadFile(filepath.Join(l.root, "deploy", "edged.yaml"))
	require.NoError(t, err)
	h.must("CGO_ENABLED=0 go install ./cmd/edged && edged ca init && edged ca issue n1 --out etc/tls")
	here := strings.NewReplacer(
		"/usr/local/bin/edged", filepath.Join(l.bin, "edged"), "/etc/edged", filepath.Join(h.dir, "etc"),
		"/var/lib/edged", filepath.Join(h.dir, "var"), "h1:7383", l.at("10.0.0.21:7383"),
		"0.0.0.0:7383", l.at("10.0.0.21:7383"), "0.0.0.0:7379", l.at("10.0.0.21:7379"), "0.0.0.0:7380", l.at("10.0.0.21:7380"),
		"join: [h2:7383, h3:7383]", "found: true", // the first of the three
	)
	require.NoError(t, os.WriteFile(filepath.Join(h.dir, "etc", "edged.yaml"), []byte(here.Replace(string(settings))), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(h.dir, "etc", "password"), []byte("secret\n"), 0o600))
	start := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(string(unit))
	require.NotNil(t, start)
	verifiesAsAUnit(t, h, here.Replace(string(unit)))
	h.serve(here.Replace(start[1]))
	h.waitFor("edged status --data-dir var")
	code, out := h.run("redis-cli -h 10.0.0.21 -p 7379 get greeting")
	require.Contains(t, out, "NOAUTH", "exit code %d", code)
	h.stop()
}

// verifiesAsAUnit has systemd judge the unit, where there is one.
func verifiesAsAUnit(t *testing.T, h *labHost, unit string) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Logf("the unit is not judged by systemd: %v", err)
		return
	}
	require.NoError(t, os.WriteFile(filepath.Join(h.dir, "edged.service"), []byte(unit), 0o600))
	require.Empty(t, h.must("systemd-analyze verify ./edged.service"))
}
