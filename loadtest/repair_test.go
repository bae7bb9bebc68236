package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A repair policy orders the rejoin of a real process, and the report says so, and
// what it changed.
func TestRejoinByARepairPolicy(t *testing.T) {
	t.Parallel()
	line := "rejoin --keys 500 --changed 100 --deleted 5 --conflicts 3 --pairs 1 --quiet-before 0s --down 0s --measure 300ms --timeout 60s -o json --edged " + edgedBinary(t)
	ordered := func(t *testing.T, policy string) (r Report, page string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "page.html")
		code, out, talk := runLine(t, line+" --report "+path+" --repair-policy "+policy)
		require.Zero(t, code, "%s\n%s", out, talk)
		require.NoError(t, json.Unmarshal([]byte(out), &r))
		require.True(t, r.ok(), out)
		require.NotNil(t, r.Repair)
		require.Zero(t, r.Repair.Fallbacks)
		require.Positive(t, r.Repair.Steps["kept"])
		require.Positive(t, r.Repair.FirstHotKeyMS)
		require.Len(t, r.Repair.Egress, 2)
		require.Positive(t, r.Repair.Egress["n1"]+r.Repair.Egress["n2"])
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return r, string(text)
	}
	t.Run("the built-in plan", func(t *testing.T) {
		t.Parallel()
		r, _ := ordered(t, "built-in")
		require.Nil(t, r.Repair.Effect)
	})
	t.Run("a module", func(t *testing.T) {
		t.Parallel()
		r, page := ordered(t, "../wasm-examples/hot-first-c/hotfirst.wasm")
		require.Positive(t, r.Repair.Plans)
		e := r.Repair.Effect
		require.Len(t, e.Pairs, 1)
		for _, o := range []RepairOutcome{e.Policy, e.Builtin} {
			require.Equal(t, 1, o.Returns)
			require.Positive(t, o.FirstHotKeyMS)
			require.LessOrEqual(t, o.FirstHotKeyMS, o.CaughtUpMS)
			require.Positive(t, o.BeforeRequests)
			require.Positive(t, o.DuringRequests+o.AfterRequests)
			require.Positive(t, sum(o.Egress))
		}
		require.Positive(t, e.HotKeyRatio)
		require.Positive(t, e.EgressRatio)
		require.Contains(t, page, "What the repair policy changes")
		require.Contains(t, page, "hotfirst beside the built-in plan, in turn, 1 returns of each")
	})
	t.Run("no policy of repairs", func(t *testing.T) {
		t.Parallel()
		code, _, talk := runLine(t, line+" --repair-policy ../wasm-examples/union-c/union.wasm")
		require.NotZero(t, code)
		require.Contains(t, talk, "no export edged_v1_repair")
		require.NotContains(t, talk, "load keys", "it is refused before it costs anything")
	})
}
