package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

var (
	// ErrLocked reports that another process or Store holds the directory.
	ErrLocked = errors.New("another edged uses this data directory")
	// ErrClosed reports a call after Close.
	ErrClosed = errors.New("store is closed")
	// ErrFailed reports a call after the log could not be written. The process
	// is about to end; nothing the call asked for was done.
	ErrFailed = errors.New("store has failed")
	// ErrCorrupt reports bytes on disk that fail their checksum or structure.
	ErrCorrupt = errors.New("store is corrupt")
	// ErrDiskFull reports a client's write refused because the disk is nearly full
	// (Full). Reads go on, and writes do again once there is space.
	ErrDiskFull = errors.New("disk is nearly full")
)

// Store is a durable ordered map of bytes to bytes, written by atomic batches.
// All methods are safe for concurrent use. Keys order as bytes.Compare does.
type Store struct {
	cfg    Config
	db     *pebble.DB
	lock   *pebble.Lock
	closer io.Closer // of the file system's disk health checks
	gate   gate
	space  space
	watch  watch
	opened time.Time
	slots  sync.Pool // of *commitSlot
	// getOpts are those of every Get; here, so that none allocates them.
	getOpts pebble.IterOptions

	failure   atomic.Pointer[error]
	armed     atomic.Bool // log errors are fatal: Open has returned
	closeOnce sync.Once
	closeErr  error
}

// commitSlot is what a commit needs of the engine; reused, since a batch of the
// engine is some hundred bytes.
type commitSlot struct {
	batch  *pebble.Batch
	header [batchHeaderBytes]byte
}

// Get appends the value of key to dst and returns the longer slice, and whether
// key was found. It does not allocate for the value when dst has room.
func (s *Store) Get(dst, key []byte) (value []byte, found bool, err error) {
	if err := s.enter(); err != nil {
		return dst, false, fmt.Errorf("get: %w", err)
	}
	defer s.gate.leave()
	return getFrom(s.db, dst, key, &s.getOpts)
}

// GetMany looks up keys, which ascend, as they were at one moment, and calls fn for
// each that is there, until fn fails; it returns that error. One iterator goes from key
// to key, so that many of one partition cost half of as many Gets. value is valid until
// fn returns.
func (s *Store) GetMany(keys [][]byte, fn func(i int, value []byte) error) error {
	if err := s.enter(); err != nil {
		return fmt.Errorf("get many: %w", err)
	}
	defer s.gate.leave()
	return seekMany(s.db, keys, &s.getOpts, fn)
}

// Scan calls fn for every pair with lower <= key < upper in the order of the
// keys, as they were when Scan began, until fn says there is no more to do or
// fails; it returns that error. An empty upper has no end. The slices are valid
// until fn returns; fn must not change them, and may call the Store.
func (s *Store) Scan(lower, upper []byte, fn func(key, value []byte) (more bool, err error)) error {
	if err := s.enter(); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	defer s.gate.leave()
	it, err := newIter(s.db, lower, upper)
	if err != nil {
		return err
	}
	return errors.Join(scanIter(it, fn), closeIter(it))
}

// Snapshot returns a view of the store as it is now. It holds back the removal
// of superseded data until it is closed, and must be closed before the Store.
func (s *Store) Snapshot() (Snapshot, error) {
	if err := s.enter(); err != nil {
		return nil, fmt.Errorf("take snapshot: %w", err)
	}
	return &snapshot{store: s, snap: s.db.NewSnapshot()}, nil
}

