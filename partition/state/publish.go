package state

import "edged.dev/edged/internal/kv"

// Stage returns what is published once the changes are committed, in the order
// they were planned. Nothing of the copy changes yet.
func (c *Copy) Stage(changes []*Change) Published {
	next := c.now.next()
	next.own(changes)
	for _, ch := range changes {
		next.take(ch)
	}
	return next
}

func (p *Published) take(ch *Change) {
	p.Floor = p.Floor.Join(ch.Floor)
	p.Fence = p.Fence.Join(ch.Fence)
	for _, d := range ch.Dots {
		p.Clock.Add(d)
	}
	if ch.Clock != nil {
		p.Clock.Join(*ch.Clock)
		if seals := p.Clock.Seals(); len(seals) > 0 {
			p.Floor, p.Fence = p.Floor.Beyond(seals), p.Fence.Beyond(seals)
		}
	}
	if ch.Trust != nil {
		p.Trust = *ch.Trust
	}
	if ch.AddSession != 0 {
		p.Sessions[ch.AddSession] = ch.SessionBase
	}
	for _, id := range ch.DropSession {
		delete(p.Sessions, id)
	}
	p.Digest = p.Digest.Add(ch.Digest.Add).Sub(ch.Digest.Sub)
}

// Publish makes a staged state the published one, in one step with the marks in
// the sessions that stream from this copy. synced says that it is on stable
// storage already.
func (c *Copy) Publish(next Published, changes []*Change, synced bool) {
	c.now = next
	c.nowBase = next.Clock.Base()
	c.at++
	if synced {
		c.Sync(c.Point())
	}
	for _, ch := range changes {
		if ch.published != nil {
			*ch.published = true
		}
		for i := range ch.Keys {
			c.publishKey(ch, &ch.Keys[i])
		}
	}
	for _, in := range c.incomings {
		in.settle()
	}
}

// Point is a published state of a copy, by which Sync is told of it later.
type Point struct {
	clock kv.Clock // never changed once it is published
	at    uint64
}

// Point returns the state that is published now.
func (c *Copy) Point() Point { return Point{c.now.Clock, c.at} }

// Sync says that a state published earlier has reached stable storage. A later one may
// have reached it before.
func (c *Copy) Sync(p Point) {
	if p.at > c.upTo {
		c.synced, c.upTo = p.clock, p.at
	}
}

func (c *Copy) publishKey(ch *Change, k *KeyChange) {
	if k.After.Complex() {
		c.complex[string(k.Key)] = k.After.Object.Ctx
	} else {
		delete(c.complex, string(k.Key))
	}
	for _, d := range c.donors {
		d.mark(ch, k)
	}
}
