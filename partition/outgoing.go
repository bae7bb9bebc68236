package partition

import (
	"errors"
	"fmt"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
)

// ErrOverflow ends a session during which more keys changed than it remembers.
var ErrOverflow = errors.New("too many keys changed during the session")

// KeyObject is an object with its key; its context is explicit.
type KeyObject struct {
	Key    []byte
	Object kv.Object
}

// Chunk is a piece of a session: objects and the base that fills them, taken
// from one snapshot.
type Chunk struct {
	Base    kv.VV
	Floor   kv.VV // of the snapshot; joined before the objects
	Objects []KeyObject
	Bytes   int
}

// Outgoing streams one partition to a peer: first what the dot index has above
// the receiver's base, then what changed meanwhile, until nothing is left at one
// moment; the clock of that moment ends it. Used by one goroutine.
type Outgoing struct {
	shard *Shard
	donor *state.Donor

	spans []kv.Span // what is left to scan: Base = done up to, Max = up to
	order order     // which keys go first
	sent  kv.Clock  // dots that went with another dot of their object, or ahead
	snap  cache.Snapshot
	clock kv.Clock            // of snap
	base  kv.VV               // of clock
	floor kv.VV               // of snap
	whole map[string]struct{} // objects that are complex in snap
	leans bool                // objects may lean on a session record in snap
	seen  uint64              // newest group a snapshot of this session may show
	below *kv.Clock           // the receiver was told which dots are live as of this clock
}

// Open begins a session towards a peer whose clock is have.
func (s *Shard) Open(peer kv.NodeID, have kv.Clock) (*Outgoing, error) {
	return s.OpenTo(peer, have, kv.Clock{})
}

// OpenTo begins a session towards a peer whose clock is have and that holds versions
// which the clock does not claim (the step L3).
func (s *Shard) OpenTo(peer kv.NodeID, have, unclaimed kv.Clock) (*Outgoing, error) {
	s.mu.Lock()
	o := &Outgoing{shard: s, donor: s.copy.Open(peer, have)}
	o.donor.Holds(unclaimed)
	leans := s.copy.Leans()
	s.mu.Unlock()
	for _, span := range o.donor.Range.Spans() {
		if !span.Actor.IsSeal() {
			o.scanFrom(span.Actor, span.Max())
		} else if !o.donor.BaseS.Has(kv.Dot{Actor: span.Actor, Seq: span.Base}) {
			for _, a := range s.set.actors.under(span.Actor) {
				o.scanFrom(a, kv.AllSeqs)
			}
		}
	}
	newestFirst(o.spans)
	if leans {
		if err := o.markLeaning(); err != nil {
			o.Close()
			return nil, err
		}
	}
	return o, nil
}

// scanFrom adds to the scan what an actor issued above the receiver's base.
func (o *Outgoing) scanFrom(a kv.Actor, top uint64) {
	if done := o.donor.BaseS.Get(a); top > done {
		o.spans = append(o.spans, kv.Span{Actor: a, Base: done, Runs: []kv.Run{{From: done + 1, To: top}}})
	}
}

// Both reports whether the receiver told of versions that its clock does not claim.
func (o *Outgoing) Both() bool { return o.donor.Held.Len() > 0 }

// markLeaning marks the objects whose context leans on a session record: they
// are part of every stream, and no mark tells where they are.
func (o *Outgoing) markLeaning() error {
	s := o.shard
	lower, upper := cache.Range('e', s.id, 0)
	return s.set.cfg.Store.Scan(lower, upper, func(rec, value []byte) (bool, error) {
		e, _, err := cache.ParseEntry(value, s.set.actors)
		if err != nil {
			return false, err
		}
		if key, _, ok := cache.KeyOf(rec); ok && e.Session != 0 {
			s.mu.Lock()
			o.donor.Dirty(string(key))
			s.mu.Unlock()
		}
		return true, nil
	})
}

// Close ends the session, if it has not ended.
func (o *Outgoing) Close() {
	o.shard.mu.Lock()
	defer o.shard.mu.Unlock()
	o.shard.copy.Close(o.donor)
}