// Commit makes all operations of b visible at once, and after a crash there are
// all of them or none. With sync it returns when they are on stable storage;
// without, a crash may lose the newest commits, always a whole tail of them.
// An empty batch with sync is a Sync. The batch is not changed and is the
// caller's again when Commit returns. The fault point refuses before anything was
// done; any other error means the store has failed.
func (s *Store) Commit(b *Batch, sync bool) error {
	if b.Len() == 0 && sync {
		return s.Sync()
	}
	if err := s.enter(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	defer s.gate.leave()
	if err := s.cfg.Fault.Point(context.Background(), "cache.commit"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if b.Len() == 0 {
		return nil
	}
	s.grown(b.Bytes())
	slot := s.slot()
	repr := b.repr()
	if s.retains(b) {
		repr = slices.Clone(repr)
	}
	if err := slot.batch.SetRepr(repr); err != nil {
		return fmt.Errorf("commit: encode batch: %w", err)
	}
	if err := s.apply(slot, sync); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	s.watch.committed(b.Bytes(), s.cfg.FlushAfterBytes)
	return nil
}

// Sync returns when every commit that ended before it began is on stable
// storage.
func (s *Store) Sync() error {
	if err := s.enter(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	defer s.gate.leave()
	if err := s.cfg.Fault.Point(context.Background(), "cache.sync"); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	slot := s.slot()
	// An empty log record carries the sync: the log is synced up to it.
	if err := slot.batch.LogData(nil, nil); err != nil {
		return fmt.Errorf("sync: encode record: %w", err)
	}
	if err := s.apply(slot, true); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// apply commits the slot's batch and gives the slot back.
func (s *Store) apply(slot *commitSlot, sync bool) error {
	s.watch.begin(s.cfg.Now())
	defer func() { s.watch.end(s.cfg.Now()) }()
	if !sync {
		if err := s.db.Apply(slot.batch, pebble.NoSync); err != nil {
			return s.fail(err)
		}
		return s.release(slot)
	}
	// The waiting form hands back an error of the log's sync, where the plain
	// one calls Logger.Fatalf.
	if err := s.db.ApplyNoSyncWait(slot.batch, pebble.Sync); err != nil {
		return s.fail(err)
	}
	if err := slot.batch.SyncWait(); err != nil {
		return s.fail(err)
	}
	return s.release(slot)
}

// retains tells whether the engine may keep the batch's bytes after the commit:
// it does so for one that would fill half a memtable. 256 bytes an operation is
// above what the memtable adds to each.
func (s *Store) retains(b *Batch) bool {
	return int64(b.Bytes())+256*int64(b.Len()) >= s.cfg.MemtableBytes/4
}

// slot takes a commit slot from the pool.
func (s *Store) slot() *commitSlot {
	if slot, ok := s.slots.Get().(*commitSlot); ok {
		return slot
	}
	return &commitSlot{batch: s.db.NewBatch()}
}

// release empties a slot, so that it shares no bytes with a Batch, and keeps it.
// It reports a failure that happened meanwhile: an unsynced commit whose log
// write failed must not look fine.
func (s *Store) release(slot *commitSlot) error {
	clear(slot.header[:])
	if err := slot.batch.SetRepr(slot.header[:]); err != nil {
		return fmt.Errorf("reset batch: %w", err)
	}
	slot.batch.Reset()
	s.slots.Put(slot)
	return s.failed()
}

// enter begins a call: it fails when the store is closed or has failed.
func (s *Store) enter() error {
	if !s.gate.enter() {
		return ErrClosed
	}
	if err := s.failed(); err != nil {
		s.gate.leave()
		return err
	}
	return nil
}

// failed returns ErrFailed with its cause after a failure.
func (s *Store) failed() error {
	if cause := s.failure.Load(); cause != nil {
		return fmt.Errorf("%w: %w", ErrFailed, *cause)
	}
	return nil
}

// fail records the first failure and reports it; it returns ErrFailed.
func (s *Store) fail(cause error) error {
	if s.failure.CompareAndSwap(nil, &cause) {
		if s.cfg.Events.Fatal == nil {
			panic(fmt.Errorf("store in %s: %w", s.cfg.Dir, cause))
		}
		s.cfg.Events.Fatal(cause)
	}
	return s.failed()
}

// Close ends the store: it waits for the calls under way, and makes everything
// committed durable. Run must have returned. Close may be called again and then
// returns what it returned first. A failed store is abandoned as it is: its
// process is ending, and the engine may hold locks for ever.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

// close is Close, once.
func (s *Store) close() error {
	s.gate.close()
	if err := s.failed(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	err := s.db.Close()
	err = errors.Join(err, s.closer.Close(), s.lock.Close())
	if err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// gate counts the calls under way, so that Close can wait for them. A lock
// would not do: a call inside a Scan's callback would wait for a Close that
// waits for the Scan.
type gate struct {
	state   atomic.Int64 // the calls under way, and closedBit
	drained chan struct{}
}

// closedBit is above any count of calls.
const closedBit = 1 << 40

// enter begins a call, unless the gate is closed.
func (g *gate) enter() bool {
	if g.state.Add(1)&closedBit == 0 {
		return true
	}
	g.leave()
	return false
}

// leave ends a call; the last one after close wakes it.
func (g *gate) leave() {
	if g.state.Add(-1) == closedBit {
		select {
		case g.drained <- struct{}{}:
		default: // close has a wake-up waiting
		}
	}
}

// close lets no further call in and returns after the last has left.
func (g *gate) close() {
	g.state.Or(closedBit)
	for g.state.Load() != closedBit {
		<-g.drained
	}
}

// watch is what the loops of Run know of the commits.
type watch struct {
	flush     chan struct{} // has a token when the unflushed log is long
	inFlight  atomic.Int64
	progress  atomic.Int64 // unix nanoseconds: the last commit's end, or the first waiting one's begin
	unflushed atomic.Int64 // bytes committed since the last flush began
}

// begin counts a commit in.
func (w *watch) begin(now time.Time) {
	if w.inFlight.Add(1) == 1 {
		w.progress.Store(now.UnixNano())
	}
}

// end counts a commit out.
func (w *watch) end(now time.Time) {
	w.progress.Store(now.UnixNano())
	w.inFlight.Add(-1)
}

// committed counts the bytes of a commit and asks for a flush when there are
// many.
func (w *watch) committed(bytes int, flushAfter int64) {
	if w.unflushed.Add(int64(bytes)) >= flushAfter {
		select {
		case w.flush <- struct{}{}:
		default: // already asked
		}
	}
}
