package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is sent is told by the second, and not by each who asks.
func TestLoadFollowsWhatIsSent(t *testing.T) {
	t.Parallel()
	var l load
	at := func(ms, sent int64) uint32 {
		_, egress := l.look(ms*int64(time.Millisecond), sent)
		return egress
	}
	require.Zero(t, at(5000, 1<<30), "what was sent before is of no second")
	require.Zero(t, at(5999, 2<<30))
	require.Equal(t, uint32(4<<20), at(6000+3000, 1<<30+16<<30), "KiB a second, of four seconds")
	require.Equal(t, uint32(4<<20), at(9999, 100<<30), "less than a second later")
	require.Equal(t, uint32(0), at(10_000, 17<<30))
	require.Zero(t, at(11_000, 5), "the counter has begun anew")
	require.Equal(t, uint32(3), at(12_000, 5+3<<10))
}

func TestLoadFollowsTheProcessor(t *testing.T) {
	t.Parallel()
	var l load
	look := func(at int64) uint32 {
		cpu, _ := l.look(at, 0)
		return cpu
	}
	const began = 10 * loadEvery // the machine has run for a while
	look(began)
	for busy, n := time.Now(), 0; time.Since(busy) < 50*time.Millisecond; n++ { // some of it is this process'
		_ = n * n
	}
	require.Positive(t, look(began+loadEvery), "of a second")
}
