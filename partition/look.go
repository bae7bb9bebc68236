package partition

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"github.com/zeebo/xxh3"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
	"edged.dev/edged/partition/state"
)

const (
	// lookChunk is how many objects are looked at between two pauses.
	lookChunk = 64
	// MaxSuspects bounds the keys that one look remembers as damaged; those past it
	// are found by the next, when these are healed.
	MaxSuspects = 1024
)

// Pace is called after every few objects of a look with the bytes read for them.
// It may take its time; its error ends the look. nil: none.
type Pace func(bytes int) error

// Look is what the records of a copy really hold, at one moment: every value was
// read and its checksum computed.
type Look struct {
	Clock    kv.Clock // recorded at that moment
	Recorded merkle.Digest
	Tree     *merkle.Tree // of what is there
	Suspects []string     // keys whose records do not fit each other
	Objects  int
	Bytes    int64
}

// Fit reports whether the copy holds what its record says: only then may it give
// to others, and its word that a version does not exist counts.
func (l *Look) Fit() bool { return len(l.Suspects) == 0 && l.Tree.Root() == l.Recorded }

// Found is one version as its records hold it.
type Found struct {
	kv.Version        // its value is what was read; nil where nothing was
	Hash       uint64 // xxh3-64 of what was read
	Verified   bool   // the records fit each other
}

// FoundObject is an object as its records hold it. A version that stands only in
// one of the two places where it should is not verified.
type FoundObject struct {
	Key      []byte
	Entry    state.Entry  // as in the directory
	Versions []Found      // in dot order
	Beyond   bool         // its context goes beyond the copy's clock; HeldNow says so
	strays   []kv.Version // without a place in the directory
	broken   bool         // the directory does not parse
}

// sound reports whether all records of the object fit each other.
func (f *FoundObject) sound() bool {
	for i := range f.Versions {
		if !f.Versions[i].Verified {
			return false
		}
	}
	return !f.broken && len(f.strays) == 0
}

// digest is the sum over the values that are there.
func (f *FoundObject) digest(key merkle.Key) merkle.Digest {
	var d merkle.Digest
	for i := range f.Versions {
		d = d.Add(f.Versions[i].digest(key, f.Key))
	}
	return d
}

func (v *Found) digest(k merkle.Key, key []byte) merkle.Digest {
	if v.Tombstone() || v.Value == nil {
		return merkle.Digest{}
	}
	w := v.Version
	w.Sum = v.Hash
	return state.Item(k, key, w)
}

// Look reads the whole copy from one snapshot. It takes no lock and holds nobody
// up; what it finds of a copy that changes meanwhile is of the snapshot's moment.
func (s *Shard) Look(pace Pace) (*Look, error) {
	snap, err := s.set.cfg.Store.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("look at partition %d: %w", s.id, err)
	}
	l, err := s.lookIn(snap, pace)
	if err = errors.Join(err, snap.Close()); err != nil {
		return nil, fmt.Errorf("look at partition %d: %w", s.id, err)
	}
	return l, nil
}

func (s *Shard) lookIn(snap cache.Snapshot, pace Pace) (*Look, error) {
	c, err := s.copyIn(snap)
	if err != nil {
		return nil, err
	}
	l := &Look{Clock: c.Clock, Recorded: merkle.DigestOf(c.Count, c.Sum)}
	if l.Tree, err = merkle.NewTree(merkle.BitsFor(int(min(c.Count, 1<<40)))); err != nil {
		return nil, err
	}
	suspects := map[string]bool{}
	matched, tombstones, chunk, inChunk := 0, 0, 0, 0
	err = s.foundIn(snap, merkle.Range{To: ^uint64(0)}, func(hash uint64, f *FoundObject) error {
		l.Objects++
		for i := range f.Versions {
			v := &f.Versions[i]
			if v.Verified || v.Value != nil {
				matched++
			}
			if v.Tombstone() {
				tombstones++
			}
			chunk += len(v.Value) + len(f.Key)
			if d := v.digest(s.set.cfg.DigestKey, f.Key); !d.IsZero() {
				l.Tree.Add(hash, d)
			}
		}
		if !f.sound() && len(suspects) < MaxSuspects {
			suspects[string(f.Key)] = true
		}
		if inChunk++; inChunk < lookChunk || pace == nil {
			return nil
		}
		l.Bytes += int64(chunk)
		n := chunk
		chunk, inChunk = 0, 0
		return pace(n)
	})
	l.Bytes += int64(chunk)
	if err == nil {
		err = s.strays(snap, 'd', matched, suspects)
	}
	if err == nil {
		err = s.strays(snap, 't', tombstones, suspects)
	}
	l.Suspects = slices.Sorted(maps.Keys(suspects))
	return l, err
}

