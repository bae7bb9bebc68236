package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"edged.dev/edged/internal/kv"
)

// told is a history of one key, "k", and the copies of three nodes, which all own it; a
// fourth owns nothing.
type told struct {
	h     history
	where placement
	dumps []nodeDump
}

// healthy is: w1 is written, w2 supersedes it with its token, n2 comes back at 10 s, and is
// read there by the session that wrote w2; then w3 is written beside w2.
func healthy() *told {
	id := uint32(kv.PartitionOf(kv.Hash([]byte("k")), 4))
	t := &told{where: placement{partitions: 4, owners: map[uint32][]string{id: {"n1", "n2", "n3"}}}}
	t.h = history{Names: []string{"n1", "n2", "n3", "n4"}, Quorum: 2, Starts: map[int][]time.Duration{1: {10 * time.Second}}, Healed: 20 * time.Second, Ended: time.Minute}
	t.op(1, op{Kind: opPut, Value: "w1", Copies: 2})
	t.op(2, op{Kind: opPut, Value: "w2", Copies: 2, Token: true, Covers: []string{"w1"}})
	t.op(11, op{Kind: opGet, Node: 1, After: "w2", Values: []string{"w2"}, Dots: []string{"a:2"}})
	t.op(12, op{Kind: opPut, Value: "w3", Copies: 2, Token: true, Covers: []string{"w1"}})
	for _, name := range t.h.Names {
		t.dumps = append(t.dumps, nodeDump{node: name, partitions: map[uint32]*partitionDump{}})
	}
	t.hold("w2", "w3")
	return t
}

// op adds an operation that began at a second and took a tenth of one.
func (t *told) op(second int, o op) *op {
	o.Key, o.Invoked = "k", time.Duration(second)*time.Second
	o.Returned = o.Invoked + 100*time.Millisecond
	if o.Result == "" {
		o.Result = resultOK
	}
	t.h.Ops = append(t.h.Ops, &o)
	return &o
}

// hold gives all owners these values.
func (t *told) hold(values ...string) {
	for i := range 3 {
		t.holdAt(i, values...)
	}
}

func (t *told) holdAt(node int, values ...string) {
	p := &partitionDump{root: "r"}
	for _, v := range values {
		p.versions = append(p.versions, version{key: "k", dot: kv.Dot{Seq: uint64(v[1] - '0')}, sum: xxh3.HashString(v)})
	}
	for id := range t.where.owners {
		t.dumps[node].partitions[id] = p
	}
}

func (t *told) judge() []Breach { return judgeSoak(&t.h, t.where, t.dumps).breaches }

// What may well be: none of it is a breach.
func TestSoakJudgePassesWhatMayBe(t *testing.T) {
	t.Parallel()
	for name, with := range map[string]func(*told){
		"healthy":                                 func(*told) {},
		"an unknown write is there":               func(h *told) { h.op(13, op{Kind: opPut, Value: "w4", Result: resultUnknown}); h.hold("w2", "w3", "w4") },
		"an unknown write is not there":           func(h *told) { h.op(13, op{Kind: opPut, Value: "w4", Result: resultUnknown}) },
		"an unknown delete took effect":           func(h *told) { h.op(13, op{Kind: opDel, Result: resultUnknown}); h.hold() },
		"a plain write superseded all before it":  func(h *told) { h.op(13, op{Kind: opSet, Value: "w4"}); h.hold("w4") },
		"a chain: what superseded it has expired": func(h *told) { h.op(13, op{Kind: opSet, Value: "w4", TTL: time.Second}); h.hold() },
		"a write's token is of what it met": func(h *told) {
			h.op(14, op{Kind: opPut, Value: "w4", Copies: 2, Token: true, Covers: []string{"w3"}, Before: 13 * time.Second})
			h.hold("w4")
		},
		"a delete left what was written beside it": func(h *told) {
			h.op(13, op{Kind: opDelete, Copies: 2, Token: true, Covers: []string{"w2"}})
			h.hold("w3")
		},
		"one copy had it, and its disk was lost": func(h *told) {
			h.h.Ops[3].Copies = 1
			h.h.Losses = []diskLoss{{From: 11 * time.Second, To: 14 * time.Second}}
			h.hold("w2")
		},
		"another sibling over RESP":                  func(h *told) { h.op(13, op{Kind: opRead, After: "w2", Values: []string{"w3"}}) },
		"marked: isolated":                           func(h *told) { h.op(13, op{Kind: opGet, Node: 1, After: "w2", State: "isolated"}) },
		"an older value where the node had not gone": func(h *told) { h.op(13, op{Kind: opGet, Values: []string{"w1"}, Dots: []string{"a:1"}}) },
		"not found where a later delete is under way": func(h *told) {
			h.op(13, op{Kind: opDel, Result: resultUnknown})
			h.op(14, op{Kind: opGet, Node: 1})
			h.hold()
		},
		"a restarted node keeps what it holds for others": func(h *told) {
			h.h.Restarted = map[int]bool{3: true}
			for id, p := range h.dumps[0].partitions {
				h.dumps[3].partitions[id] = p
			}
		},
		"a failure within the time after the faults": func(h *told) { h.op(25, op{Kind: opGet, Result: resultFail}) },
		"a dot is another's in another partition": func(h *told) {
			other := h.op(13, op{Kind: opGet, Values: []string{"w5"}, Dots: []string{"a:2"}})
			other.Key = "other"
			w := h.op(12, op{Kind: opPut, Value: "w5", Result: resultUnknown})
			w.Key = "other"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := healthy()
			with(told)
			require.Empty(t, told.judge())
		})
	}
}

