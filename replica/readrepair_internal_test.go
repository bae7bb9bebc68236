package replica

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// One flight a key, and so many keys at once: what comes beyond is left to the tick.
func TestReadRepairsAreBounded(t *testing.T) {
	t.Parallel()
	var x readRepairs
	for i := range maxReadRepairs {
		require.True(t, x.begin(fmt.Sprint(i)))
	}
	require.False(t, x.begin("one more"))
	x.end("7")
	require.True(t, x.begin("one more"))
	require.False(t, x.begin("7"))
	x.end("8")
	require.False(t, x.begin("one more"), "it is being repaired")
	require.True(t, x.begin("8"))
}