// treeHash is what a tree of this partition places a key by: its hash without the
// bits that all keys of the partition share.
func (s *Shard) treeHash(hash uint64) uint64 {
	return hash << bits.TrailingZeros32(s.set.cfg.Partitions)
}

// foundIn calls fn with the objects of a range of tree hashes, in the order of the
// store, which is that of the hashes' top 48 bits.
func (s *Shard) foundIn(snap cache.Snapshot, r merkle.Range, fn func(hash uint64, f *FoundObject) error) error {
	lower, upper := cache.Range('e', s.id, r.From>>16)
	return snap.Scan(lower, upper, func(rec, value []byte) (bool, error) {
		key, order, ok := cache.KeyOf(rec)
		if !ok {
			return false, cache.ErrRecord
		}
		if order > r.To>>16 {
			return false, nil
		}
		hash := s.treeHash(kv.Hash(key))
		if !r.Has(hash) {
			return true, nil
		}
		f, err := s.inspect(snap, append([]byte(nil), key...), value)
		if err == nil {
			err = fn(hash, f)
		}
		return err == nil, err
	})
}

// inspect reads an object's versions and holds them against its directory.
func (s *Shard) inspect(snap cache.Snapshot, key, directory []byte) (*FoundObject, error) {
	f := &FoundObject{Key: key}
	e, checks, err := s.parseStored(directory)
	if err != nil {
		f.broken = true // what it held is found among the strays
		return f, nil
	}
	f.Entry = state.Entry(e)
	for i, v := range e.Object.Versions {
		got, err := s.inspectVersion(snap, key, v, checks[i])
		if err != nil {
			return nil, err
		}
		f.Versions = append(f.Versions, got)
	}
	return f, nil
}

func (s *Shard) inspectVersion(snap cache.Snapshot, key []byte, v kv.Version, want cache.Check) (Found, error) {
	out := Found{Version: v}
	out.Value = nil
	rec, found, err := snap.Get(nil, s.versionKey(nil, v.Dot))
	if err != nil || !found {
		return out, err
	}
	at, w, err := cache.ParseVersion(rec)
	if err != nil {
		return out, nil // as good as not there
	}
	out.Value = append([]byte{}, w.Value...)
	out.Hash = xxh3.Hash(out.Value)
	out.Verified = string(at) == string(key) && w.HLC == v.HLC && w.ExpiresMS == v.ExpiresMS &&
		w.Tombstone() == v.Tombstone() && len(w.Value) == want.Bytes && out.Hash == want.Sum
	return out, nil
}

// strays adds the keys of versions, and of tombstones' records, that have no place
// in a directory. They are looked for only where there are more than directories
// name.
func (s *Shard) strays(snap cache.Snapshot, kind byte, matched int, suspects map[string]bool) error {
	n := 0
	err := s.eachPlaced(snap, kind, func(_, _ []byte, _ kv.Version) (bool, error) {
		n++
		return true, nil
	})
	if err != nil || n <= matched {
		return err
	}
	return s.eachPlaced(snap, kind, func(rec, key []byte, _ kv.Version) (bool, error) {
		stray, err := s.strayIn(snap, rec, key)
		if stray && len(suspects) < MaxSuspects {
			suspects[string(key)] = true
		}
		return true, err
	})
}

// eachPlaced calls fn with the records of versions ('d') or tombstones ('t') and the
// keys they are of. What does not parse is nobody's: nothing reads it.
func (s *Shard) eachPlaced(snap cache.Snapshot, kind byte, fn func(rec, key []byte, v kv.Version) (bool, error)) error {
	lower, upper := cache.Range(kind, s.id, 0)
	return snap.Scan(lower, upper, func(rec, value []byte) (bool, error) {
		var key []byte
		v := kv.Version{Flags: kv.Tombstone}
		var err error
		if kind == 't' {
			key, _, err = cache.ParseTombstone(value)
		} else {
			key, v, err = cache.ParseVersion(value)
		}
		if err != nil {
			return true, nil
		}
		return fn(rec, key, v)
	})
}

// strayIn reports whether a version's record has no place in its key's directory.
func (s *Shard) strayIn(snap cache.Snapshot, rec, key []byte) (bool, error) {
	actor, ok := s.set.actors.Actor(cache.ActorOf(rec))
	if !ok {
		return true, nil
	}
	directory, found, err := snap.Get(nil, s.entryKey(nil, kv.Hash(key), key))
	if err != nil || !found {
		return true, err
	}
	e, _, err := s.parseStored(directory)
	if err != nil {
		return true, nil
	}
	_, placed := e.Object.Find(kv.Dot{Actor: actor, Seq: cache.SeqOf(rec)})
	return !placed, nil
}
