//go:build interop

package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInteropRejoinBesideRedis needs redis-server. It says nothing about speed:
// its data is far too small.
func TestInteropRejoinBesideRedis(t *testing.T) {
	line := "rejoin --keys 3000 --changed 100 --deleted 10 --conflicts 5 --quiet-before 0s --down 0s --measure 300ms --vs redis --pairs 2 -o json"
	code, out, talk := runLine(t, line+" --edged "+edgedBinary(t))
	require.Zero(t, code, "%s\n%s", out, talk)
	var r Report
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.True(t, r.ok(), out)
	v := r.Versus
	require.Len(t, v.Pairs, 2)
	require.Zero(t, v.Wrong)
	require.Positive(t, v.EdgedMS)
	require.Positive(t, v.PartialMS)
	for _, p := range v.Pairs {
		require.Positive(t, p.EdgedFirstMS)
		require.Positive(t, p.PartialFirstMS)
		require.LessOrEqual(t, p.PartialFirstMS, p.PartialMS)
	}
	// What was changed is some 23 KB. A replica that took everything again would
	// have read 600.
	require.Greater(t, v.PartialBytes, uint64(15_000))
	require.Less(t, v.PartialBytes, uint64(60_000))
	require.Greater(t, v.FullBytes, uint64(500_000))
}
