package cache

import (
	"errors"
	"fmt"
	"time"

	"edged.dev/edged/internal/fault"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Limits of the configuration, each with its reason.
const (
	// minMemtableBytes keeps a memtable larger than the largest record (8 MiB is
	// committed as a table of its own; 64 KiB is the smallest that does not
	// rotate on every group).
	minMemtableBytes = 64 << 10
	// maxMemtableBytes bounds the log that a reopen replays: at 64 MiB a reopen
	// after a kill took 1.8 s.
	maxMemtableBytes = 64 << 20
)

// Config says where a Store lives and how much it may use. Start from Default.
type Config struct {
	// Dir is the directory of the store. It is made with mode 0700 when it is
	// missing, and closed to other users when it is not.
	Dir string
	// FS is the file system; nil is the disk. Tests hand in one of memory.
	FS vfs.FS
	// MemtableBytes is the size of a memtable. Small, because a reopen after a
	// crash replays up to one of it (performance.md: 0.6 s at 4 MiB under load).
	MemtableBytes int64
	// BlockCacheBytes is the memory for uncompressed table blocks. It serves
	// scans and misses of the memory tier, so it may be smaller than the tier.
	BlockCacheBytes int64
	// FlushAfterBytes is how much log may be unflushed before Run flushes it,
	// and FlushIdle how long a shorter one waits after the last commit. Both
	// keep the log that a reopen must replay short.
	FlushAfterBytes int64
	FlushIdle       time.Duration
	// CommitTimeout is how long commits may make no progress before
	// Events.CommitStalled is called. On a full disk the engine waits for ever.
	CommitTimeout time.Duration
	// DiskSlow is how long a single write or sync may take before
	// Events.DiskSlow is called; 0 watches nothing.
	DiskSlow time.Duration
	// FreeSpace returns the free and the total bytes of the file system of Dir,
	// and 0, 0 when they are not known. nil asks FS.
	FreeSpace func() (free, total uint64)
	// Fault is asked at "cache.commit" and "cache.sync"; nil has no faults.
	Fault *fault.Set
	// Events are called when something happens that no caller waits for.
	Events Events
	// Now is the clock of the flush and watch loops; it stamps no data.
	Now func() time.Time

	readOnly bool // nothing is written, compacted or flushed
}

// Events are the callbacks of a Store. Each may be nil, is called from any
// goroutine, must return soon and must not call the Store.
type Events struct {
	// BackgroundError reports a flush or compaction that failed and is retried.
	BackgroundError func(err error)
	// DiskSlow reports an operation on a file that has taken this long so far.
	DiskSlow func(op, path string, elapsed time.Duration)
	// CorruptFile reports a file whose checksum or structure is wrong. Reads of
	// what it held fail with ErrCorrupt.
	CorruptFile func(path string, err error)
	// CommitStalled reports that no commit has ended for this long while one
	// was waiting. It is called once for each stall.
	CommitStalled func(elapsed time.Duration)
	// Writable reports that writes began to be refused for want of space, or
	// are taken again.
	Writable func(writable bool, free, total uint64)
	// Fatal reports what the process must not survive: the log could not be
	// written or synced, or the disk is all but full. It is expected to end the
	// process. Should it return, the Store refuses every further call with
	// ErrFailed. nil panics.
	Fatal func(err error)
}

// Default returns a configuration for the directory with every other field set.
func Default(dir string) Config {
	return Config{
		Dir:             dir,
		MemtableBytes:   4 << 20,
		BlockCacheBytes: 32 << 20,
		FlushAfterBytes: 2 << 20,
		FlushIdle:       2 * time.Second,
		CommitTimeout:   10 * time.Second,
		DiskSlow:        5 * time.Second,
		Now:             time.Now,
	}
}

// validate rejects what cannot work; nothing is corrected in silence.
func (c *Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("dir is empty")
	case c.MemtableBytes < minMemtableBytes || c.MemtableBytes > maxMemtableBytes:
		return fmt.Errorf("memtable of %d bytes is outside %d to %d", c.MemtableBytes, minMemtableBytes, maxMemtableBytes)
	case c.BlockCacheBytes < 0:
		return fmt.Errorf("block cache of %d bytes is negative", c.BlockCacheBytes)
	case c.FlushAfterBytes <= 0 || c.FlushIdle <= 0 || c.CommitTimeout <= 0:
		return errors.New("flush size, flush idle time and commit timeout must be above zero")
	case c.DiskSlow < 0:
		return errors.New("disk slow time is negative")
	case c.Now == nil:
		return errors.New("now is nil")
	}
	return nil
}
