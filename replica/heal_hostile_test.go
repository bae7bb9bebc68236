package replica_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// lie changes what a peer answers to a question.
type lie struct {
	tree func(q wire.Tree, a *wire.TreeAck)
	held func(q wire.Held, a *wire.HeldAck)
	read func(o *wire.Object)
	raw  func(resp []byte) []byte
}

// ask asks n1 and n2 truly, and lets n1 lie.
func (c *cluster) ask(l lie) func(ctx context.Context, name string, request []byte) ([]byte, error) {
	return func(ctx context.Context, name string, request []byte) ([]byte, error) {
		resp, err := c.nodes[name].replica.Serve(ctx, "n3", slices.Clone(request))
		if err != nil || name != "n1" {
			return resp, err
		}
		t, _ := wire.TypeOf(request)
		switch {
		case t == wire.TypeTree && l.tree != nil:
			q, _ := wire.ParseTree(request)
			a, _ := wire.ParseTreeAck(resp)
			l.tree(q, &a)
			return a.Append(nil), nil
		case t == wire.TypeHeld && l.held != nil:
			q, _ := wire.ParseHeld(request)
			a, _ := wire.ParseHeldAck(resp)
			l.held(q, &a)
			return a.Append(nil), nil
		case t == wire.TypeRead && l.read != nil:
			o, _ := wire.ParseObject(resp)
			l.read(&o)
			return o.Append(nil), nil
		case l.raw != nil:
			return l.raw(resp), nil
		}
		return resp, nil
	}
}

func (c *cluster) healer(ask func(context.Context, string, []byte) ([]byte, error)) *replica.Healer {
	p := partOf("k7")
	return &replica.Healer{Self: "n3", Node: c.nodes["n3"].id, Partition: p, Shard: c.nodes["n3"].set.Shard(p), Salt: 1, Ask: ask}
}

// A peer whose answers make no sense is believed in nothing, is counted, and holds up
// nobody who can do without it.
func TestHostileAnswersToHealing(t *testing.T) {
	for name, x := range map[string]struct {
		lie   lie
		heals bool // all the same, by the other owner
		lies  bool // it is counted
	}{
		"too few digests":  {lie{tree: func(_ wire.Tree, a *wire.TreeAck) { a.Nodes = a.Nodes[:len(a.Nodes)/2]; a.Count++ }}, true, true},
		"too many digests": {lie{tree: func(_ wire.Tree, a *wire.TreeAck) { a.Nodes = append(a.Nodes, 1); a.Count++ }}, true, true},
		"bytes":            {lie{raw: func(r []byte) []byte { return r[:len(r)/2] }}, true, true},
		"all differs": {lie{tree: func(_ wire.Tree, a *wire.TreeAck) {
			a.Count += 9
			for i := range a.Nodes {
				a.Nodes[i] ^= 1
			}
		}}, true, false},
		"items that nobody has": {lie{tree: func(q wire.Tree, a *wire.TreeAck) {
			a.Count++
			for i := range a.Nodes {
				a.Nodes[i] ^= 1
			}
			if len(q.Ranges) > 0 {
				a.Items = append(a.Items, 1, 2, 3)
			}
		}}, true, false},
		"other keys than asked for": {lie{held: func(q wire.Held, a *wire.HeldAck) {
			if len(q.Keys) > 0 {
				a.Objects[0].Key = []byte("another")
			}
		}}, true, true},
		"more objects than asked for": {lie{held: func(q wire.Held, a *wire.HeldAck) {
			if len(q.Keys) > 0 {
				a.Objects = append(a.Objects, wire.HeldObject{Key: []byte("x")})
			}
		}}, true, true},
		"another value than voted for": {lie{read: func(o *wire.Object) {
			for i := range o.Object.Versions {
				o.Object.Versions[i].Value = []byte("forged")
			}
		}}, true, false},
		"a vote for what it does not have": {lie{held: func(_ wire.Held, a *wire.HeldAck) {
			for i := range a.Objects {
				for j := range a.Objects[i].Versions {
					a.Objects[i].Versions[j].Hash++
				}
			}
		}}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := filled(t, "n1", "n2", "n3")
				c.crowd("k7")
				c.nodes["n3"].rot("k7", "de", lose)
				owners := core.Heal{Partition: partOf("k7"), Owners: []string{"n1", "n2"}}
				h := c.healer(c.ask(x.lie))
				out := h.Heal(t.Context(), owners)
				require.Equal(t, x.heals, !out.Failed && out.Fit, "%+v", out)
				require.Equal(t, x.lies, h.Lies > 0, "%d", h.Lies)
				if !x.heals {
					require.Empty(t, c.nodes["n3"].holds("k7"), "nothing was put in")
					require.False(t, c.healer(c.ask(lie{})).Heal(t.Context(), owners).Failed, "and the truth heals it")
				}
				c.whole()
			})
		})
	}
}

// What a peer asks is checked before anything is done for it.
func TestHostileQuestionsAboutTrees(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := filled(t, "n1", "n2")
		n1 := c.nodes["n1"]
		p := partOf("k7")
		ask := func(q wire.Tree) (wire.TreeAck, error) {
			resp, err := n1.replica.Serve(t.Context(), "n2", q.Append(nil))
			if err != nil {
				return wire.TreeAck{}, err
			}
			return wire.ParseTreeAck(resp)
		}
		st := n1.set.Shard(p).Status()
		clock := replica.ClockHash(p, st.Clock)
		ack, err := ask(wire.Tree{Partition: p, Clock: clock})
		require.NoError(t, err)
		require.Equal(t, wire.TreeOK, ack.Code)
		require.True(t, ack.Fit)
		require.Equal(t, st.Digest.Count, ack.Count)
		for name, q := range map[string]merkle.Question{
			"no such level": {Level: 40, Step: 4, Nodes: []uint32{0}},
			"no step":       {Nodes: []uint32{0}},
			"no such node":  {Level: 0, Step: 1, Nodes: []uint32{7}},
		} {
			_, err := ask(wire.Tree{Partition: p, Clock: clock, Ask: q})
			require.ErrorIs(t, err, merkle.ErrQuestion, name)
		}
		ack, err = ask(wire.Tree{Partition: p, Clock: clock + 1})
		require.NoError(t, err)
		require.Equal(t, wire.TreeMoved, ack.Code)
		ack, err = ask(wire.Tree{Partition: kv.Partition(4000), Clock: clock})
		require.NoError(t, err)
		require.Equal(t, wire.TreeNone, ack.Code)
	})
}
