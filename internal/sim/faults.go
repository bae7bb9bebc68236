package sim

import "edged.dev/edged/internal/kv"

// write makes the next write, and a read.
func (c *Cluster) write() {
	if c.quiet {
		return
	}
	m := c.members[c.rng.IntN(Nodes)]
	if m.up && !m.paused && len(c.ops) < maxOps {
		m.write([]byte{byte('a' + c.rng.IntN(4))})
	}
	c.members[c.rng.IntN(Nodes)].read()
	c.after(c.between(5, 300), c.write)
}

// fault makes the next fault.
func (c *Cluster) fault() {
	if c.quiet {
		return
	}
	m := c.members[c.rng.IntN(Nodes)]
	switch x := c.rng.IntN(100); {
	case x < 30:
		c.restart(m)
	case x < 55:
		c.cutLink(m, c.members[(m.index+1)%Nodes])
	case x < 65: // off from everybody
		c.cutLink(m, c.members[(m.index+1)%Nodes])
		c.cutLink(m, c.members[(m.index+2)%Nodes])
	case x < 80:
		c.pause(m)
	case x < 88:
		c.log("all restart")
		for _, o := range c.members {
			c.restart(o)
		}
	default:
		if m.up && !m.paused {
			m.backup, m.backed, m.saved = m.store.Backup(), m.kept.clone(), true
			c.log("%s is backed up", m.name())
		}
	}
	c.after(c.between(200, 4000), c.fault)
}

// restart crashes a node and boots it a while later, at times with another disk.
func (c *Cluster) restart(m *member) {
	if !m.up {
		return
	}
	m.crash()
	switch {
	case c.budget && !onlyRestores(c.lie) && c.rng.IntN(4) == 0:
		c.log("%s loses its disk", m.name())
		c.stats.Wipes++
		m.store, m.id, m.saved, m.kept = NewStore(), c.newID(), false, told{}
		m.lost, m.rolled, c.budget = true, false, false
	case c.budget && m.saved && (onlyRestores(c.lie) || c.rng.IntN(3) == 0):
		c.log("%s is restored", m.name())
		c.stats.Restores++
		m.store.Restore(m.backup)
		m.kept = m.backed.clone()
		m.lost, m.rolled, c.budget = true, true, false
	}
	c.after(c.between(10, 4000), func() {
		if !m.up {
			m.boot()
		}
	})
}

// onlyRestores reports whether a broken rule shows with disks that were rolled
// back, so that those are all that is lost.
func onlyRestores(lie Lie) bool { return lie == LieNotLost || lie == LieForgets }

// cutLink breaks the way between two nodes for a while.
func (c *Cluster) cutLink(a, b *member) {
	if c.cut[a.index][b.index] {
		return
	}
	c.stats.Cuts++
	c.log("%s and %s are cut", a.name(), b.name())
	c.setCut(a, b, true)
	c.disconnect(a, b)
	c.after(c.between(50, 8000), func() { c.mend(a, b) })
}

func (c *Cluster) setCut(a, b *member, cut bool) {
	c.cut[a.index][b.index], c.cut[b.index][a.index] = cut, cut
}

func (c *Cluster) mend(a, b *member) {
	if c.cut[a.index][b.index] {
		c.setCut(a, b, false)
		c.redial(a, b)
	}
}

// pause stops a process for a while; it goes on as if nothing had been.
func (c *Cluster) pause(m *member) {
	if !m.up || m.paused {
		return
	}
	c.stats.Pauses++
	c.log("%s is stopped", m.name())
	m.paused, m.pausedAt = true, c.now
	life := m.life
	c.after(c.between(100, 6000), func() {
		if m.life == life && m.paused {
			c.resume(m)
		}
	})
}

// leaseGrace is a pause that the lease may not notice.
const leaseGrace = 2 * second

// resume lets a process go on. After a pause that its lease outlived it must
// know all that was acknowledged until now before it answers.
func (c *Cluster) resume(m *member) {
	c.log("%s goes on", m.name())
	m.paused = false
	if c.now-m.pausedAt > leaseGrace {
		m.since = max(m.since, c.now)
	}
	m.read() // the first thing it does may be to answer
	inbox := m.inbox
	m.inbox = nil
	for _, fn := range inbox {
		fn()
	}
}

// heal ends all faults and writes.
func (c *Cluster) heal() {
	c.log("heals")
	c.quiet = true
	for i, a := range c.members {
		if !a.up {
			a.boot()
		}
		if a.paused {
			c.resume(a)
		}
		for _, b := range c.members[i+1:] {
			c.mend(a, b)
		}
	}
}

// State returns what a member's copy does for requests.
func (c *Cluster) State(i int) kv.State { return c.members[i].part.State }
