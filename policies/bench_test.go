package policies_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/policies"
)

// BenchmarkMerge is one conflict of two siblings, from siblings to view, with the
// reset that makes each call start alike.
func BenchmarkMerge(b *testing.B) {
	for _, module := range []string{"", "lww-wat/lww.wasm", "union-c/union.wasm", "union-as/union.wasm"} {
		for _, valueBytes := range []int{20, 200, 4096} {
			name, _, _ := strings.Cut(module, "/")
			if name == "" {
				name = "builtin"
			}
			b.Run(fmt.Sprintf("%s/value=%dB", name, valueBytes), func(b *testing.B) { benchmarkMerge(b, module, valueBytes) })
		}
	}
}

func benchmarkMerge(b *testing.B, module string, valueBytes int) {
	table := newTable(b)
	if module != "" {
		wasm, err := os.ReadFile("../wasm-examples/" + module)
		require.NoError(b, err)
		plan, err := policies.PlanDeploy(nil, wasm, policies.DeploySpec{Name: "bench"})
		require.NoError(b, err)
		require.NoError(b, table.Update(b.Context(), store(nil, plan.Writes...)))
	}
	key, siblings := []byte("bench"), []policies.Sibling{
		sib(lines("a", valueBytes), 1, 0), sib(lines("b", valueBytes), 2, 0),
	}
	b.ReportAllocs()
	for b.Loop() {
		if v, err := table.Resolve(b.Context(), key, siblings); err != nil || v.Mark != "" {
			b.Fatal(v.Mark, err)
		}
	}
}

// lines returns a sorted list of items of ten bytes.
func lines(first string, n int) string {
	var s strings.Builder
	for i := 0; s.Len() < n; i++ {
		fmt.Fprintf(&s, "%s%08d\n", first, i)
	}
	return s.String()
}