// Each promise broken, and the judge says which.
func TestSoakJudgeCatches(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		want string
		with func(*told)
	}{
		"an acknowledged write is gone":          {"I1", func(h *told) { h.hold("w2") }},
		"one owner lacks it":                     {"I1", func(h *told) { h.holdAt(2, "w2") }},
		"two copies had it when a disk was lost": {"I1", func(h *told) { h.h.Losses = []diskLoss{{From: 11 * time.Second, To: 14 * time.Second}}; h.hold("w2") }},
		"one copy had it, and no disk was lost since": {"I1", func(h *told) {
			h.h.Ops[3].Copies = 1
			h.h.Losses = []diskLoss{{From: time.Second, To: 2 * time.Second}}
			h.hold("w2")
		}},
		"a delete took what it had not seen": {"I1", func(h *told) {
			h.op(5, op{Kind: opDelete, Copies: 2})
			h.op(13, op{Kind: opPut, Value: "w4", Copies: 2, Token: true, Covers: []string{"w2"}})
			h.hold("w4")
		}},
		"nobody wrote what is held":        {"I2", func(h *told) { h.hold("w2", "w3", "w9") }},
		"a refused write is held":          {"I2", func(h *told) { h.op(13, op{Kind: opPut, Value: "w4", Result: resultFail}); h.hold("w2", "w3", "w4") }},
		"nobody had written what was read": {"I2", func(h *told) { h.op(5, op{Kind: opGet, Values: []string{"w3"}, Dots: []string{"a:3"}}) }},
		"a key that nobody wrote": {"I2", func(h *told) {
			for _, d := range h.dumps[:3] {
				for _, p := range d.partitions {
					p.versions = append(p.versions, version{key: "z"})
				}
			}
		}},
		"what was superseded is back": {"I3", func(h *told) { h.hold("w1", "w2", "w3") }},
		"what was deleted is back":    {"I3", func(h *told) { h.op(13, op{Kind: opDelete, Copies: 2, Token: true, Covers: []string{"w3"}}) }},
		"what had expired was shown": {"I3", func(h *told) {
			h.op(13, op{Kind: opPut, Value: "w4", TTL: time.Second, Copies: 2, Token: true})
			h.op(16, op{Kind: opGet, Values: []string{"w4"}, Dots: []string{"a:4"}})
		}},
		"two owners differ": {"I4", func(h *told) {
			h.op(13, op{Kind: opPut, Value: "w4", Result: resultUnknown})
			h.holdAt(0, "w2", "w3", "w4")
		}},
		"one dot of two values": {"I5", func(h *told) {
			h.op(13, op{Kind: opGet, Values: []string{"w3"}, Dots: []string{"a:2"}})
		}},
		"an older value behind the own write": {"I8", func(h *told) { h.op(5, op{Kind: opGet, After: "w2", Values: []string{"w1"}, Dots: []string{"a:1"}}) }},
		"nothing behind it over RESP":         {"I8", func(h *told) { h.op(13, op{Kind: opRead, After: "w2"}) }},
		"an older value behind it over RESP":  {"I8", func(h *told) { h.op(13, op{Kind: opRead, After: "w2", Values: []string{"w1"}}) }},
		"nothing behind the own write":        {"I8", func(h *told) { h.op(5, op{Kind: opGet, After: "w2"}) }},
		"a copy where it does not belong": {"I10", func(h *told) {
			for id, p := range h.dumps[0].partitions {
				h.dumps[3].partitions[id] = p
			}
		}},
		"it fails long after the faults":       {"I15", func(h *told) { h.op(26, op{Kind: opGet, Result: resultUnknown}) }},
		"not found at a node that came back":   {"I18", func(h *told) { h.op(13, op{Kind: opGet, Node: 1}) }},
		"an older value at one that came back": {"I18", func(h *told) { h.op(13, op{Kind: opGet, Node: 1, Values: []string{"w1"}, Dots: []string{"a:1"}}) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := healthy()
			c.with(told)
			breaches := told.judge()
			require.True(t, slices.ContainsFunc(breaches, func(b Breach) bool { return b.Invariant == c.want }), "%v", breaches)
		})
	}
}

// The same seed draws the same faults, and in time every kind of them.
func TestSoakFaultsHangOnTheSeed(t *testing.T) {
	t.Parallel()
	first, second, kinds := drawFaults(7, 200), drawFaults(7, 200), map[string]bool{}
	require.Equal(t, first, second)
	require.NotEqual(t, first, drawFaults(8, 200))
	for _, f := range first {
		kinds[f.Kind] = true
		require.Less(t, f.Hold, soakHold)
	}
	require.Len(t, kinds, len(soakKinds))
}

// drawFaults draws the first faults of a seed, for five nodes.
func drawFaults(seed uint64, n int) []Fault {
	rnd := rand.New(rand.NewPCG(seed, 0))
	out := make([]Fault, n)
	for i := range out {
		out[i] = drawFault(rnd, 5)
	}
	return out
}

func TestCopiesOfAnAnswer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"2/3": 2, "1+1/3": 1, "0+2/3": 0, "": 0} {
		n, err := copiesOf(text)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	_, err := copiesOf("many")
	require.ErrorContains(t, err, "X-Edged-Copies")
}
