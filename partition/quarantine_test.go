package partition_test

import (
	"bytes"
	"math"
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

// spoilRecord damages the record of the node's copy.
func (n *node) spoilRecord() {
	n.t.Helper()
	rec, found, err := n.store.Get(nil, cache.AppendCopyKey(nil, part))
	require.NoError(n.t, err)
	require.True(n.t, found)
	rec[len(rec)/2] ^= 1
	var damage cache.Batch
	damage.Set(cache.AppendCopyKey(nil, part), rec)
	require.NoError(n.t, n.store.Commit(&damage, true))
}

// loseRecord removes it.
func (n *node) loseRecord() {
	n.t.Helper()
	var damage cache.Batch
	damage.Delete(cache.AppendCopyKey(nil, part))
	require.NoError(n.t, n.store.Commit(&damage, true))
}

// eachVersion calls fn with the records of a key's versions.
func (n *node) eachVersion(key string, fn func(b *cache.Batch, rec, value []byte)) {
	n.t.Helper()
	var b cache.Batch
	lower, upper := cache.Range('d', part, 0)
	require.NoError(n.t, n.store.Scan(lower, upper, func(rec, value []byte) (bool, error) {
		if at, _, err := cache.ParseVersion(value); err == nil && string(at) == key {
			fn(&b, rec, bytes.Clone(value))
		}
		return true, nil
	}))
	require.Positive(n.t, b.Len())
	require.NoError(n.t, n.store.Commit(&b, true))
}

// spoilValue flips a bit of a key's values.
func (n *node) spoilValue(key string) {
	n.eachVersion(key, func(b *cache.Batch, rec, value []byte) {
		value[len(value)-1] ^= 1
		b.Set(rec, value)
	})
}

// beginHolding is begin for a copy that has lost its clock.
func beginHolding(to, from *node) *session {
	to.t.Helper()
	to.sessions++
	in, clock, held, err := to.BeginHolding(to.sessions, from.id)
	require.NoError(to.t, err)
	out, err := from.OpenTo(to.id, clock, held)
	require.NoError(to.t, err)
	s := &session{t: to.t, from: from, to: to, out: out, in: in}
	s.use()
	return s
}

func (n *node) adopt() (versions uint64) {
	n.t.Helper()
	done := false
	require.NoError(n.t, n.Adopt(func(v uint64) { versions, done = v, true }))
	n.commit()
	require.True(n.t, done)
	return versions
}

// A copy that has lost its clock is told what of its content lives, gets what it
// lacks, drops what died, and gives the others what was its alone.
func TestCopyWithoutItsClockRejoinsByWhatItHolds(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(n *node){"damaged": (*node).spoilRecord, "lost": (*node).loseRecord} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newNode(t, 1), newNode(t, 2)
			for _, k := range []string{"shared", "deleted", "overwritten"} {
				b.get(a.put(k, "old"))
			}
			b.SetTrust(kv.Whole, nil)
			b.put("alone", "b's")
			other := b.set.Add(kv.System)
			other.Write([]byte("s"), func(kv.Object) (*mutation, error) {
				return &mutation{Version: kv.Version{Value: []byte("kept")}}, nil
			}, func(*state.Change, error) {})
			b.commit()
			a.put("deleted", "")
			a.put("overwritten", "new")
			a.put("missed", "new")
			spoil(b)

			b.open()
			require.Equal(t, []kv.Partition{part}, b.set.Quarantined())
			require.True(t, b.Quarantined())
			require.Equal(t, kv.New, b.Trust())
			clock := b.Clock()
			require.Zero(t, clock.Len(), "it has seen nothing that it could swear to")
			st := b.Status()
			require.False(t, st.Comparable(), "and does not vote")
			require.Equal(t, []string{"old"}, b.values("deleted"))
			o, _, err := b.set.Shard(kv.System).Read([]byte("s"))
			require.NoError(t, err)
			require.Len(t, o.Versions, 1, "other copies stay")
			require.False(t, b.set.Shard(kv.System).Quarantined())

			b.open() // the quarantine outlasts a restart
			require.Empty(t, b.set.Quarantined())
			require.Equal(t, []kv.Partition{part}, b.set.InQuarantine())
			s := beginHolding(b, a).finish()
			require.ElementsMatch(t, []string{"deleted", "overwritten", "missed"}, s.sent, "what is shared is not sent")
			require.True(t, s.in.WentBoth())
			require.Equal(t, []string{"-"}, b.values("deleted"))
			require.Equal(t, []string{"new"}, b.values("overwritten"))
			require.Equal(t, []string{"b's"}, b.values("alone"))

			b.open() // so does how far it has come
			require.True(t, b.Quarantined())
			again := beginHolding(b, a).finish()
			require.False(t, again.in.WentBoth(), "its clock is a donor's already")
			require.Empty(t, again.sent)
			require.EqualValues(t, 1, b.adopt())
			require.False(t, b.Quarantined())
			require.Equal(t, []string{"alone"}, catchUp(a, b).sent)
			requireEqual(t, a, b)
			b.open()
			require.False(t, b.Quarantined())
			requireEqual(t, a, b)
		})
	}
}

