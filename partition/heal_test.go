package partition_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

// rot deletes or changes the records of one kind that are about a key, behind the
// copy's back.
func (n *node) rot(kind byte, key string, fn func(value []byte) []byte) {
	n.t.Helper()
	lower, upper := cache.Range(kind, part, 0)
	var b cache.Batch
	require.NoError(n.t, n.store.Scan(lower, upper, func(rec, value []byte) (bool, error) {
		about, _, _ := cache.KeyOf(rec)
		if kind == 'd' {
			about, _, _ = cache.ParseVersion(value)
		}
		if string(about) == key {
			if out := fn(append([]byte(nil), value...)); out != nil {
				b.Set(rec, out)
			} else {
				b.Delete(rec)
			}
		}
		return true, nil
	}))
	require.Positive(n.t, b.Len())
	require.NoError(n.t, n.store.Commit(&b, true))
}

func gone([]byte) []byte { return nil }

func (n *node) look() *partition.Look {
	n.t.Helper()
	l, err := n.Look(nil)
	require.NoError(n.t, err)
	return l
}

func (n *node) version(key string) kv.Version {
	n.t.Helper()
	o, _, err := n.Read([]byte(key))
	require.NoError(n.t, err)
	require.Len(n.t, o.Versions, 1)
	return o.Versions[0]
}

func flipLast(v []byte) []byte { v[len(v)-1] ^= 1; return v }

func TestALookFindsWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		kind    byte
		key     string
		fn      func([]byte) []byte
		suspect bool
	}{
		"a value is gone":            {'d', "b", gone, true},
		"a byte of a value":          {'d', "b", flipLast, true},
		"a directory is gone":        {'e', "b", gone, true},
		"a directory does not parse": {'e', "b", func(v []byte) []byte { return v[:3] }, true},
		"an expiry":                  {'d', "b", func(v []byte) []byte { v[1] ^= 1; return v }, true},
		"a tombstone is gone":        {'d', "dead", gone, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, 1)
			for _, k := range strings.Fields("a b c dead") {
				n.put(k, "value of "+k)
			}
			n.put("dead", "")
			l := n.look()
			require.True(t, l.Fit())
			require.Equal(t, n.digest(), l.Tree.Root())
			require.Equal(t, 4, l.Objects)
			n.rot(x.kind, x.key, x.fn)
			l = n.look()
			require.False(t, l.Fit())
			require.Equal(t, []string{x.key}, l.Suspects)
		})
	}
	t.Run("a whole object is gone", func(t *testing.T) {
		t.Parallel()
		n := newNode(t, 1)
		n.put("a", "1")
		n.put("b", "2")
		n.rot('e', "b", gone)
		n.rot('d', "b", gone)
		l := n.look()
		require.False(t, l.Fit(), "the sum tells")
		require.Empty(t, l.Suspects)
	})
}

func TestALookRemembersOnlySoManyKeys(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	for i := range partition.MaxSuspects + 1 {
		n.plan(fmt.Sprintf("k%d", i), "v", state.Covers{})
	}
	n.commit()
	lose := func(keys int) int {
		lower, upper := cache.Range('d', part, 0)
		var b cache.Batch
		require.NoError(t, n.store.Scan(lower, upper, func(rec, _ []byte) (bool, error) {
			b.Delete(rec)
			return b.Len() < keys, nil
		}))
		require.NoError(t, n.store.Commit(&b, true))
		return len(n.look().Suspects)
	}
	require.Equal(t, partition.MaxSuspects, lose(partition.MaxSuspects))
	require.Equal(t, partition.MaxSuspects, lose(1), "one over")
}

// TestHealPutsExactVersionsBack heals a copy by what another has, and finds it as it
// was: values, digest, marks, and a clock that did not move.
func TestHealPutsExactVersionsBack(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.put("k", "v"))
	b.get(a.put("other", "w"))
	b.rot('e', "k", gone)
	b.rot('d', "k", gone)
	before := b.Clock()
	look := b.look()
	fix := partition.Fix{Key: []byte("k"), Put: []kv.Version{a.version("k")}}
	left, err := b.Heal(look, []partition.Fix{fix}, true, nil)
	require.NoError(t, err)
	require.Empty(t, left)
	b.commit()
	require.Equal(t, []string{"v"}, b.values("k"))
	require.True(t, before.Equal(b.Clock()))
	require.True(t, b.look().Fit())
	requireEqual(t, a, b)
	b.open()
	require.Equal(t, []string{"v"}, b.values("k"))
	requireEqual(t, a, b)
}

