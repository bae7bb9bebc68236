package cache

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// tickEvery is how often Run looks at the clock, the disk and the commits: fine
// enough for times of seconds, and some microseconds of work each.
const tickEvery = 250 * time.Millisecond

// Run flushes the log in time, watches the free space and the commits, and
// returns when ctx ends or the store fails. Without it the store is correct but
// reopens slowly. It must return before Close. A flush that the disk does not
// let end holds Run back, for its caller to give up on.
func (s *Store) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.flushLoop(ctx) })
	group.Go(func() error { return s.watchLoop(ctx) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("run store: %w", err)
	}
	return nil
}

// flushLoop is apart from watchLoop, since a flush may wait for the disk.
func (s *Store) flushLoop(ctx context.Context) error {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-s.watch.flush:
			err = s.flushIfDue(s.cfg.Now())
		case <-ticker.C:
			err = s.flushIfDue(s.cfg.Now())
		}
		if err != nil {
			return err
		}
	}
}

// watchLoop looks at the disk and the commits.
func (s *Store) watchLoop(ctx context.Context) error {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	stalled := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		stalled = s.checkCommits(s.cfg.Now(), stalled)
		s.checkSpace()
		if err := s.failed(); err != nil {
			return err
		}
	}
}

// flushIfDue starts a flush when the unflushed log is long, or there is one and
// nothing was committed for a while.
func (s *Store) flushIfDue(now time.Time) error {
	unflushed := s.watch.unflushed.Load()
	idle := now.Sub(time.Unix(0, s.watch.progress.Load()))
	if unflushed == 0 || unflushed < s.cfg.FlushAfterBytes && idle < s.cfg.FlushIdle {
		return nil
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	// What is committed after this line may be counted though it is flushed:
	// one flush too many, never one too few.
	s.watch.unflushed.Add(-unflushed)
	if _, err := s.db.AsyncFlush(); err != nil {
		return s.fail(fmt.Errorf("start flush: %w", err))
	}
	return nil
}

// checkCommits reports a stall once, and tells whether there is one.
func (s *Store) checkCommits(now time.Time, stalled bool) bool {
	elapsed := now.Sub(time.Unix(0, s.watch.progress.Load()))
	if s.watch.inFlight.Load() == 0 || elapsed < s.cfg.CommitTimeout {
		return false
	}
	if !stalled && s.cfg.Events.CommitStalled != nil {
		s.cfg.Events.CommitStalled(elapsed)
	}
	return true
}