// What was deleted, and whose delete was collected, comes back by no copy.
func TestCopyWithoutItsClockResurrectsNothing(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.put("k", "v"))
	a.put("k", "")
	collected, err := a.Collect(partition.Collection{Horizon: math.MaxUint64, Limit: 9})
	require.NoError(t, err)
	require.Equal(t, 1, collected.Forced)
	a.commit()
	b.loseRecord()
	b.open()
	s := beginHolding(b, a)
	for s.scan(1) {
	}
	require.True(t, s.out.NeedsLive(), "it is below the floor, too, with nothing below its base")
	clock, dots, err := s.out.LiveDots()
	require.NoError(t, err)
	require.Zero(t, dots.Len())
	require.NoError(t, s.in.Live(clock, dots, false))
	s.finish()
	require.Equal(t, 1, s.in.Dropped())
	require.Empty(t, b.values("k"))
	require.Zero(t, b.adopt())
	require.Empty(t, catchUp(a, b).sent)
	requireEqual(t, a, b)
}

// A version that the second donor knows has superseded there what the first one sent.
// It is not said to be there already, for then nobody would tell what it superseded.
func TestUnclaimedVersionIsSentWithWhatItSuperseded(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	first := a.put("k", "first")
	b.get(first)
	c.get(first)
	second := c.put("k", "second") // which a never hears of
	b.get(second)
	b.loseRecord()
	b.open()
	beginHolding(b, a).finish()
	require.Len(t, b.values("k"), 2, "what was superseded is not known any more")
	s := beginHolding(b, c).finish()
	require.Equal(t, []string{"k"}, s.sent)
	require.Equal(t, []string{"second"}, b.values("k"))
	require.Zero(t, b.adopt())
	catchUp(a, b)
	requireEqual(t, a, b)
	requireEqual(t, b, c)
}

// An object of which a version is damaged goes whole and is fetched, and so does a
// version that no object leads to.
func TestQuarantineDropsWhatDoesNotVerify(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.put("good", "v"))
	b.get(a.put("flipped", "v"))
	b.get(a.put("stray", "v"))
	b.get(a.put("lost", "v"))
	b.get(a.put("k", "1"))
	b.get(a.write("k", "2", state.Covers{})) // beside it
	b.get(a.put("gone", ""))
	b.spoilValue("flipped")
	spoilt := false
	b.eachVersion("k", func(batch *cache.Batch, rec, value []byte) { // one of two
		if value[len(value)-1] ^= 1; !spoilt {
			batch.Set(rec, value)
		}
		spoilt = true
	})
	b.eachVersion("lost", func(batch *cache.Batch, rec, _ []byte) { batch.Delete(rec) })
	var damage cache.Batch
	key := []byte("stray")
	damage.Delete(cache.AppendEntryKey(nil, part, kv.OrderOf(kv.Hash(key), 1), key))
	require.NoError(t, b.store.Commit(&damage, true))
	b.spoilRecord()
	b.open()
	require.Equal(t, []string{"v"}, b.values("good"))
	require.Equal(t, []string{"-"}, b.values("gone"))
	for _, k := range []string{"flipped", "stray", "lost", "k"} {
		require.Empty(t, b.values(k), k)
	}
	b.digest()
	s := beginHolding(b, a).finish()
	require.ElementsMatch(t, []string{"flipped", "stray", "lost", "k"}, s.sent)
	require.Zero(t, b.adopt())
	requireEqual(t, a, b)
	look, err := b.Look(nil)
	require.NoError(t, err)
	require.True(t, look.Fit())
}

// A session that breaks off leaves what came, and the next one begins with all that
// is held.
func TestQuarantineOutlastsASessionThatBreaks(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	for _, k := range []string{"p", "q", "r"} {
		b.get(a.put(k, "1"))
		a.put(k, "2")
	}
	catchUp(c, a)
	c.put("p", "3")
	b.loseRecord()
	b.open()
	s := beginHolding(b, a)
	require.True(t, s.scan(1))
	b.commit()
	s.in.Cancel()
	s.out.Close()
	require.NotEmpty(t, s.sent)
	b.open()
	require.True(t, beginHolding(b, c).finish().in.WentBoth())
	require.Zero(t, b.adopt())
	requireEqual(t, b, c)
}

// Two sessions were begun when nothing was known; the second one ends when what the copy
// holds was claimed already, and begins no quarantine anew.
func TestASessionThatEndsBehindTheQuarantineLeavesItOver(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	a.put("a", "v")
	b.put("b", "alone")
	b.loseRecord()
	b.crash()
	first, second := beginHolding(b, a), beginHolding(b, c)
	first.finish()
	require.EqualValues(t, 1, b.adopt())
	require.False(t, b.Quarantined())
	second.finish()
	require.False(t, b.Quarantined())
	b.open()
	require.False(t, b.Quarantined())
	require.Equal(t, []string{"alone"}, b.values("b"))
}
