package partition_test

import (
	"testing"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/sim"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

type mutation = partition.Mutation

const part = kv.Partition(0)

func digestKey() merkle.Key { return merkle.KeyOf([]byte("cluster")) }

// node is one data directory and the process that runs on it.
type node struct {
	t       *testing.T
	id      kv.NodeID
	boot    uint32
	relaxed bool
	full    bool // the disk is at its watermark
	tier    partition.Tier
	store   *sim.Store
	set     *partition.Set
	*partition.Shard
	sessions uint64
}

func newNode(t *testing.T, id kv.NodeID) *node {
	n := &node{t: t, id: id, store: sim.NewStore()}
	n.open()
	return n
}

func (n *node) open() {
	n.t.Helper()
	n.boot++
	draws := uint32(0)
	set, err := partition.Open(partition.Config{
		Store: n.store, Tier: n.tier, Partitions: 1, DigestKey: digestKey(), Sync: !n.relaxed, Boot: n.boot, Node: n.id,
		Rand: func() uint32 { draws++; return draws },
		Fail: func(err error) { n.t.Errorf("the store failed: %v", err) },
		Full: func() bool { return n.full },
	})
	require.NoError(n.t, err)
	n.set, n.Shard = set, set.Add(part)
}

// crash ends the process: what was planned and not committed is gone.
func (n *node) crash() {
	n.store.Crash(0)
	n.open()
}

// commit commits and publishes what is planned; unless durability is relaxed, all of it
// is on stable storage then, what sessions brought included.
func (n *node) commit() {
	n.t.Helper()
	n.commitAhead()
	if !n.relaxed {
		require.NoError(n.t, n.set.Committer().SyncApplied())
	}
}

// commitAhead is commit without the sync of what may be published ahead of it.
func (n *node) commitAhead() {
	n.t.Helper()
	for {
		done, err := n.set.Committer().CommitGroup()
		require.NoError(n.t, err)
		if done == 0 {
			return
		}
	}
}

// plan plans a write and returns its change, which is there before the commit.
func (n *node) plan(key, value string, covers state.Covers) **state.Change {
	change := new(*state.Change)
	v := kv.Version{HLC: kv.HLCAt(int64(n.boot)), Value: []byte(value)}
	if value == "" {
		v = kv.Version{Flags: kv.Tombstone}
	}
	n.Write([]byte(key), func(kv.Object) (*partition.Mutation, error) {
		return &partition.Mutation{Version: v, Covers: covers}, nil
	}, func(ch *state.Change, err error) {
		require.NoError(n.t, err)
		*change = ch
	})
	return change
}

// put writes and commits; it returns the object as it leaves the node.
func (n *node) put(key, value string) state.Received {
	n.t.Helper()
	return n.write(key, value, state.Covers{Held: true})
}

func (n *node) write(key, value string, covers state.Covers) state.Received {
	n.t.Helper()
	ch := n.plan(key, value, covers)
	n.commit()
	require.NotNil(n.t, *ch)
	return state.Received{Key: []byte(key), Object: (*ch).Filled(0), From: n.id}
}

// get applies what a peer replicates, and commits.
func (n *node) get(r state.Received) {
	n.t.Helper()
	done := false
	require.NoError(n.t, n.Apply(r, func() { done = true }))
	n.commit()
	require.True(n.t, done)
}

// values returns the values of a key, in dot order; a tombstone is "-".
func (n *node) values(key string) (out []string) {
	n.t.Helper()
	o, _, err := n.Read([]byte(key))
	require.NoError(n.t, err)
	for _, v := range o.Versions {
		if v.Tombstone() {
			out = append(out, "-")
			continue
		}
		out = append(out, string(v.Value))
	}
	return out
}

// context returns what a reader of a key has seen: a token's content.
func (n *node) context(key string) kv.VV {
	n.t.Helper()
	o, base, err := n.Read([]byte(key))
	require.NoError(n.t, err)
	return kv.Context(o.Filled(base))
}

func covers(n *node, a kv.Actor, seq uint64) bool {
	c := n.Clock()
	return c.Has(kv.Dot{Actor: a, Seq: seq})
}

// digest recomputes the digest from the dump and holds it against the stored one.
func (n *node) digest() merkle.Digest {
	n.t.Helper()
	var d merkle.Digest
	c, err := n.Dump(func(v partition.DumpedVersion) error {
		if !v.Tombstone() {
			d = d.Add(state.Item(digestKey(), v.Key, v.Version))
		}
		return nil
	})
	require.NoError(n.t, err)
	require.Equal(n.t, merkle.DigestOf(c.Count, c.Sum), d, "the stored digest is that of the content")
	st := n.Status()
	require.Equal(n.t, st.Digest, d)
	require.True(n.t, st.Clock.Equal(c.Clock))
	return d
}

func requireEqual(t *testing.T, a, b *node) {
	t.Helper()
	as, bs := a.Status(), b.Status()
	require.Equal(t, as.Clock.String(), bs.Clock.String())
	require.True(t, as.Comparable())
	require.True(t, bs.Comparable())
	require.Equal(t, a.digest(), b.digest())
}

// session is one sync of to from from, to be stepped by hand.
type session struct {
	t        *testing.T
	from, to *node
	out      *partition.Outgoing
	in       *partition.Incoming
	sent     []string // keys, in order
	kept     kv.Clock
}

func begin(to, from *node) *session {
	to.t.Helper()
	to.sessions++
	in, clock := to.Begin(to.sessions, from.id)
	out, err := from.Open(to.id, clock)
	require.NoError(to.t, err)
	s := &session{t: to.t, from: from, to: to, out: out, in: in}
	s.use()
	return s
}

func (s *session) use() {
	s.t.Helper()
	snap, err := s.from.store.Snapshot()
	require.NoError(s.t, err)
	require.NoError(s.t, s.out.Use(snap))
}

func (s *session) apply(c partition.Chunk) {
	s.t.Helper()
	for _, o := range c.Objects {
		s.sent = append(s.sent, string(o.Key))
		require.NoError(s.t, s.in.Apply(o.Key, o.Object.Filled(c.Base), partition.Batch{Base: c.Base, Floor: c.Floor}, nil))
	}
	keep := s.out.TakeKeep()
	s.kept.Join(keep)
	s.in.Keep(keep)
}

// scan sends one chunk and reports whether there is more.
func (s *session) scan(maxBytes int) bool {
	s.t.Helper()
	c, more, err := s.out.Next(maxBytes)
	require.NoError(s.t, err)
	s.apply(c)
	return more
}

// tail sends what changed and reports whether anything had.
func (s *session) tail() bool {
	s.t.Helper()
	keys, err := s.out.Dirty(100)
	require.NoError(s.t, err)
	if len(keys) == 0 {
		s.apply(partition.Chunk{})
		return false
	}
	s.use()
	c, err := s.out.Tail(keys)
	require.NoError(s.t, err)
	s.apply(c)
	return true
}

// end ends the session if nothing is left.
func (s *session) end() bool {
	s.t.Helper()
	clock, floor, _, ended := s.out.End()
	if !ended {
		return false
	}
	done := false
	require.NoError(s.t, s.in.End(clock, floor, func() { done = true }))
	s.to.commit()
	require.True(s.t, done)
	return true
}

// finish runs the session to its end.
func (s *session) finish() *session {
	s.t.Helper()
	for range 1000 {
		for s.scan(1) {
		}
		for s.tail() {
		}
		if s.end() {
			return s
		}
	}
	s.t.Fatal("the session does not end")
	return nil
}

func catchUp(to, from *node) *session {
	to.t.Helper()
	return begin(to, from).finish()
}
