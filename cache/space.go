package cache

import (
	"fmt"
	"sync/atomic"
)

// Watermarks of free space. On a full disk the engine hangs, so the store must
// stop before.
const (
	// lowDivisor and smallLowDivisor: writes are refused below a tenth of the
	// disk, and below a fifth of a small one, for compaction needs room of an
	// absolute size...
	lowDivisor      = 10
	smallLowDivisor = 5
	// ...of this much; and more than the last is never asked for, so that a big
	// disk shared with others is not refused with a hundred gigabytes free.
	lowBytes    = 1 << 30
	maxLowBytes = 10 << 30
	// exitDivisor: the process ends below this part of the low watermark, which
	// is 2 % of the disk wherever the low one is 10 %.
	exitDivisor = 5
	// recheckBytes is how much may be committed between two looks at the disk,
	// besides those of Run: a sixteenth of the smallest reserve that matters.
	recheckBytes = 4 << 20
)

// space is what the store knows of the disk's free bytes.
type space struct {
	full    atomic.Bool
	pending atomic.Int64 // bytes committed since the last look
}

// Watermarks returns below how many free bytes writes are refused and below how
// many the process ends, on a disk of total bytes: 10 % and 2 % from 10 GiB to
// 100 GiB; 10 GiB and 2 GiB above; 1 GiB and 200 MiB below, but never more than
// 20 % and 4 %.
func Watermarks(total uint64) (low, exit uint64) {
	low = max(total/lowDivisor, min(lowBytes, total/smallLowDivisor))
	low = min(low, maxLowBytes)
	return low, low / exitDivisor
}

// Full reports whether the disk is below its low watermark. What a client asks
// for must then be refused before it is planned, with ErrDiskFull: a commit is
// never refused, for what was planned cannot be unplanned, and other nodes'
// writes and repairs go on until the process ends at the lower watermark.
func (s *Store) Full() bool { return s.space.full.Load() }

// grown counts what is about to be committed, and looks at the disk in time.
func (s *Store) grown(bytes int) {
	if s.space.pending.Add(int64(bytes)) >= recheckBytes {
		s.checkSpace()
	}
}

// checkSpace looks at the disk and moves the store between its states.
func (s *Store) checkSpace() {
	s.space.pending.Store(0)
	free, total := s.freeSpace()
	if total == 0 {
		return // not known: a file system of memory
	}
	low, exit := Watermarks(total)
	full := free < low
	if s.space.full.Swap(full) != full && s.cfg.Events.Writable != nil {
		s.cfg.Events.Writable(!full, free, total)
	}
	if free < exit {
		_ = s.fail(fmt.Errorf("%w: %d of %d bytes are free", ErrDiskFull, free, total))
	}
}

// freeSpace asks the configured source, or the file system.
func (s *Store) freeSpace() (free, total uint64) {
	if s.cfg.FreeSpace != nil {
		return s.cfg.FreeSpace()
	}
	usage, err := s.cfg.FS.GetDiskUsage(s.cfg.Dir)
	if err != nil {
		return 0, 0 // only file systems of memory cannot say
	}
	return usage.AvailBytes, usage.TotalBytes
}