// Use sets the snapshot that the next chunks are read from. It must have been
// taken after Open; several sessions may share it, and its owner closes it.
//
// Which objects are complex is read from the snapshot too: one version of two
// sent by itself, with a base that covers the other, would kill the other. So is
// whether there are session records, for a version sent without what its record
// says would leave alive at the receiver what it had overwritten.
func (o *Outgoing) Use(snap cache.Snapshot) error {
	o.seen = o.shard.set.committer.generation()
	c, err := o.shard.copyIn(snap)
	if err != nil {
		return fmt.Errorf("read copy of partition %d: %w", o.shard.id, err)
	}
	o.snap, o.clock, o.base, o.floor, o.whole = snap, c.Clock, c.Clock.Base(), c.Floor, nil
	if o.leans, err = o.shard.sessionsIn(snap); err != nil {
		return fmt.Errorf("read sessions of partition %d: %w", o.shard.id, err)
	}
	lower, upper := cache.Range('c', o.shard.id, 0)
	return snap.Scan(lower, upper, func(rec, _ []byte) (bool, error) {
		key, _, ok := cache.KeyOf(rec)
		if !ok {
			return false, fmt.Errorf("read complex mark %x: %w", rec, cache.ErrRecord)
		}
		if o.whole == nil {
			o.whole = map[string]struct{}{}
		}
		o.whole[string(key)] = struct{}{}
		return true, nil
	})
}

// Next returns the next objects of the scan, about maxBytes of them; more is
// false when the scan is done.
func (o *Outgoing) Next(maxBytes int) (c Chunk, more bool, err error) {
	c.Base, c.Floor = o.base, o.floor
	if err := o.ahead(&c, maxBytes); err != nil {
		return Chunk{}, false, fmt.Errorf("stream partition %d: %w", o.shard.id, err)
	}
	for len(o.spans) > 0 && c.Bytes < maxBytes {
		span := &o.spans[0]
		if err := o.scan(span, &c, maxBytes); err != nil {
			return Chunk{}, false, fmt.Errorf("stream partition %d: %w", o.shard.id, err)
		}
		if span.Base >= span.Runs[0].To {
			o.spans = o.spans[1:]
		}
		if len(o.spans) == 0 {
			o.spans = o.order.nextPass()
		}
	}
	return c, len(o.spans) > 0 || len(o.order.first) > 0, nil
}

func (o *Outgoing) scan(span *kv.Span, c *Chunk, maxBytes int) error {
	s := o.shard
	id := s.set.actors.ID(span.Actor)
	lower := cache.AppendVersionKey(nil, s.id, id, span.Base+1)
	upper := cache.AppendVersionKey(nil, s.id, id, span.Runs[0].To+1)
	var complexKeys []string
	full := false
	err := o.snap.Scan(lower, upper, func(rec, value []byte) (bool, error) {
		seq := cache.SeqOf(rec)
		key, v, err := cache.ParseVersion(value)
		if err != nil {
			return false, err
		}
		v.Dot = kv.Dot{Actor: span.Actor, Seq: seq}
		span.Base = seq
		if !o.order.takes(key) {
			return true, nil
		}
		if _, isComplex := o.whole[string(key)]; o.leans || isComplex {
			complexKeys = append(complexKeys, string(key))
			full = len(complexKeys) >= 64
			return !full, nil
		}
		o.simple(key, v, c)
		full = c.Bytes >= maxBytes
		return !full, nil
	})
	if err == nil && !full {
		span.Base = span.Runs[0].To
	}
	for _, key := range complexKeys {
		if err == nil {
			err = o.addWhole(key, c)
		}
	}
	return err
}

func (o *Outgoing) simple(key []byte, v kv.Version, c *Chunk) {
	if o.donor.Has(v.Dot) {
		o.keep(v.Dot)
		return
	}
	if o.sent.Has(v.Dot) {
		return
	}
	key, v.Value = append([]byte(nil), key...), append([]byte{}, v.Value...)
	c.add(KeyObject{key, kv.Object{Versions: []kv.Version{v}}})
}

