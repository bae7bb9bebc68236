package cache

import (
	"errors"
	"fmt"

	"edged.dev/edged/internal/kv"
)

// salvageBatch is how many bytes of records go with one commit.
const salvageBatch = 1 << 20

// unreadable stands in the place of the record of a copy of which something could not
// be read: its checksum fails, so that the copy is quarantined.
const unreadable = "unreadable"

// Salvage copies what can be read of a store with damaged files into an empty one. The
// damaged store is opened to be read only. A copy of a partition of which some record
// cannot be read gets a record that quarantines it, over what of it was read; it names
// these partitions. All others are as they were. What belongs to no partition (the node
// and its actors) must be whole, or there is nothing to be saved: ErrCorrupt.
//
// The index of expiries is not copied, for it is ordered by time over all partitions;
// a store without it makes it anew.
func Salvage(damaged Config, to *Store) ([]kv.Partition, error) {
	damaged.readOnly = true
	from, err := Open(damaged)
	if err != nil {
		return nil, fmt.Errorf("salvage: %w", err)
	}
	s := salvage{from: from, to: to}
	out, err := s.run()
	if err = errors.Join(err, from.Close()); err != nil {
		return nil, fmt.Errorf("salvage: %w", err)
	}
	return out, nil
}

type salvage struct {
	from, to *Store
	batch    Batch
	bytes    int
}

func (s *salvage) run() ([]kv.Partition, error) {
	for _, kind := range []byte{recordNode, recordActor} {
		lower, upper := PrefixRange(kind)
		if err := s.copy(lower, upper); err != nil {
			return nil, err
		}
	}
	var out []kv.Partition
	for i := range kv.MaxPartitions + 1 {
		p := kv.Partition(i)
		if i == kv.MaxPartitions {
			p = kv.System
		}
		damaged, err := s.partition(p)
		if err != nil {
			return nil, err
		}
		if damaged {
			out = append(out, p)
		}
	}
	return out, s.to.Commit(&s.batch, true)
}

// partition copies the records of one partition, those of each kind up to the first
// that cannot be read: what lies behind it may be hidden by what is lost.
func (s *salvage) partition(p kv.Partition) (damaged bool, err error) {
	for _, kind := range []byte{recordEntry, recordVersion, recordTomb, recordComplex, recordSession, recordCopy} {
		lower, upper := Range(kind, p, 0)
		err := s.copy(lower, upper)
		switch {
		case errors.Is(err, ErrCorrupt):
			damaged = true
		case err != nil:
			return false, err
		}
	}
	if damaged {
		s.batch.Set(AppendCopyKey(nil, p), []byte(unreadable))
	}
	return damaged, nil
}

// copy copies the records of a range.
func (s *salvage) copy(lower, upper []byte) error {
	return s.from.Scan(lower, upper, func(key, value []byte) (bool, error) {
		s.batch.Set(key, value)
		if s.bytes += len(key) + len(value); s.bytes < salvageBatch {
			return true, nil
		}
		err := s.to.Commit(&s.batch, false)
		s.batch, s.bytes = Batch{}, 0
		return true, err
	})
}
