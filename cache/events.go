package cache

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// listener turns the engine's events into those of the store.
func (s *Store) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			if report := s.cfg.Events.BackgroundError; report != nil {
				report(err)
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			if report := s.cfg.Events.CorruptFile; report != nil {
				report(info.Path, info.Details)
			}
		},
	}
}

// diskSlow reports a slow operation.
func (s *Store) diskSlow(info vfs.DiskSlowInfo) {
	if report := s.cfg.Events.DiskSlow; report != nil {
		report(info.OpType.String(), info.Path, info.Duration)
	}
}

// logFailed is called when the log or a directory could not be written or synced. What the
// kernel does with the pages of a failed sync is not known, so neither a retry
// nor going on is safe. While Open runs, its error says the same.
func (s *Store) logFailed(err error) {
	if s.armed.Load() {
		_ = s.fail(err)
	}
}

// engineLog is the engine's logger: its talk is dropped, since what matters
// comes as an event, and its Fatalf ends the store.
type engineLog struct{ store *Store }

// Infof implements pebble.Logger.
func (engineLog) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (engineLog) Errorf(string, ...any) {}

// Fatalf implements pebble.Logger. The engine relies on it not to return, for it
// would go on with a broken log; so when Events.Fatal does return, this blocks
// its caller for ever.
func (l engineLog) Fatalf(format string, args ...any) {
	_ = l.store.fail(fmt.Errorf(format, args...))
	select {}
}

// watchFS notices errors of the log and of directory syncs where they happen.
// The engine reports those of the log only to the next commit that syncs, so that
// an unsynced commit whose log write failed would look fine; and it panics at
// those of a directory, without telling anyone first.
type watchFS struct {
	vfs.FS
	failed func(error)
}

// Create implements vfs.FS.
func (w *watchFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.Create(name, category)
	return w.file(name, f, err)
}

// ReuseForWrite implements vfs.FS: the engine recycles its log files.
func (w *watchFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.ReuseForWrite(oldname, newname, category)
	return w.file(newname, f, err)
}

// OpenDir implements vfs.FS.
func (w *watchFS) OpenDir(name string) (vfs.File, error) {
	f, err := w.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &watchedFile{File: f, name: name, failed: w.failed}, nil
}

// Unwrap implements vfs.FS.
func (w *watchFS) Unwrap() vfs.FS { return w.FS }

// file wraps a log file, and passes every other through.
func (w *watchFS) file(name string, f vfs.File, err error) (vfs.File, error) {
	if !strings.HasSuffix(name, ".log") {
		return f, err
	}
	if err != nil {
		w.failed(fmt.Errorf("make %s: %w", name, err))
		return nil, err
	}
	return &watchedFile{File: f, name: name, failed: w.failed}, nil
}

// watchedFile is a log or a directory, whose errors are fatal.
type watchedFile struct {
	vfs.File
	name   string
	failed func(error)
}

// Write implements vfs.File.
func (f *watchedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.check("write", err)
}

// WriteAt implements vfs.File.
func (f *watchedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.check("write", err)
}

// Sync implements vfs.File.
func (f *watchedFile) Sync() error {
	return f.check("sync", f.File.Sync())
}

// SyncData implements vfs.File.
func (f *watchedFile) SyncData() error {
	return f.check("sync", f.File.SyncData())
}

// SyncTo implements vfs.File.
func (f *watchedFile) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = f.File.SyncTo(length)
	return fullSync, f.check("sync", err)
}

// check reports an error and returns it.
func (f *watchedFile) check(verb string, err error) error {
	if err != nil {
		f.failed(fmt.Errorf("%s %s: %w", verb, f.name, err))
	}
	return err
}