func TestHealTakesExactVersionsOut(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	first := a.write("k", "one", state.Covers{})
	second := a.write("k", "two", state.Covers{})
	b.get(first)
	b.get(second)
	look := b.look()
	one := first.Object.Versions[0].Dot
	_, err := b.Heal(look, []partition.Fix{{Key: []byte("k"), Drop: []kv.Dot{one}}}, true, nil)
	require.NoError(t, err)
	b.commit()
	require.Equal(t, []string{"two"}, b.values("k"))
	require.True(t, b.look().Fit())
	require.Equal(t, b.look().Tree.Root(), b.digest())
	lower, upper := cache.Range('c', part, 0)
	require.NoError(t, b.store.Scan(lower, upper, func(_, _ []byte) (bool, error) {
		require.Fail(t, "a plain object is marked complex")
		return true, nil
	}))
}

// A record that follows half of what is decided would make the loss of the other
// half official.
func TestTheRecordStaysWhileNotAllIsDecided(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	for _, k := range []string{"k", "l"} {
		b.get(a.put(k, "v"))
		b.rot('e', k, gone)
		b.rot('d', k, gone)
	}
	fix := func(key string) []partition.Fix {
		return []partition.Fix{{Key: []byte(key), Put: []kv.Version{a.version(key)}}}
	}
	_, err := b.Heal(b.look(), fix("k"), false, nil)
	require.NoError(t, err)
	b.commit()
	require.False(t, b.look().Fit())
	require.Equal(t, a.Status().Digest, b.Status().Digest)
	_, err = b.Heal(b.look(), fix("l"), false, nil)
	require.NoError(t, err)
	b.commit()
	require.True(t, b.look().Fit(), "all is back, without a change of the record")
	requireEqual(t, a, b)
}

func TestHealLeavesAloneWhatWouldStayDamaged(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	b.get(a.write("k", "one", state.Covers{}))
	b.get(a.write("k", "two", state.Covers{}))
	b.rot('d', "k", flipLast)
	o, _, err := a.Read([]byte("k"))
	require.NoError(t, err)
	left, err := b.Heal(b.look(), []partition.Fix{{Key: []byte("k"), Put: o.Versions[:1]}}, false, nil)
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("k")}, left, "the other one was given by nobody")
	left, err = b.Heal(b.look(), []partition.Fix{{Key: []byte("k"), Put: o.Versions}}, true, nil)
	require.NoError(t, err)
	require.Empty(t, left)
	b.commit()
	requireEqual(t, a, b)
}

// What is lost for good the memory does not show either, and nothing is counted by it.
func TestWhatIsLostOnRecordLeavesTheMemory(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	tier, err := cache.NewTier(1 << 20)
	require.NoError(t, err)
	n.tier = tier
	n.crash()
	n.put("k", "v")
	n.put("l", "w")
	n.rot('e', "k", gone)
	n.rot('d', "k", gone)
	_, err = n.Heal(n.look(), nil, false, nil)
	require.NoError(t, err)
	n.commit()
	require.Equal(t, []string{"v"}, n.values("k"), "it may come back")
	_, err = n.Heal(n.look(), nil, true, nil)
	require.NoError(t, err)
	n.commit()
	require.Empty(t, n.values("k"))
	n.put("k", "new")
	require.Equal(t, []string{"new"}, n.values("k"))
	require.True(t, n.look().Fit())
}

func TestHealOfACopyThatChangedDoesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.put("k", "v")
	look := n.look()
	n.plan("l", "w", state.Covers{})
	_, err := n.Heal(look, nil, true, nil)
	require.ErrorIs(t, err, partition.ErrMoved, "something is planned")
	n.commit()
	_, err = n.Heal(look, nil, true, nil)
	require.ErrorIs(t, err, partition.ErrMoved, "the clock has moved")
	_, err = n.Heal(n.look(), nil, true, nil)
	require.NoError(t, err)
}

func TestMendTakesOnlyWhatHasTheRightChecksum(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.put("k", "v")
	v := n.version("k")
	ok, err := n.Mend([]byte("k"), v, nil)
	require.NoError(t, err)
	require.False(t, ok, "it is whole")
	n.rot('d', "k", gone)
	_, _, err = n.Read([]byte("k"))
	require.ErrorIs(t, err, partition.ErrDamaged, "it is not shown as deleted")
	wrong := v
	wrong.Value, wrong.Sum = []byte("x"), 0
	_, err = n.Mend([]byte("k"), wrong, nil)
	require.Error(t, err)
	ok, err = n.Mend([]byte("k"), v, nil)
	require.NoError(t, err)
	require.True(t, ok)
	n.commit()
	require.Equal(t, []string{"v"}, n.values("k"))
	require.True(t, n.look().Fit())
}

