//go:build interop

package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInteropBenchRunsBothServers needs redis-server and redis-benchmark. It says
// nothing about speed: its runs are far too short.
func TestInteropBenchRunsBothServers(t *testing.T) {
	var out, said bytes.Buffer
	args := []string{"bench", "--vs", "redis", "--pairs", "1", "--gets", "20000", "--sets", "2000", "--keys", "1000", "-o", "json"}
	code := run(t.Context(), args, system{out: &out, err: &said, env: func(string) string { return "" }})
	require.Equal(t, exitOK, code, said.String())
	var r BenchReport
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))
	require.Len(t, r.Rows, 3)
	for _, row := range r.Rows {
		require.Positive(t, row.Edged)
		require.Positive(t, row.Other)
		require.Len(t, row.Ratios, 1)
	}
}
