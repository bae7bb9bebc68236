package wire_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// restarted is the table of a node of three, each of which has restarted so often and
// written to every partition in each of its lives.
func restarted(restarts int, sealed bool) []wire.CopyClock {
	out := make([]wire.CopyClock, 256)
	for p := range out {
		var c kv.Clock
		for node := range kv.NodeID(3) {
			for life := range uint32(restarts + 1) {
				a := kv.Actor{Node: 0x9e3779b97f4a7c15 * (node + 1), Boot: 1_700_000_000 + 61*life, Rand: 0x85ebca6b * (life + 7)}
				c.AddRun(a, kv.Run{From: 1, To: uint64(1 + (p*7+int(life)*13)%97)})
				if life == uint32(restarts) && sealed {
					c.Seal(kv.SealOf(a.Node, a.Boot-1))
				}
			}
		}
		out[p] = wire.CopyClock{Partition: kv.Partition(p), Actor: kv.Actor{Node: 5, Boot: 6, Rand: 7}, Clock: c}
	}
	return out
}

// What a HELLO takes does not depend on how often nodes have restarted.
func TestAHelloOfSealedClocksStaysShort(t *testing.T) {
	c := newCodec(t)
	size := func(restarts int, sealed bool) int {
		h := wire.Hello{Session: 1, Copies: restarted(restarts, sealed)}
		frame := h.Append(nil, c, nil)
		got, err := wire.ParseHello(frame, c, nil)
		require.NoError(t, err)
		require.Equal(t, h, got)
		return len(frame)
	}
	none, once, often, open := size(0, true), size(1, true), size(50, true), size(50, false)
	t.Logf("HELLO of 256 partitions: %d bytes without a restart, %d after one of each node and %d after fifty, sealed; %d unsealed", none, once, often, open)
	require.Less(t, once, none+120, "a seal costs its place in the dictionary")
	require.Less(t, often, once+120)
	require.Greater(t, open, 5*often)
}

func TestASealIsNoVersionsActor(t *testing.T) {
	seal := kv.SealOf(4, 5)
	o := kv.Object{Versions: []kv.Version{{Dot: seal, Value: []byte("v")}}}
	_, err := wire.ParseApply(wire.Apply{Writes: []wire.Write{{Seq: 1, Copy: wire.Copy{Key: []byte("k"), Object: o}}}}.Append(nil))
	require.ErrorIs(t, err, wire.ErrMalformed)

	o = kv.Object{Ctx: kv.VV{{Actor: kv.Actor{Node: 4, Boot: 5}, Seq: 6}, seal}}
	_, err = wire.ParseApply(wire.Apply{Writes: []wire.Write{{Seq: 1, Copy: wire.Copy{Key: []byte("k"), Object: o}}}}.Append(nil))
	require.ErrorIs(t, err, wire.ErrMalformed, "nothing stands beside the seal that covers it")
}
