package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// A repair policy orders the rejoin of a real process, and the report says so.
func TestRejoinByARepairPolicy(t *testing.T) {
	line := "rejoin --keys 1000 --changed 200 --deleted 5 --conflicts 3 --quiet-before 0s --down 0s --measure 300ms --timeout 60s -o json --edged " + edgedBinary(t)
	for policy, plans := range map[string]int{"built-in": 0, "../wasm-examples/hot-first-c/hotfirst.wasm": 1} {
		code, out, talk := runLine(t, line+" --repair-policy "+policy)
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
	}
	code, _, talk := runLine(t, line+" --repair-policy ../wasm-examples/union-c/union.wasm")
	require.NotZero(t, code)
	require.Contains(t, talk, "no export edged_v1_repair")
}
