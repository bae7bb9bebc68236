package partition_test

import (
	"strings"
	"testing"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition"
	"edged.dev/edged/partition/state"

	"github.com/stretchr/testify/require"
)

var _ partition.Tier = (*cache.Tier)(nil)

func TestSessionSendsExactlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	for _, k := range strings.Fields("p q r s") {
		b.get(a.put(k, "old-"+k))
	}
	a.put("q", "new-q")
	a.put("r", "")
	a.put("x", "new-x")
	s := catchUp(b, a)
	require.Equal(t, []string{"q", "r", "x"}, s.sent)
	require.Equal(t, []string{"new-q"}, b.values("q"))
	require.Equal(t, []string{"-"}, b.values("r"))
	require.Equal(t, []string{"old-s"}, b.values("s"))
	requireEqual(t, a, b)
	require.Empty(t, catchUp(b, a).sent, "nothing is missing any more")
	require.Empty(t, catchUp(a, b).sent)
}

func TestSessionKeepsWhatTheReceiverHasAboveItsBase(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.put("k1", "v")
	b.get(a.put("k2", "w"))
	s := catchUp(b, a)
	require.Equal(t, []string{"k1"}, s.sent)
	require.True(t, s.kept.Has(kv.Dot{Actor: a.Actor(), Seq: 2}))
	require.Equal(t, []string{"w"}, b.values("k2"))
	requireEqual(t, a, b)
}

func TestSessionDropsAtItsEndWhatTheDonorSawDie(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.put("hole", "keeps the base below")
	b.get(a.write("k", "first", state.Covers{}))
	second := a.write("k", "second", state.Covers{Ctx: a.context("k")})
	third := a.write("k", "third", state.Covers{Ctx: a.context("k")})
	_, _ = second, third
	s := begin(b, a)
	require.Equal(t, []string{"first"}, b.values("k"))
	s.finish()
	require.Equal(t, []string{"third"}, b.values("k"))
	requireEqual(t, a, b)
}

// A version that came to the receiver by another way while the session ran, and
// died at the donor before the session reached it, has no object that says so.
func TestSessionDropsWhatCameByAnotherWayMeanwhile(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	late := a.put("k", "dead")
	a.put("other", "live")
	c.get(late)
	del := c.put("k", "")
	a.get(del)
	a.plan("k", "blind", state.Covers{Held: true})
	a.commit()
	s := begin(b, a)
	b.get(late)
	require.Equal(t, []string{"dead"}, b.values("k"))
	s.finish()
	require.Equal(t, []string{"blind"}, b.values("k"))
	requireEqual(t, a, b)
}

func TestSessionCarriesWhatChangesWhileItRuns(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	for _, k := range strings.Fields("a b c d") {
		a.put(k, "1")
	}
	s := begin(b, a)
	require.True(t, s.scan(1))
	a.put("a", "2")
	a.put("e", "2")
	a.plan("d", "2", state.Covers{Held: true})
	for s.scan(1) {
	}
	require.True(t, s.tail())
	require.False(t, s.tail())
	a.put("b", "3")
	require.False(t, s.end(), "something changed")
	require.True(t, s.tail())
	require.True(t, s.end())
	requireEqual(t, a, b)
	require.Equal(t, []string{"2"}, b.values("a"))
	require.Equal(t, []string{"2"}, b.values("d"))
	require.Equal(t, []string{"3"}, b.values("b"))
}

func TestSessionEndsOnlyWhenItsSnapshotsArePublished(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.put("k", "v")
	s := begin(b, a)
	for s.scan(1) {
	}
	clock, _, mustSync, ended := s.out.End()
	require.True(t, ended)
	require.False(t, mustSync)
	require.True(t, clock.Equal(a.Clock()))
	s.in.Cancel()
	require.Equal(t, []string{"v"}, func() []string { b.commit(); return b.values("k") }(), "what was applied stays")
}

func TestConcurrentWriteAtTheReceiverSurvivesASession(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.put("k", "a")
	s := begin(b, a)
	b.plan("k", "b", state.Covers{Held: true})
	b.put("only", "here")
	s.finish()
	require.Equal(t, []string{"a", "b"}, b.values("k"))
	require.Equal(t, []string{"here"}, b.values("only"))
	catchUp(a, b)
	requireEqual(t, a, b)
}

