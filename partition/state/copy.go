package state

import (
	"maps"
	"slices"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/merkle"
)

// Published is the committed state of a copy, as its record holds it. Once it is
// published nothing in it changes; the next one takes its place.
type Published struct {
	Trust    kv.Trust
	Clock    kv.Clock
	Floor    kv.VV
	Fence    kv.VV // seals of former processes of which nothing late is taken
	Digest   merkle.Digest
	Sessions map[uint64]kv.VV // records of unfinished sessions
}

// next returns a state that may be changed without changing p. Sessions are
// shared until own is called.
func (p Published) next() Published {
	p.Clock = p.Clock.Clone()
	return p
}

// own makes Sessions p's own before changes that touch them.
func (p *Published) own(changes []*Change) {
	if slices.ContainsFunc(changes, func(ch *Change) bool { return ch.AddSession != 0 || len(ch.DropSession) > 0 }) {
		p.Sessions = maps.Clone(p.Sessions)
	}
}

// Copy is one copy of a partition. Not safe for concurrent use.
type Copy struct {
	id        kv.Partition
	actor     kv.Actor
	digestKey merkle.Key

	seq      uint64 // last dot planned
	clock    kv.Clock
	base     kv.VV // of clock; replaced, never changed
	floor    kv.VV
	fence    kv.VV
	sessions map[uint64]kv.VV

	now     Published
	nowBase kv.VV
	synced  kv.Clock
	at      uint64           // how many states were published
	upTo    uint64           // which of them synced is of
	complex map[string]kv.VV // key -> explicit context, of published objects

	donors    []*Donor
	incomings []*Incoming
}

// New returns the copy that was published as p, under an actor that has never
// issued a dot. complex has the published objects that are complex and their
// explicit contexts; the copy takes both over.
func New(id kv.Partition, actor kv.Actor, key merkle.Key, p Published, complex map[string]kv.VV) *Copy {
	if complex == nil {
		complex = map[string]kv.VV{}
	}
	if p.Sessions == nil {
		p.Sessions = map[uint64]kv.VV{}
	}
	c := &Copy{
		id: id, actor: actor, digestKey: key,
		clock: p.Clock.Clone(), base: p.Clock.Base(), floor: p.Floor, fence: p.Fence, sessions: maps.Clone(p.Sessions),
		now: p, nowBase: p.Clock.Base(), synced: p.Clock.Clone(), complex: complex,
	}
	return c
}

// ID returns the partition's number.
func (c *Copy) ID() kv.Partition { return c.id }

// Actor returns the incarnation.
func (c *Copy) Actor() kv.Actor { return c.actor }

// Issued returns the last dot that was planned here.
func (c *Copy) Issued() kv.Dot { return kv.Dot{Actor: c.actor, Seq: c.seq} }

// Now returns the published state; the caller must not change it.
func (c *Copy) Now() *Published { return &c.now }

// NowBase returns the published base.
func (c *Copy) NowBase() kv.VV { return c.nowBase }

// Synced returns the clock that is on stable storage, the only one that leaves
// the node as a clock (R4). The caller must not change it.
func (c *Copy) Synced() *kv.Clock { return &c.synced }

// PlannedBase returns the base that has every accepted change.
func (c *Copy) PlannedBase() kv.VV { return c.base }

// PlannedClock returns the clock that has every accepted change. The caller must not
// change it.
func (c *Copy) PlannedClock() *kv.Clock { return &c.clock }

// Load returns the object of a planned entry with its context explicit: what a
// session record says is in it.
func (c *Copy) Load(e Entry) kv.Object { return load(e, c.sessions, c.base) }

// LoadNow does the same for a published entry.
func (c *Copy) LoadNow(e Entry) kv.Object { return load(e, c.now.Sessions, c.nowBase) }

func load(e Entry, sessions map[uint64]kv.VV, base kv.VV) kv.Object {
	o := e.Object
	if e.Session != 0 {
		if r, ok := sessions[e.Session]; ok { // a record that is gone is covered by the base
			o.Ctx = o.Ctx.Join(r.Beyond(base))
		}
	}
	return o
}

// store returns the entry of an object under the planned base: stripped, and
// leaning on a session record where that holds all or part of the context.
func (c *Copy) store(o kv.Object, session uint64) Entry {
	o = c.strip(o)
	r, ok := c.sessions[session]
	if !ok || len(o.Ctx) == 0 {
		return Entry{Object: o}
	}
	rest := o.Ctx.Beyond(r)
	if len(rest) == len(o.Ctx) {
		return Entry{Object: o}
	}
	o.Ctx = rest
	return Entry{o, session}
}

// strip returns an object without what the planned base covers and what its own dots
// imply: those that the clock has, for others imply nothing.
func (c *Copy) strip(o kv.Object) kv.Object {
	if len(o.Ctx) == 0 {
		return kv.Object{Versions: o.Versions}
	}
	claimed := o.Versions
	if i := slices.IndexFunc(claimed, c.unclaimed); i >= 0 {
		claimed = slices.DeleteFunc(slices.Clone(claimed), c.unclaimed)
	}
	return kv.Object{Versions: o.Versions, Ctx: kv.Object{Versions: claimed, Ctx: o.Ctx}.Stripped(c.base).Ctx}
}

func (c *Copy) unclaimed(v kv.Version) bool { return !c.clock.Has(v.Dot) }

// Beyond returns, in order, the keys of complex objects whose context the
// published clock does not cover: they are part of every stream (R5).
func (c *Copy) Beyond() []string {
	var keys []string
	for key, ctx := range c.complex {
		if len(ctx) > 0 && !c.now.Clock.CoversVV(ctx) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Complex returns, in no order, the keys of published objects that have several dots or
// a context of their own.
func (c *Copy) Complex() []string {
	keys := make([]string, 0, len(c.complex))
	for key := range c.complex {
		keys = append(keys, key)
	}
	return keys
}

// Leans reports whether a session record exists that the published clock does
// not cover, so that an object's context may be beyond the clock unseen.
func (c *Copy) Leans() bool {
	for _, r := range c.now.Sessions {
		if !c.now.Clock.CoversVV(r) {
			return true
		}
	}
	return false
}
