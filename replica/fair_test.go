package replica_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// fair holds n3 to have hung up on nobody, and to have caught up.
func (c *returning) fair() {
	c.t.Helper()
	time.Sleep(time.Minute) // virtual
	c.live("n3")
	c.equal("n1", "n3")
	c.wires.with(func(w *wires) { require.Empty(c.t, w.hungUp) })
	st := c.nodes["n3"].replica.Stats()
	for b := range wire.Breaches {
		require.Zero(c.t, st.Breaches[b].Load(), "%s", b)
	}
	require.Zero(c.t, c.alarms.Load())
	require.Equal(c.t, "while it was away", c.nodes["n3"].holds("k1"))
}

// livingSeal is a seal over n3's process, which runs.
func (c *returning) livingSeal() kv.Dot {
	n3 := c.nodes["n3"]
	return kv.SealOf(n3.id, n3.boot)
}

// What is only odd, and what comes late, ends no connection.
func TestAnOddFrameIsNoBreach(t *testing.T) {
	codec, err := wire.NewCodec()
	require.NoError(t, err)
	sealed := func(c *returning) []wire.CopyClock {
		p := partOf("k1")
		st := c.nodes["n1"].set.Shard(p).Status()
		clock := st.Clock.Clone()
		clock.Seal(c.livingSeal())
		return []wire.CopyClock{{Partition: p, Actor: st.Actor, State: kv.Live, Trust: kv.Whole, Clock: clock}}
	}
	for name, send := range map[string]func(c *returning){
		"an ack's seal over the living": func(c *returning) {
			require.NoError(t, c.nodes["n3"].replica.LiveFrame("n1", wire.Ack{Copies: sealed(c)}.Append(nil)))
		},
		"a hello's": func(c *returning) {
			_, err := c.nodes["n3"].replica.Serve(c.t.Context(), "n1", wire.Hello{Session: 1, Copies: sealed(c)}.Append(nil, codec, nil))
			require.NoError(t, err)
		},
		"a lane for a former process": func(c *returning) {
			n3 := c.nodes["n3"]
			session := uint64(n3.boot-1)<<32 + 7
			n3.replica.Lane(c.t.Context(), "n1", badLane(c.t, func(w *wire.LaneWriter) { _ = w.HeadOf(session, 0, 1, nil) }))
			require.EqualValues(t, 1, n3.replica.Stats().LanesRefused.Load())
		},
		"a pong for a former process": func(c *returning) {
			c.nodes["n3"].replica.ControlFrame("n1", wire.Pong{Stamp: 1 << 62}.Append(nil))
			require.EqualValues(t, 1, c.nodes["n3"].replica.Stats().LatePongs.Load())
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := comesBack(t, nil, nil)
				c.live("n3")
				send(c)
				c.fair()
			})
		})
	}
}

// A session whose end seals its receiver ends, and takes nobody's connection along.
func TestAnEndThatSealsItsReceiverIsNoBreach(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		odd := 0
		c := comesBack(t, onlyAt(wire.TypeEnd, func(c *returning, rec wire.LaneRecord) []wire.LaneRecord {
			if odd++; odd == 1 {
				clock := rec.End.Clock.Clone()
				clock.Seal(c.livingSeal())
				rec.End.Clock = clock
			}
			return []wire.LaneRecord{rec}
		}), nil)
		c.fair()
		require.Greater(t, odd, 1, "it was asked again")
	})
}

// A lane that leans on a table which its receiver has not ends its session alone.
func TestALaneThatLeansOnAForgottenTableIsNoBreach(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lanes := 0
		c := comesBack(t, onlyAt(wire.TypeLaneHead, func(c *returning, rec wire.LaneRecord) []wire.LaneRecord {
			c.leanOn = nil
			if lanes++; lanes == 1 {
				c.leanOn = []wire.CopyClock{{Partition: 1, Clock: clockOf(strange)}}
			}
			return []wire.LaneRecord{rec}
		}), nil)
		c.fair()
		require.Greater(t, lanes, 1, "it was asked again")
		require.EqualValues(t, 1, c.nodes["n3"].replica.Stats().SessionsCut.Load())
	})
}
