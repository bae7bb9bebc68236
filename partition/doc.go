// Package partition is the one door into the local copies of partitions: every
// write, every received object, every session goes through a Shard. A Shard
// locks; package state below it plans; the Committer makes what was planned
// durable, a group at a time, and publishes it.
//
// Locks, outermost first: a shard's gate (planners share it, a session's end has
// it alone), one key stripe (a run takes several, and waits for none), the shard's
// mu. Store reads happen under gate and stripe, never under mu. DESIGN.md tells why.
package partition

import (
	"errors"

	"edged.dev/edged/cache"
)

// Store is the durable ordered store below: package cache has it, the simulator
// has one of its own.
type Store interface {
	Reader
	Commit(b *cache.Batch, sync bool) error
	Sync() error
}

// Reader is what is read of it.
type Reader interface {
	Get(dst, key []byte) (value []byte, found bool, err error)
	GetMany(keys [][]byte, fn func(i int, value []byte) error) error // keys ascend
	Scan(lower, upper []byte, fn func(key, value []byte) (more bool, err error)) error
	Snapshot() (cache.Snapshot, error)
}

// Tier is the bounded memory in front of it. Records are entries with values.
type Tier interface {
	TierReader
	Put(part uint32, hash uint64, key, record []byte) (held bool)
	Delete(part uint32, hash uint64, key []byte)
	DropPartition(part uint32)
}

// TierReader is what is read of it.
type TierReader interface {
	Get(dst []byte, part uint32, hash uint64, key []byte) (record []byte, ok bool)
	Value(dst []byte, part uint32, hash uint64, key []byte) (value []byte, shown cache.Shown, ok bool)
	Holds(part uint32, hash uint64, key []byte) bool // counts as no read
}

// ErrFull refuses a client's write while the disk is at its watermark.
var ErrFull = cache.ErrDiskFull

// ErrBusy refuses a write for which there was no room in the committer's queue in time.
var ErrBusy = errors.New("the store does not keep up")

// Snapshot is a view of the store that sessions share.
type Snapshot = cache.Snapshot
