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
	line := "rejoin --keys 1000 --changed 100 --deleted 5 --conflicts 3 --pairs 2 --quiet-before 0s --down 0s --measure 300ms --timeout 60s -o json --edged " + edgedBinary(t)
	for policy, plans := range map[string]int{"built-in": 0, "../wasm-examples/hot-first-c/hotfirst.wasm": 1} {
		page := filepath.Join(t.TempDir(), "page.html")
		code, out, talk := runLine(t, line+" --report "+page+" --repair-policy "+policy)
		require.Zero(t, code, "%s\n%s", out, talk)
		var r Report
		require.NoError(t, json.Unmarshal([]byte(out), &r))
		require.True(t, r.ok(), out)
		require.NotNil(t, r.Repair)
		require.GreaterOrEqual(t, r.Repair.Plans, plans)
		require.Zero(t, r.Repair.Fallbacks)
		require.Positive(t, r.Repair.Steps["kept"])
		require.Positive(t, r.Repair.FirstHotKeyMS)
		require.Len(t, r.Repair.Egress, 2)
		require.Positive(t, r.Repair.Egress["n1"]+r.Repair.Egress["n2"])
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		if policy == "built-in" {
			require.Nil(t, r.Repair.Effect)
			continue
		}
		e := r.Repair.Effect
		require.Len(t, e.Pairs, 2)
		for _, o := range []RepairOutcome{e.Policy, e.Builtin} {
			require.Equal(t, 2, o.Returns)
			require.Positive(t, o.FirstHotKeyMS)
			require.LessOrEqual(t, o.FirstHotKeyMS, o.CaughtUpMS, "of each return, and so the medians")
			require.Positive(t, o.BeforeRequests)
			require.Positive(t, o.DuringRequests+o.AfterRequests)
			require.Positive(t, sum(o.Egress))
		}
		require.Positive(t, e.HotKeyRatio)
		require.Positive(t, e.EgressRatio)
		require.Contains(t, string(text), "What the repair policy changes")
		require.Contains(t, string(text), "hotfirst beside the built-in plan, in turn, 2 returns of each")
	}
	code, _, talk := runLine(t, line+" --repair-policy ../wasm-examples/union-c/union.wasm")
	require.NotZero(t, code)
	require.Contains(t, talk, "no export edged_v1_repair")
	require.NotContains(t, talk, "load keys", "it is refused before it costs anything")
}