func (n *node) ask(q merkle.Question) (partition.TreeAnswer, error) {
	return n.Answer(context.Background(), n.Clock(), q)
}

// TestATreeIsKeptInStep changes a copy under its warm tree in every way, and holds
// the tree against one that is built anew.
func TestATreeIsKeptInStep(t *testing.T) {
	t.Parallel()
	a, n := newNode(t, 2), newNode(t, 1)
	n.put("k0", "v")
	_, err := n.ask(merkle.Question{})
	require.NoError(t, err)
	for i := range 50 {
		switch i % 5 {
		case 0, 1:
			n.put(fmt.Sprintf("k%d", i%7), fmt.Sprint(i))
		case 2:
			n.put(fmt.Sprintf("k%d", i%3), "")
		case 3:
			n.get(a.write(fmt.Sprintf("k%d", i%7), fmt.Sprint(i), state.Covers{}))
		case 4:
			catchUp(n, a)
		}
		got, err := n.ask(merkle.Question{})
		require.NoError(t, err)
		require.Equal(t, n.digest(), got.Root, "after %d changes", i+1)
		require.True(t, got.Fit)
	}
}

func TestATreeAnswersOnlyAtItsClock(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.put("k", "v")
	old := n.Clock()
	n.put("k", "w")
	_, err := n.Answer(context.Background(), old, merkle.Question{})
	require.ErrorIs(t, err, partition.ErrMoved)
	_, _, err = n.Items(old, []merkle.Range{{To: ^uint64(0)}}, 1, 10)
	require.ErrorIs(t, err, partition.ErrMoved)
	_, err = n.Held(old, nil)
	require.ErrorIs(t, err, partition.ErrMoved)
}

// A group that is in the store and not published yet is in a look, and not in the
// copy: the tree waits for it.
func TestATreeIsBuiltBesideACommit(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.put("k", "v")
	built := make(chan error, 1)
	n.store.Between(func() {
		n.store.Between(nil)
		looked := make(chan struct{})
		go func() {
			close(looked)
			built <- func() error { _, err := n.Answer(context.Background(), n.Clock(), merkle.Question{}); return err }()
		}()
		<-looked
	})
	n.put("l", "w")
	if err := <-built; err != nil {
		require.ErrorIs(t, err, partition.ErrMoved, "the clock it was asked at has gone by")
	}
	got, err := n.ask(merkle.Question{})
	require.NoError(t, err)
	require.Equal(t, n.digest(), got.Root)
}

func TestTreesGoWhenTheyAreCold(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	n.put("k", "v")
	require.Zero(t, n.set.WarmBytes())
	_, err := n.ask(merkle.Question{})
	require.NoError(t, err)
	require.Positive(t, n.set.WarmBytes())
	n.set.Cool()
	require.Positive(t, n.set.WarmBytes(), "it was used since")
	n.set.Cool()
	require.Zero(t, n.set.WarmBytes())
	_, err = n.ask(merkle.Question{})
	require.NoError(t, err, "and is built again")
}

func TestALookEndsWithItsPace(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	for i := range 200 {
		n.plan(fmt.Sprintf("k%d", i), "v", state.Covers{})
	}
	n.commit()
	calls, stop := 0, errors.New("stop")
	_, err := n.Look(func(bytes int) error {
		require.Positive(t, bytes)
		if calls++; calls == 2 {
			return stop
		}
		return nil
	})
	require.ErrorIs(t, err, stop)
	require.Equal(t, 2, calls)
}

func TestItemsComeInPagesThatMissNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t, 1)
	for i := range 100 {
		n.plan(fmt.Sprintf("k%d", i), "v", state.Covers{})
	}
	n.commit()
	seen := map[string]bool{}
	from := uint64(0)
	for range 100 {
		items, upto, err := n.Items(n.Clock(), []merkle.Range{{From: from, To: ^uint64(0)}}, 7, 9)
		require.NoError(t, err)
		require.LessOrEqual(t, len(items), 9)
		for _, it := range items {
			require.False(t, seen[string(it.Key)])
			seen[string(it.Key)] = true
		}
		if upto == ^uint64(0) {
			break
		}
		from = upto + 1
	}
	require.Len(t, seen, 100)
}
