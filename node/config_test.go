package node_test

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/layout"
	"edged.dev/edged/node"
)

func TestDefaultIsValidAndQuiet(t *testing.T) {
	t.Parallel()
	cfg := node.Default()
	require.NoError(t, cfg.Validate())
	require.Empty(t, cfg.Warnings())
}

func TestValidateNamesTheSetting(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*node.Config)
		want   string // empty: valid
	}{
		"no data dir":          {func(c *node.Config) { c.DataDir = "" }, "data-dir: missing"},
		"longest name":         {func(c *node.Config) { c.NodeName = strings.Repeat("n", layout.MaxNameBytes) }, ""},
		"long name":            {func(c *node.Config) { c.NodeName = strings.Repeat("n", layout.MaxNameBytes+1) }, "want at most 64"},
		"name with a slash":    {func(c *node.Config) { c.NodeName = "a/b" }, "want letters"},
		"name with a dash":     {func(c *node.Config) { c.NodeName = "a-b.c_d" }, ""},
		"name from a dash":     {func(c *node.Config) { c.NodeName = "-a" }, "want letters"},
		"zone with a space":    {func(c *node.Config) { c.NodeZone = "a b" }, "node.zone"},
		"no port":              {func(c *node.Config) { c.NodeListen = "127.0.0.1" }, "node.listen \"127.0.0.1\": want HOST:PORT"},
		"large port":           {func(c *node.Config) { c.RESPListen = "127.0.0.1:65536" }, "no number up to 65535"},
		"largest port":         {func(c *node.Config) { c.RESPListen = "127.0.0.1:65535" }, ""},
		"any port":             {func(c *node.Config) { c.NodeListen, c.AdminListen = "[::1]:0", "localhost:0" }, ""},
		"off loopback alone":   {func(c *node.Config) { c.NodeListen = "10.0.0.1:7383" }, "tls.dir: missing"},
		"off loopback":         {func(c *node.Config) { c.NodeListen, c.TLSDir = "10.0.0.1:7383", "tls" }, ""},
		"everywhere":           {func(c *node.Config) { c.NodeListen, c.TLSDir = "0.0.0.0:7383", "tls" }, "node.advertise: missing"},
		"everywhere, told":     {func(c *node.Config) { c.NodeListen, c.TLSDir, c.NodeAdvertise = ":7383", "tls", "h1:7383" }, ""},
		"advertises nothing":   {func(c *node.Config) { c.NodeAdvertise = "0.0.0.0:7383" }, "no host to reach"},
		"advertises no port":   {func(c *node.Config) { c.NodeAdvertise = "h1:0" }, "port 0"},
		"open admin":           {func(c *node.Config) { c.AdminListen = "0.0.0.0:7381" }, "admin.token-file: missing"},
		"admin with a token":   {func(c *node.Config) { c.AdminListen, c.AdminTokenFile = "0.0.0.0:7381", "t" }, ""},
		"join without TLS":     {func(c *node.Config) { c.ClusterJoin = []string{"h1:1"} }, "tls.dir: missing"},
		"join":                 {func(c *node.Config) { c.ClusterJoin, c.TLSDir = []string{"h1:1"}, "tls" }, ""},
		"join nowhere":         {func(c *node.Config) { c.ClusterJoin, c.TLSDir = []string{"h1"}, "tls" }, "cluster.join \"h1\": want HOST:PORT"},
		"most to join":         {func(c *node.Config) { c.ClusterJoin, c.TLSDir = joins(64), "tls" }, ""},
		"too many to join":     {func(c *node.Config) { c.ClusterJoin, c.TLSDir = joins(65), "tls" }, "want at most 64"},
		"join and found":       {func(c *node.Config) { c.ClusterJoin, c.TLSDir, c.ClusterFound = joins(1), "tls", true }, "either founds or joins"},
		"most partitions":      {func(c *node.Config) { c.ClusterPartitions = layout.MaxPartitions }, ""},
		"too many partitions":  {func(c *node.Config) { c.ClusterPartitions = 2 * layout.MaxPartitions }, "cluster.partitions \"8192\": want a power of two"},
		"odd partitions":       {func(c *node.Config) { c.ClusterPartitions = 3 }, "power of two"},
		"most copies":          {func(c *node.Config) { c.ClusterCopies = layout.MaxCopies }, ""},
		"too many copies":      {func(c *node.Config) { c.ClusterCopies = layout.MaxCopies + 1 }, "cluster.copies \"17\": want 1 to 16"},
		"W past N":             {func(c *node.Config) { c.WriteQuorum = 4 }, "cluster.write-quorum \"4\": want 1 to 3, the copies"},
		"R of none":            {func(c *node.Config) { c.ReadQuorum = 0 }, "cluster.read-quorum \"0\""},
		"least memory":         {func(c *node.Config) { c.MemoryBytes = 16 << 20 }, ""},
		"little memory":        {func(c *node.Config) { c.MemoryBytes = 16<<20 - 1 }, "want at least 16MiB"},
		"least rate":           {func(c *node.Config) { c.SyncRateBytes = 64 << 10 }, ""},
		"low rate":             {func(c *node.Config) { c.SyncRateBytes = 64<<10 - 1 }, "sync.rate \"65535B\": want 0, for no limit, or at least 64KiB"},
		"no guard":             {func(c *node.Config) { c.SyncGuard = 0 }, ""},
		"least guard":          {func(c *node.Config) { c.SyncGuard = 1.1 }, ""},
		"most guard":           {func(c *node.Config) { c.SyncGuard = 100 }, ""},
		"too little guard":     {func(c *node.Config) { c.SyncGuard = 1.05 }, "sync.guard \"1.05\": want 1.1 to 100, or 0, for off"},
		"too much guard":       {func(c *node.Config) { c.SyncGuard = 101 }, "sync.guard \"101\": want 1.1 to 100"},
		"a guard of nothing":   {func(c *node.Config) { c.SyncGuard = math.NaN() }, "sync.guard \"NaN\": want 1.1 to 100"},
		"most lanes":           {func(c *node.Config) { c.SyncLanes = 8 }, ""},
		"too many lanes":       {func(c *node.Config) { c.SyncLanes = 9 }, "sync.lanes \"9\": want 1 to 8, or 0, for half of the processors"},
		"fewer than no lanes":  {func(c *node.Config) { c.SyncLanes = -1 }, "sync.lanes \"-1\": want 1 to 8"},
		"least horizon":        {func(c *node.Config) { c.TombstoneHorizon = time.Minute }, ""},
		"short horizon":        {func(c *node.Config) { c.TombstoneHorizon = time.Minute - 1 }, "tombstones.horizon \"59.999999999s\": want at least 1m0s"},
		"no limit":             {func(c *node.Config) { c.StoreLimitBytes = 0 }, ""},
		"least limit":          {func(c *node.Config) { c.StoreLimitBytes = 16 << 20 }, ""},
		"little limit":         {func(c *node.Config) { c.StoreLimitBytes = 16<<20 - 1 }, "want 0, for none, or at least 16MiB"},
		"least scrub":          {func(c *node.Config) { c.ScrubEvery = time.Minute }, ""},
		"no scrub":             {func(c *node.Config) { c.ScrubEvery = 0 }, ""},
		"short scrub":          {func(c *node.Config) { c.ScrubEvery = time.Minute - 1 }, "scrub.every \"59.999999999s\": want 0, which is never, or at least 1m0s"},
		"unknown durability":   {func(c *node.Config) { c.Durability = "none" }, "durability \"none\": want one of [sync relaxed]"},
		"unknown when cut off": {func(c *node.Config) { c.IsolatedWrites = "x" }, "isolated-writes"},
		"unknown level":        {func(c *node.Config) { c.LogLevel = "loud" }, "log.level"},
		"unknown format":       {func(c *node.Config) { c.LogFormat = "xml" }, "log.format"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := node.Default()
			tc.change(&cfg)
			err := cfg.Validate()
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, node.ErrConfig)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func joins(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "h1:1"
	}
	return out
}

