package state

import (
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
)

// Entry is an object as it is stored: Session names the session record that its
// context leans on besides Object.Ctx, 0 for none.
type Entry struct {
	Object  kv.Object
	Session uint64
}

// IsZero reports whether there is nothing to store.
func (e Entry) IsZero() bool { return e.Object.IsZero() && e.Session == 0 }

// Complex reports whether the version scan cannot tell the whole object: it has
// several versions, or an explicit context.
func (e Entry) Complex() bool { return len(e.Object.Versions) > 1 || len(e.Object.Ctx) > 0 }

// KeyChange is what a Change does to one key.
type KeyChange struct {
	Key    []byte
	Before Entry
	After  Entry
	Whole  kv.Object // After with its context explicit, session record included
	Sent   kv.Object // what a peer sent, filled; zero for local writes
}

// Change is one planned step of a copy. All of it is committed in one batch.
type Change struct {
	Keys  []KeyChange
	Dots  []kv.Dot  // seen with this change
	Clock *kv.Clock // joined as a whole: a session's end
	Floor kv.VV     // joined first
	Fence kv.VV     // seals promised
	Trust *kv.Trust // set
	In    *Incoming // the session it came by, nil: another way

	AddSession  uint64 // id of a session record made with this change, 0: none
	SessionBase kv.VV
	DropSession []uint64 // records the base has come to cover

	Base   kv.VV // the planned base right after this change: fills what is sent
	Below  kv.VV // the planned floor then: goes with what is sent (R5)
	Digest Delta
	Alters bool // the copy record must be written
	Heals  bool // it stands for what no change did: exact versions in and out (L4)

	// Most changes are of one key and one dot: these are where they lie.
	oneDot [1]kv.Dot
	oneKey [1]KeyChange

	published *bool // for the sessions that noted it; nil: none did
}

// note remembers a version of the change in the receiving sides that do not bring it.
func (c *Copy) note(ch *Change, d kv.Dot, key []byte) {
	for _, in := range c.incomings {
		if in == ch.In {
			continue
		}
		if ch.published == nil {
			ch.published = new(bool)
		}
		in.note(d, key, ch.published)
	}
}

// Delta is the difference a change makes to a digest.
type Delta struct{ Add, Sub merkle.Digest }

// Filled returns the object of the i-th key as it leaves the node.
func (ch *Change) Filled(i int) kv.Object { return ch.Keys[i].Whole.Filled(ch.Base) }

func (c *Copy) digestDelta(key []byte, before, after kv.Object) (d Delta) {
	d.Add, d.Sub = Differ(c.digestKey, key, before, after)
	return d
}

// Differ returns the digests of the values that a change of a key adds and takes
// away.
func Differ(k merkle.Key, key []byte, before, after kv.Object) (add, sub merkle.Digest) {
	for _, v := range before.Versions {
		if _, kept := after.Find(v.Dot); !kept && !v.Tombstone() {
			sub = sub.Add(Item(k, key, v))
		}
	}
	for _, v := range after.Versions {
		if _, had := before.Find(v.Dot); !had && !v.Tombstone() {
			add = add.Add(Item(k, key, v))
		}
	}
	return add, sub
}

func (c *Copy) item(key []byte, v kv.Version) merkle.Digest {
	return Item(c.digestKey, key, v)
}

// Item returns the digest of one version, by which copies are compared.
func Item(k merkle.Key, key []byte, v kv.Version) merkle.Digest {
	item := merkle.Item{Key: key, Seq: v.Dot.Seq, Expiry: uint64(v.ExpiresMS), ValueHash: v.ValueSum()}
	v.Dot.Actor.Append(item.Actor[:0])
	return item.Digest(k)
}