func TestSessionsInBothDirectionsDoNotEcho(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	for _, k := range strings.Fields("a b c") {
		a.put(k, "a")
		b.put("b"+k, "b")
	}
	to, fro := begin(b, a), begin(a, b)
	more := true
	for range 20 {
		if !more {
			break
		}
		to.scan(1)
		b.commit()
		fro.scan(1)
		a.commit()
		more = to.tail()
		b.commit()
		more = fro.tail() || more
		a.commit()
	}
	require.False(t, more, "each sends back what the other sent")
	to.finish()
	fro.finish()
	requireEqual(t, a, b)
	require.Len(t, to.sent, 3)
	require.Len(t, fro.sent, 3)
}

// What the peer's earlier process sent and its present one has lost is news to it.
func TestNothingIsKeptForAPeerThatLostIt(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"replication", "a session that broke"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			a, b := newNode(t, 1), newNode(t, 2)
			a.relaxed = true
			a.open()
			late := a.put("k", "sent and lost")
			var broken *session
			if how != "replication" {
				broken = begin(b, a)
				broken.scan(1) // planned at b, not published yet
			}
			a.crash()
			require.Empty(t, a.values("k"))
			if broken != nil {
				broken.in.Cancel()
			}
			s := begin(a, b)
			if broken == nil {
				require.NoError(t, b.Apply(late, nil))
			}
			b.commit()
			s.finish()
			require.Equal(t, []string{"sent and lost"}, a.values("k"))
			require.NoError(t, a.set.Committer().SyncApplied())
			catchUp(b, a)
			requireEqual(t, a, b)
		})
	}
}

func TestInterruptedSessionLeansOnItsRecord(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, 1), newNode(t, 2)
	a.put("early", "hole")
	b.get(a.put("k", "old"))
	a.put("k", "new")
	a.put("z", "last")
	s := begin(b, a)
	for s.scan(1) && len(s.sent) < 2 {
	}
	b.commit()
	require.Equal(t, []string{"early", "k"}, s.sent)
	require.Equal(t, []string{"new"}, b.values("k"))
	st := b.Status()
	require.True(t, st.Leans, "k's context is in the record of a session that has not ended")
	require.False(t, st.Comparable())
	require.Empty(t, st.Beyond)

	b.crash()
	st = b.Status()
	require.True(t, st.Leans, "the record survives a reopen")
	require.Equal(t, []string{"new"}, b.values("k"))
	require.False(t, covers(b, a.Actor(), 4))

	c := newNode(t, 3)
	catchUp(c, b)
	require.Equal(t, []string{"new"}, c.values("k"))
	require.False(t, covers(c, a.Actor(), 4))

	s = catchUp(b, a)
	require.Equal(t, []string{"z"}, s.sent, "what was applied before the crash is kept, not sent again")
	requireEqual(t, a, b)
	require.False(t, b.Status().Leans)
	catchUp(c, b)
	requireEqual(t, b, c)
}

// An object may come to lean on a session's record while another session
// streams from the same copy; that one must send it with its whole context.
func TestObjectsThatComeToLeanAreStreamedWhole(t *testing.T) {
	t.Parallel()
	a, b, c, d := newNode(t, 1), newNode(t, 2), newNode(t, 3), newNode(t, 4)
	old := d.put("k", "old")
	c.get(old)
	a.get(old)
	a.put("k", "new")
	b.get(a.put("z", "above a hole"))

	out := begin(c, b) // nothing leans yet
	in := begin(b, a)
	require.True(t, in.scan(1))
	b.commit()
	require.Equal(t, []string{"k"}, in.sent)
	require.True(t, b.Status().Leans)

	out.use()
	for out.scan(1) {
	}
	out.in.Cancel() // it breaks before its tail
	c.commit()
	require.Contains(t, out.sent, "k")
	require.Equal(t, []string{"new"}, c.values("k"))
	in.finish()
	catchUp(c, b)
	requireEqual(t, b, c)
}

func TestSecondDonorGoesOnWhereTheFirstBroke(t *testing.T) {
	t.Parallel()
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	for _, k := range strings.Fields("a b c d e f") {
		b.get(a.put(k, "v"))
	}
	s := begin(c, a)
	for len(s.sent) < 3 && s.scan(1) {
	}
	s.in.Cancel()
	c.commit()
	s = catchUp(c, b)
	require.Len(t, s.sent, 3)
	requireEqual(t, b, c)
}
