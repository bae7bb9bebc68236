package lwwwat_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/policies"
	"edged.dev/edged/wasm-examples/exampletest"
)

func TestLastWriterWins(t *testing.T) {
	exampletest.Example{Module: "lww.wasm", Fuel: []int64{173, 209, 1253}, Tools: []string{"wat2wasm"}}.Run(t, lastWriterWins)
}

func lastWriterWins(t *testing.T, p *exampletest.Policy) {
	for _, n := range []int{2, 3, 32} {
		values := make([]string, n)
		for i := range values {
			values[i] = fmt.Sprint("value ", i)
		}
		view := p.Merge(t, exampletest.Lists(values...))
		require.Equal(t, fmt.Sprint("value ", n-1), string(view.Value))
	}
	view := p.Merge(t, []policies.Sibling{
		{Value: []byte("actor"), HLC: 7, Actor: 1, Counter: 9},
		{Value: []byte("counter"), HLC: 7, Actor: 2, Counter: 1},
		{Value: []byte("newest"), HLC: 7, Actor: 2, Counter: 2, ExpiresMS: 5},
	})
	require.Equal(t, "newest", string(view.Value))
	require.Equal(t, uint64(5), view.ExpiresMS)
}