func TestValidateSaysAllAtOnce(t *testing.T) {
	t.Parallel()
	cfg := node.Default()
	cfg.DataDir, cfg.Durability = "", "none"
	err := cfg.Validate()
	require.ErrorContains(t, err, "data-dir")
	require.ErrorContains(t, err, "durability")
}

func TestInvalidShowsTheThreeForms(t *testing.T) {
	t.Parallel()
	err := node.Invalid("cluster.join", "x", "want HOST:PORT")
	require.ErrorIs(t, err, node.ErrConfig)
	for _, form := range []string{
		`cluster.join "x": want HOST:PORT`,
		"--cluster-join=HOST:PORT,...",
		"EDGED_CLUSTER_JOIN=HOST:PORT,...",
		"cluster: {join: HOST:PORT,...}",
	} {
		require.ErrorContains(t, err, form)
	}
	require.ErrorContains(t, node.Invalid("data-dir", "", "missing"), "data-dir: DIR")
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	cfg := node.Default()
	cfg.RESPListen, cfg.HTTPListen, cfg.Durability = "0.0.0.0:7379", "10.0.0.1:7380", node.DurabilityRelaxed
	require.Len(t, cfg.Warnings(), 3)
	cfg.RESPPasswordFile = "secret"
	require.Len(t, cfg.Warnings(), 1)
}

