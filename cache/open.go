package cache

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Settings of the engine, each with its reason.
const (
	// bloomBitsPerKey gives about 1 % false positives: a miss of the store costs
	// a probe of memory instead of a block read at each level.
	bloomBitsPerKey = 10
	// l0CompactAt and l0StopAt: level 0 is compacted when a read must look into
	// this many of its sublevels, and writes wait at the second, far above, so
	// that a burst is absorbed.
	l0CompactAt = 4
	l0StopAt    = 24
	// settleFor is how long after an open tables are not merged, unless a read must
	// look into moreCompactAt sublevels of level 0: a node that was killed while it
	// was written to has merging to do, which took two thirds of the processor time
	// that it had to catch up in.
	settleFor     = 2 * time.Second
	moreCompactAt = 10
	// stopAtMemtables bounds the log that a reopen replays: writes wait when this
	// many memtables are unflushed.
	stopAtMemtables = 4
	// maxOpenFiles is a share of the usual limit of 1,024 descriptors that leaves
	// room for connections.
	maxOpenFiles = 512
	// walBytesPerSync and tableBytesPerSync spread writeback, so that a sync does
	// not wait for megabytes that the kernel held back.
	walBytesPerSync   = 512 << 10
	tableBytesPerSync = 512 << 10
)

// Open opens or creates the store in cfg.Dir. It starts nothing of its own: the
// caller runs Run, and closes the store. ErrLocked when another holds the
// directory; ErrCorrupt when its files are damaged.
func Open(cfg Config) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("check store configuration: %w", err)
	}
	onDisk := cfg.FS == nil
	if onDisk {
		cfg.FS = vfs.Default
	}
	if err := prepareDir(cfg.FS, cfg.Dir, onDisk); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.FS, cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, lock: lock, opened: cfg.Now(), getOpts: pebble.IterOptions{UseL6Filters: true}}
	s.gate.drained = make(chan struct{}, 1)
	s.watch.flush = make(chan struct{}, 1)
	s.watch.progress.Store(cfg.Now().UnixNano())
	if err := s.openEngine(); err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	s.checkSpace()
	s.armed.Store(true)
	return s, nil
}

// openEngine opens the database over the watched file system.
func (s *Store) openEngine() error {
	watched := &watchFS{FS: s.cfg.FS, failed: s.logFailed}
	fs, closer := vfs.WithDiskHealthChecks(watched, s.cfg.DiskSlow, nil, s.diskSlow)
	db, err := openDB(s.cfg.Dir, s.options(fs))
	if err != nil {
		return errors.Join(fmt.Errorf("open store in %s: %w", s.cfg.Dir, corruption(err)), closer.Close())
	}
	s.db, s.closer = db, closer
	return nil
}

// openDB opens the engine. It panics with an error of the file system where it
// cannot sync a directory; for a process that begins, that is an error like any.
func openDB(dir string, opts *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if caught := recover(); caught != nil {
			cause, ok := caught.(error)
			if !ok {
				panic(caught)
			}
			db, err = nil, cause
		}
	}()
	return pebble.Open(dir, opts)
}

// options are the engine's settings.
func (s *Store) options(fs vfs.FS) *pebble.Options {
	opts := &pebble.Options{
		FS:                          fs,
		Lock:                        s.lock,
		CacheSize:                   s.cfg.BlockCacheBytes,
		MemTableSize:                uint64(s.cfg.MemtableBytes),
		MemTableStopWritesThreshold: stopAtMemtables,
		L0CompactionThreshold:       l0CompactAt,
		L0StopWritesThreshold:       l0StopAt,
		MaxOpenFiles:                maxOpenFiles,
		WALBytesPerSync:             walBytesPerSync,
		BytesPerSync:                tableBytesPerSync,
		FormatMajorVersion:          pebble.FormatNewest,
		ReadOnly:                    s.cfg.readOnly,
		CompactionConcurrencyRange:  s.compactions,
		EventListener:               s.listener(),
		Logger:                      engineLog{s},
	}
	opts.Experimental.L0CompactionConcurrency = moreCompactAt
	opts.Experimental.CompactionGarbageFractionForMaxConcurrency = s.garbageForMore
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBitsPerKey)
	}
	return opts
}

// compactions returns how many may run at once at ease and under pressure. The
// engine asks whenever its tables change.
func (s *Store) compactions() (least, most int) {
	if s.settles() {
		return 0, 2
	}
	return 1, 2
}

// garbageForMore returns the share of deleted bytes at which as many may run as under
// pressure; 0: they are no reason.
func (s *Store) garbageForMore() float64 {
	if s.settles() {
		return 0
	}
	return 0.4
}

// settles reports whether the store was just opened, so that merging waits.
func (s *Store) settles() bool { return s.cfg.Now().Sub(s.opened) < settleFor }

// prepareDir makes the directory, for its owner alone.
func prepareDir(fs vfs.FS, dir string, onDisk bool) error {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory %s: %w", dir, err)
	}
	if !onDisk {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("read mode of data directory %s: %w", dir, err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("close data directory %s to other users: %w", dir, err)
	}
	return nil
}

// lockDir takes the directory for this process.
func lockDir(fs vfs.FS, dir string) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, fs)
	if err == nil {
		return lock, nil
	}
	// The engine's disk says this when the holder is this very process.
	held := err.Error() == "lock held by current process"
	if held || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return nil, fmt.Errorf("lock %s: %w", dir, ErrLocked)
	}
	return nil, fmt.Errorf("lock %s: %w", dir, err)
}
