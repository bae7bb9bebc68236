package core_test

import (
	"flag"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
)

func clone(c copies) copies {
	out := copies{}
	for p, x := range c {
		out[p] = &copyOf{x.trust, x.clock.Clone()}
	}
	return out
}

// fault does one random thing to the world.
func (x *world) fault() {
	n := x.nodes[x.rng.IntN(len(x.nodes))]
	m := x.nodes[x.rng.IntN(len(x.nodes))]
	switch x.rng.IntN(12) {
	case 0, 1, 2:
		if n.up {
			n.stop()
		} else {
			n.start()
		}
	case 3, 4:
		if n.up && n.pausedTo <= x.now {
			n.pause([]int64{300, 1500, 2500, 4000, 9000}[x.rng.IntN(5)] * millisecond)
		}
	case 5, 6:
		if n != m {
			x.breakLink(n, m)
		}
	case 7:
		x.note("all links heal")
		clear(x.cut)
	case 8:
		x.lose(n)
	case 9:
		if x.mass && x.frail == nil {
			for _, n := range x.nodes {
				if n.up {
					n.stop()
				}
			}
			for _, n := range x.nodes {
				x.after(x.rng.Int64N(3)*second, func() {
					if !n.up {
						n.start()
					}
				})
			}
		}
	case 10:
		n.older = clone(n.disk)
	case 11:
		if x.connected(n) && n.older != nil {
			x.rollBack(n)
		}
	}
}

func (x *world) breakLink(n, m *wnode) {
	at := pair(n.i, m.i)
	x.note("link %s-%s cut", n.name, m.name)
	x.cut[at] = true
	x.after(1500*millisecond+x.rng.Int64N(9)*second, func() {
		if x.cut[at] {
			x.disconnect(n, m)
		}
	})
}

// lose empties a node's disk. No other is lost before this one is LIVE again: the
// promise is for W-1 losses at a time.
func (x *world) lose(n *wnode) {
	if x.frail != nil || x.w < 2 {
		return
	}
	for _, m := range x.nodes {
		if m.disk[0].trust != kv.Whole {
			return
		}
	}
	if n.up {
		n.stop()
	}
	x.note("%s loses its disk", n.name)
	x.frail = n
	n.id += 100
	n.disk = copies{0: {}, kv.System: {}}
	n.older = nil
}

func (x *world) connected(n *wnode) bool {
	for _, m := range x.nodes {
		if m != n && (!m.up || n.conns[m.i] == nil || m.part.State != kv.Live || m.pausedTo > x.now || x.cut[pair(n.i, m.i)]) {
			return false
		}
	}
	return n.up && n.part.State == kv.Live && n.pausedTo <= x.now
}

// rollBack restores an older disk under a node whose peers all know what it had:
// it must find out before it serves.
func (x *world) rollBack(n *wnode) {
	if x.frail != nil || x.w < 2 {
		return
	}
	n.stop()
	x.note("%s's disk is an older one: %v", n.name, n.older[0].clock)
	n.disk, n.older = n.older, nil
	x.frail = n
	n.start()
}

var worlds = flag.Int("worlds", 1, "how many times as many random worlds to try")

func TestRandomWorlds(t *testing.T) {
	t.Parallel()
	for _, mix := range []struct {
		name    string
		size, w int
		mass    bool
		seeds   uint64
	}{
		{"three", 3, 2, false, 20},
		{"mass restarts", 3, 2, true, 14},
		{"two", 2, 2, false, 8},
		{"five nodes", 5, 2, false, 6},
		{"w one", 3, 1, false, 12},
		{"planned", 3, 2, false, 12},
	} {
		for seed := range mix.seeds * uint64(*worlds) {
			t.Run(fmt.Sprintf("%s/seed %d", mix.name, seed), func(t *testing.T) {
				t.Parallel()
				x := newWorld(t, seed, mix.size, mix.w)
				x.mass, x.planned = mix.mass, mix.name == "planned"
				randomWorld(x)
			})
		}
	}
}

func randomWorld(x *world) {
	for _, n := range x.nodes {
		n.start()
	}
	x.load(20 * millisecond)
	x.run(8 * second)
	for range 40 {
		x.run(x.rng.Int64N(2500) * millisecond)
		// While a lost or rolled back copy is on its way back, the others live:
		// what remembers it must be there.
		if x.frail == nil || x.rng.IntN(4) == 0 && !x.frail.up {
			x.fault()
		}
		if x.frail != nil && !x.frail.up {
			x.frail.start()
		}
	}
	x.heal()
	require.Equal(x.t, x.planned, x.plans > 0)
}

// heal ends all faults, and wants all copies LIVE and equal soon.
func (x *world) heal() {
	x.note("--- all heals")
	clear(x.cut)
	for _, n := range x.nodes {
		if !n.up {
			n.start()
		}
	}
	x.run(30 * second)
	x.still = true
	x.run(2*core.TickEvery + 5*second) // a tick finds what was lost last
	first := x.nodes[0]
	for _, n := range x.nodes {
		if len(n.part.Owners) > 0 && n.part.Self {
			first = n
		}
	}
	for _, n := range x.nodes {
		if !n.part.Self {
			continue
		}
		if n.part.State != kv.Live {
			x.fail("%s is %v after all healed: %s", n.name, n.part.State, n.part.Reason)
		}
		if !n.disk[0].clock.Equal(first.disk[0].clock) {
			x.fail("%s has %v and %s has %v", n.name, n.disk[0].clock, first.name, first.disk[0].clock)
		}
		if !n.part.Verified {
			x.fail("%s was never compared", n.name)
		}
	}
	require.NotEmpty(x.t, x.acked)
}

// TestSteadyStateIsQuiet holds the machine to its promise: while clocks always
// differ a little, since writes go on, nobody says HELLO.
func TestSteadyStateIsQuiet(t *testing.T) {
	t.Parallel()
	x := newWorld(t, 1, 3, 2)
	for _, n := range x.nodes {
		n.start()
	}
	x.load(2 * millisecond)
	x.run(10 * second)
	before := x.hellos
	x.run(120 * second)
	require.LessOrEqual(t, x.hellos-before, 6, "HELLOs in two minutes of writes")
	for _, n := range x.nodes {
		require.Equal(t, kv.Live, n.part.State)
	}
}