func TestSettingsRoundTrip(t *testing.T) {
	t.Parallel()
	want := node.Default()
	want.ClusterJoin, want.ClusterFound, want.NodeName = []string{"a:1", "b:2"}, true, "n1"
	want.StoreLimitBytes = 3 << 30
	var got node.Config
	seen := map[string]bool{}
	for _, s := range node.Settings() {
		require.False(t, seen[s.Key] || seen[s.FlagName()] || seen[s.Env()], "%s twice", s.Key)
		seen[s.Key], seen[s.FlagName()], seen[s.Env()] = true, true, true
		require.NotEmpty(t, s.Usage)
		require.NoError(t, s.Set(&got, s.Get(&want)))
	}
	require.Equal(t, want, got, "every field has a setting")
}

func TestSetRefusesOtherForms(t *testing.T) {
	t.Parallel()
	byKey := map[string]node.Setting{}
	for _, s := range node.Settings() {
		byKey[s.Key] = s
	}
	for key, value := range map[string]string{
		"cluster.found": "yes", "cluster.copies": "three", "memory": "64MB", "cluster.partitions": "",
	} {
		cfg := node.Default()
		err := byKey[key].Set(&cfg, value)
		require.ErrorIs(t, err, node.ErrConfig)
		require.ErrorContains(t, err, key)
		require.Equal(t, node.Default(), cfg, "a refused value changes nothing")
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"0": 0, "17": 17, "17B": 17, "512KiB": 512 << 10, "64MiB": 64 << 20, "1GiB": 1 << 30, "2TiB": 2 << 40,
	} {
		got, err := node.ParseSize(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "MiB", "-1", "1.5GiB", "64mb", "64 MiB", "9223372036854775807KiB", "99999999999999999999"} {
		_, err := node.ParseSize(in)
		require.Error(t, err, in)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<62).Draw(t, "n")
		got, err := node.ParseSize(node.FormatSize(n))
		require.NoError(t, err)
		require.Equal(t, n, got)
	})
}

func TestSecretIsTheFirstLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	for text, want := range map[string]string{
		"s3cret": "s3cret", " s3cret \r\nother\n": "s3cret", "\ns3cret": "", "": "", " \n": "",
		strings.Repeat("x", 4<<10): strings.Repeat("x", 4<<10), strings.Repeat("x", 4<<10+1): "",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		got, err := node.ReadSecret(path)
		require.Equal(t, want, got)
		require.Equal(t, want == "", err != nil, "%.20q: %v", text, err)
	}
	_, err := node.ReadSecret(path + "x")
	require.ErrorIs(t, err, fs.ErrNotExist)
}
