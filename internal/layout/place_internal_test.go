package layout

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestNegLog2IsTheLogarithm(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		hash := rapid.Uint64().Draw(t, "hash")
		want := 64 - math.Log2(float64(hash|1))
		require.InDelta(t, want, negLog2(hash)/(1<<fractionBits), 1e-11)
	})
	require.GreaterOrEqual(t, negLog2(math.MaxUint64), 1.0, "the best score stays finite")
	require.InDelta(t, 64, negLog2(0)/(1<<fractionBits), 0)
}
