package state

import (
	"slices"

	"edged.dev/edged/internal/kv"
)

// MaxDirty bounds the changed keys a session remembers; past it the session ends
// and the receiver asks again from what it then holds. It is some 4 MiB.
const MaxDirty = 64 << 10

// Donor is the sending side of one session for one partition: what changed since
// it began. The scan of the dot index and the draining are its owner's.
type Donor struct {
	Peer  kv.NodeID
	BaseS kv.VV    // the receiver's base, from HELLO
	Have  kv.Clock // the receiver's clock, from HELLO
	Held  kv.Clock // what it holds beside, its clock having been lost
	Range kv.Clock // published when the session began: what the scan covers

	dirty    map[string]struct{}
	queue    []string // the dirty keys in the order they were marked, so that a seed replays
	keep     kv.Clock
	overflow bool
}

// Open registers the sending side of a session towards peer, whose clock is
// have. From now on every published change is marked in it.
func (c *Copy) Open(peer kv.NodeID, have kv.Clock) *Donor {
	d := &Donor{
		Peer: peer, BaseS: have.Base(), Have: have.Clone(), Range: c.now.Clock.Clone(),
		dirty: map[string]struct{}{},
	}
	for _, key := range c.Beyond() {
		d.Dirty(key)
	}
	c.donors = append(c.donors, d)
	return d
}

// Close ends the sending side.
func (c *Copy) Close(d *Donor) {
	c.donors = slices.DeleteFunc(c.donors, func(x *Donor) bool { return x == d })
}

// mark notes a published change. What the receiver itself sent by a session of
// its present process is not sent back to it if the result has just its dots:
// those are kept instead, or two sessions in opposite directions would echo for
// ever. What came from it by another way may be what it has lost since.
func (d *Donor) mark(ch *Change, k *KeyChange) {
	_, dirty := d.dirty[string(k.Key)]
	if dirty {
		return
	}
	if in := ch.In; in != nil && in.Peer == d.Peer && !in.cancelled && !k.Sent.IsZero() && k.After.Object.SameDots(k.Sent) {
		for _, v := range k.Sent.Versions {
			if !d.BaseS.Has(v.Dot) {
				d.keep.Add(v.Dot)
			}
		}
		return
	}
	d.Dirty(string(k.Key))
}

// Dirty adds a key that is to be sent as it then is.
func (d *Donor) Dirty(key string) {
	if _, ok := d.dirty[key]; ok {
		return
	}
	if len(d.dirty) >= MaxDirty {
		d.overflow = true
		return
	}
	d.dirty[key] = struct{}{}
	d.queue = append(d.queue, key)
}

// Overflowed reports whether more keys changed than are remembered.
func (d *Donor) Overflowed() bool { return d.overflow }

// Keep adds dots that the receiver has and that are live here.
func (d *Donor) Keep(dot kv.Dot) { d.keep.Add(dot) }

// TakeKeep returns the dots to say KEEP for, and forgets them.
func (d *Donor) TakeKeep() kv.Clock {
	k := d.keep
	d.keep = kv.Clock{}
	return k
}

// TakeDirty removes up to n keys, the longest marked first, and returns them.
func (d *Donor) TakeDirty(n int) []string {
	n = min(n, len(d.queue))
	keys := slices.Clone(d.queue[:n])
	d.queue = d.queue[n:]
	for _, key := range keys {
		delete(d.dirty, key)
	}
	return keys
}

// Below reports whether the receiver is below a collection floor: there are dots
// up to the floor that the donor, whose clock is given, has seen and the receiver
// has not. What it holds may then be dead though no tombstone is left to say so.
// A hole that both share does not count. The floor is over all that the donor has
// sealed: of those actors it keeps no other.
func (d *Donor) Below(clock *kv.Clock, floor kv.VV) bool {
	return !d.Have.Covers(clock.UpTo(floor)) || !d.Have.CoversVV(clock.Seals())
}

// Clean reports whether nothing is left to send.
func (d *Donor) Clean() bool { return len(d.dirty) == 0 && d.keep.Len() == 0 }