func (c *Chunk) add(k KeyObject) {
	c.Objects = append(c.Objects, k)
	c.Bytes += len(k.Key) + k.Object.Bytes() + 16*len(k.Object.Versions)
}

func (o *Outgoing) keep(d kv.Dot) {
	o.shard.mu.Lock()
	defer o.shard.mu.Unlock()
	o.donor.Keep(d)
}

// addWhole adds an object with several versions or a context of its own, once.
func (o *Outgoing) addWhole(key string, c *Chunk) error {
	e, err := o.shard.read(o.snap, kv.Hash([]byte(key)), []byte(key), true)
	if err != nil || e.IsZero() {
		return err
	}
	obj, err := o.shard.loadIn(o.snap, o.base, e)
	if err != nil {
		return err
	}
	fresh := len(obj.Ctx) > 0
	for _, v := range obj.Versions {
		if o.donor.BaseS.Has(v.Dot) || o.sent.Has(v.Dot) {
			continue
		}
		if !o.donor.Has(v.Dot) {
			fresh = true
		}
	}
	for _, v := range obj.Versions {
		if !fresh && !o.donor.BaseS.Has(v.Dot) {
			o.keep(v.Dot)
		}
	}
	if fresh && !o.allSent(obj) {
		for _, v := range obj.Versions {
			o.sent.Add(v.Dot)
		}
		c.add(KeyObject{[]byte(key), obj})
	}
	return nil
}

func (o *Outgoing) allSent(obj kv.Object) bool {
	for _, v := range obj.Versions {
		if !o.sent.Has(v.Dot) {
			return false
		}
	}
	return len(obj.Versions) > 0
}

// TakeKeep returns the dots to say KEEP for since the last call.
func (o *Outgoing) TakeKeep() kv.Clock {
	o.shard.mu.Lock()
	defer o.shard.mu.Unlock()
	return o.donor.TakeKeep()
}

// Dirty takes up to n keys that changed since the session began. The caller
// takes a snapshot then, gives it to Use, and sends their objects with Tail.
func (o *Outgoing) Dirty(n int) ([]string, error) {
	o.shard.mu.Lock()
	defer o.shard.mu.Unlock()
	if o.shard.gone.Load() {
		return nil, fmt.Errorf("stream partition %d: %w", o.shard.id, ErrDropped)
	}
	if o.donor.Overflowed() {
		return nil, fmt.Errorf("stream partition %d: %w", o.shard.id, ErrOverflow)
	}
	return o.donor.TakeDirty(n), nil
}

// Tail returns the objects of changed keys as they are in the snapshot in use.
func (o *Outgoing) Tail(keys []string) (Chunk, error) {
	c := Chunk{Base: o.base, Floor: o.floor}
	for _, key := range keys {
		e, err := o.shard.read(o.snap, kv.Hash([]byte(key)), []byte(key), true)
		if err != nil {
			return Chunk{}, fmt.Errorf("stream partition %d: %w", o.shard.id, err)
		}
		obj, err := o.shard.loadIn(o.snap, o.base, e)
		if err != nil {
			return Chunk{}, fmt.Errorf("stream partition %d: %w", o.shard.id, err)
		}
		c.add(KeyObject{[]byte(key), obj})
	}
	return c, nil
}

// End ends the session if at this moment nothing is left to send and everything
// a snapshot showed is published; it returns the clock and floor of the moment.
// With mustSync the clock is not on stable storage yet, and must not leave the
// node before Set.SyncApplied has returned (R4).
func (o *Outgoing) End() (clock kv.Clock, floor kv.VV, mustSync, ended bool) {
	s := o.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone.Load() || !o.donor.Clean() || !s.set.committer.published(o.seen) || o.needsLiveLocked() {
		return kv.Clock{}, nil, false, false
	}
	s.copy.Close(o.donor)
	now := s.copy.Now()
	return now.Clock.Clone(), now.Floor, !s.copy.Synced().Covers(now.Clock), true
}
