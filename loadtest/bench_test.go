package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBenchReadsTheRate(t *testing.T) {
	t.Parallel()
	head := `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"` + "\n"
	for name, tc := range map[string]struct {
		csv, op string
		want    float64 // 0: an error
	}{
		"of Redis 7":     {head + `"GET","123456.78","0.5","0.1","0.4","0.9","1.1","3.0"` + "\n", "GET", 123456.78},
		"of Redis 5":     {`"SET","1000.50"` + "\n", "SET", 1000.50},
		"of several":     {"\"SET\",\"1.0\"\n\"GET\",\"2.0\"\n", "GET", 2},
		"of another":     {head + `"SET","1.0"` + "\n", "GET", 0},
		"no number":      {`"GET","fast"` + "\n", "GET", 0},
		"nothing sent":   {`"GET","0.00"` + "\n", "GET", 0},
		"nothing at all": {"", "GET", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := rateOf(tc.csv, tc.op)
			if tc.want == 0 {
				require.ErrorContains(t, err, "read rate of "+tc.op)
				return
			}
			require.NoError(t, err)
			require.InDelta(t, tc.want, got, 1e-9)
		})
	}
}

// TestBenchHoldsEachRunAgainstTheOneBesideIt: were the medians divided, a
// machine that turned slow between two pairs would show as a ratio.
func TestBenchHoldsEachRunAgainstTheOneBesideIt(t *testing.T) {
	t.Parallel()
	row := BenchRow{Op: "GET"}
	for _, pair := range [][2]float64{{100, 50}, {10, 5}, {300, 400}} {
		row.add(true, benchRun{pair[0], 3})
		row.add(false, benchRun{pair[1], 1.5})
	}
	row.settle()
	require.Equal(t, []float64{2, 2, 0.75}, row.Ratios)
	require.InDelta(t, 2, row.Ratio, 1e-9)
	require.InDelta(t, 100, row.Edged, 1e-9)
	require.InDelta(t, 50, row.Other, 1e-9)
	require.InDelta(t, 3, row.EdgedCPU, 1e-9)
	require.InDelta(t, 1.5, row.OtherCPU, 1e-9)
	require.InDelta(t, 2.5, median([]float64{4, 1, 2, 3}), 1e-9)
}

func TestBenchReportHasItsFields(t *testing.T) {
	t.Parallel()
	r := BenchReport{Vs: "redis", Pairs: 1, Rows: []BenchRow{{Op: "SET", Durability: "sync", Fsync: "always", Edged: 2, Other: 4, Ratio: 0.5, Ratios: []float64{0.5}, EdgedCPU: 7.5, OtherCPU: 2}}}
	var out bytes.Buffer
	require.NoError(t, writeJSON(&out, r))
	var got map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	require.Equal(t, []any{map[string]any{
		"op": "SET", "durability": "sync", "appendfsync": "always", "edged_per_s": 2.0, "other_per_s": 4.0, "ratio": 0.5, "ratios": []any{0.5},
		"edged_cpu_us": 7.5, "other_cpu_us": 2.0,
	}}, got["rows"])
	out.Reset()
	require.NoError(t, r.writeTable(&out, painter{}))
	require.Contains(t, out.String(), "SET  sync       always                  2            4    0.50   0.50 to 0.50         7.50        2.00")
}

func TestBenchReadsTheProcessorTime(t *testing.T) {
	t.Parallel()
	require.Equal(t, 1230*time.Millisecond, processorOf("7 (a b) S 1 7 7 0 -1 4194560 100 0 0 0 100 23 0 0 20 0 9 0 5 6 7"))
	require.Zero(t, processorOf("7 (cut"))
	require.Zero(t, processorOf("7 (a) S 1 7 7 0 -1 4194560 100 0 0 0 x 23 0 0"))
}

func TestBenchRefusesNonsense(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ args, want string }{
		"nobody to beat": {"", "--vs \"\": want redis"},
		"another":        {"--vs memcached", "want redis"},
		"no pairs":       {"--vs redis --pairs 0", "--pairs 0: want 1 to 100"},
		"deep":           {"--vs redis --pipeline 1025", "want 1 to 1024"},
		"no output":      {"--vs redis -o xml", "want table or json"},
		"no server":      {"--vs redis --redis-server /nowhere/redis-server", "redis-server and redis-tools"},
		"an argument":    {"--vs redis now", "unexpected argument"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var said bytes.Buffer
			code := run(t.Context(), append([]string{"bench"}, strings.Fields(tc.args)...), system{out: io.Discard, err: &said, env: func(string) string { return "" }})
			require.Equal(t, exitUsage, code)
			require.Contains(t, said.String(), tc.want)
		})
	}
}

func TestBenchKeysAreThoseOfTheClient(t *testing.T) {
	t.Parallel()
	require.Equal(t, "key:000000000042", string(benchKey(42)))
}
