package fault_test

import (
	"context"
	"errors"
	"testing"

	"edged.dev/edged/internal/fault"

	"github.com/stretchr/testify/require"
)

func TestNilSetHasNoFaults(t *testing.T) {
	var s *fault.Set
	require.NoError(t, s.Point(t.Context(), "a.b"))
	require.Zero(t, s.Hits("a.b"))
	require.Empty(t, s.Unfired())
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = s.Point(t.Context(), "a.b") }))
}

func TestFailFailsEveryHitUntilCleared(t *testing.T) {
	t.Parallel()
	var s fault.Set
	require.NoError(t, s.Point(t.Context(), "a.b"))
	broken := errors.New("broken")
	s.Fail("a.b", broken)
	require.ErrorIs(t, s.Point(t.Context(), "a.b"), broken)
	require.ErrorIs(t, s.Point(t.Context(), "a.b"), broken)
	require.NoError(t, s.Point(t.Context(), "a.c"))
	s.Fail("a.b", nil)
	require.ErrorIs(t, s.Point(t.Context(), "a.b"), fault.ErrInjected)
	s.Clear("a.b")
	require.NoError(t, s.Point(t.Context(), "a.b"))
	require.Equal(t, 5, s.Hits("a.b"))
}

func TestFailNthFailsOneHit(t *testing.T) {
	t.Parallel()
	var s fault.Set
	require.NoError(t, s.Point(t.Context(), "a.b"))
	s.FailNth("a.b", 2, nil)
	require.NoError(t, s.Point(t.Context(), "a.b"))
	require.ErrorIs(t, s.Point(t.Context(), "a.b"), fault.ErrInjected)
	require.NoError(t, s.Point(t.Context(), "a.b"))
}

func TestHoldHoldsOneStep(t *testing.T) {
	t.Parallel()
	var s fault.Set
	reached, release := s.Hold("a.b")
	done := make(chan error, 1)
	go func() { done <- s.Point(context.Background(), "a.b") }()
	<-reached
	require.NoError(t, s.Point(t.Context(), "a.b"), "a second step passes")
	select {
	case <-done:
		t.Fatal("the held step went on")
	default:
	}
	release()
	release()
	require.NoError(t, <-done)
}

func TestHoldEndsWithItsContext(t *testing.T) {
	t.Parallel()
	var s fault.Set
	_, release := s.Hold("a.b")
	defer release()
	cause := errors.New("cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	require.ErrorIs(t, s.Point(ctx, "a.b"), cause)
}

func TestUnfiredNamesWhatWasNotReached(t *testing.T) {
	t.Parallel()
	var s fault.Set
	s.Fail("b", nil)
	s.Fail("a", nil)
	s.Fail("c", nil)
	require.Error(t, s.Point(t.Context(), "b"))
	require.Equal(t, []string{"a", "c"}, s.Unfired())
	s.Clear("c")
	require.Equal(t, []string{"a"}, s.Unfired())
}

func BenchmarkPointOff(b *testing.B) {
	var s *fault.Set
	ctx := b.Context()
	for b.Loop() {
		if err := s.Point(ctx, "a.b"); err != nil {
			b.Fatal(err)
		}
	}
}
