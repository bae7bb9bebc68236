package sim

import (
	"math/rand/v2"
	"slices"
)

// write makes the next write, and a read.
func (c *Cluster) write() {
	if c.quiet {
		return
	}
	m := c.members[c.rng.IntN(clusterNodes)]
	if m.up && !m.paused && len(c.ops) < maxOps {
		c.clients++
		m.route(string(rune('a'+c.rng.IntN(2))), request{client: c.clients, began: c.now})
	}
	c.members[c.rng.IntN(clusterNodes)].read()
	c.after(c.between(5, 300), c.write)
}

// fault makes the next fault. Each draws from a source of its own, so that one may be
// left out and the others are the same.
func (c *Cluster) fault() {
	if c.quiet {
		return
	}
	number := c.faults
	c.faults++
	all := c.rng
	c.rng = rand.New(rand.NewPCG(c.seed, uint64(number)))
	next := c.between(200, 4000)
	switch c.mode {
	case Rejoin:
		next /= 2
	case Glimpses:
		next /= 4
	}
	if !slices.Contains(c.skip, number) {
		c.log("fault %d", number)
		c.makeFault(c.members[c.rng.IntN(clusterNodes)])
	}
	c.rng = all
	c.after(next, c.fault)
}

func (c *Cluster) makeFault(m *member) {
	x := c.rng.IntN(100)
	if c.mode == Rejoin {
		x = []int{0, 0, 0, 0, 0, 30, 56, 62, 70, 88, 92}[c.rng.IntN(11)]
	}
	if c.mode == Glimpses {
		x = []int{0, 30, 30, 30, 30, 62, 62, 70, 70, 70}[c.rng.IntN(10)]
	}
	switch {
	case x < 30:
		c.restart(m)
	case x < 50:
		c.cutLink(m, c.other(m))
	case x < 60: // off from everybody
		for _, o := range c.members {
			if o != m {
				c.cutLink(m, o)
			}
		}
	case x < 67:
		c.deafen(m, c.other(m))
	case x < 80:
		c.pause(m)
	case x < 87:
		c.log("all restart")
		for _, o := range c.members {
			c.restart(o)
		}
	case x < 90:
		c.stats.Jumps++
		m.skew = c.between(-3_600_000, 3_600_000)
		c.log("%s has its clock wrong by %d ms", m.name(), m.skew/millisecond)
	default:
		if m.up && !m.paused && m.index < Nodes {
			m.backUp()
		}
	}
}

// other returns some other member.
func (c *Cluster) other(m *member) *member {
	return c.members[(m.index+1+c.rng.IntN(clusterNodes-1))%clusterNodes]
}

// lasting is how long a fault lasts, in milliseconds up to a most; glimpses end about
// where what nodes believe of each other does.
func (c *Cluster) lasting(most int64) int64 {
	if c.mode == Glimpses {
		return c.between(200, 2500)
	}
	return c.between(100, most)
}

// idleTimeout is how long a connection lasts of which nothing arrives any more.
const idleTimeout = 3 * second

// deafen loses what one node sends another, for a while. A transport sends it again
// until it gives the connection up, so it arrives late or never; and nobody connects
// meanwhile.
func (c *Cluster) deafen(from, to *member) {
	if c.deaf[from.index][to.index] <= c.now {
		c.deafenFor(from, to, c.lasting(6000))
	}
}

func (c *Cluster) deafenFor(from, to *member, d int64) {
	c.stats.Deaf++
	until := c.now + d
	c.log("%s does not hear %s any more", to.name(), from.name())
	c.deaf[from.index][to.index] = until
	e := c.epoch[from.index][to.index]
	if e == 0 || until-c.now < idleTimeout {
		return
	}
	c.after(idleTimeout, func() {
		if c.epoch[from.index][to.index] == e && c.deaf[from.index][to.index] > c.now {
			c.disconnect(from, to)
			c.redial(from, to)
		}
	})
}

// restart crashes a node and boots it a while later, at times with another disk.
func (c *Cluster) restart(m *member) {
	if !m.up {
		return
	}
	m.crash()
	switch {
	case m.index >= Nodes: // no promise leans on its disk
		if c.rng.IntN(3) == 0 {
			m.loseDisk()
		}
	case c.budget && !onlyRestores(c.lie) && c.rng.IntN(4) == 0:
		m.loseDisk()
	case c.budget && m.saved && (onlyRestores(c.lie) || c.rng.IntN(3) == 0):
		m.restore()
	}
	c.after(c.between(10, 4000), func() {
		if !m.up {
			m.boot()
			if c.mode == Rejoin {
				c.press(m, m.life)
			}
		}
	})
}

// loseDisk replaces the directory of a node that is down by an empty one.
func (m *member) loseDisk() {
	c := m.c
	c.log("%s loses its disk", m.name())
	m.former = append(m.former, uint64(m.id))
	m.store, m.id, m.saved, m.kept = NewStore(), c.newID(), false, told{}
	if m.index < Nodes {
		c.stats.Wipes++
		m.lost, m.rolled, c.budget = true, false, false
	}
}

// backUp keeps a copy of a node's directory.
func (m *member) backUp() {
	m.backup, m.backed, m.saved = m.store.Backup(), m.kept.clone(), true
	m.c.log("%s is backed up", m.name())
}

// restore replaces the directory of a node that is down by its backup.
func (m *member) restore() {
	c := m.c
	c.log("%s is restored", m.name())
	c.stats.Restores++
	m.store.Restore(m.backup)
	m.kept = m.backed.clone()
	m.lost, m.rolled, c.budget = true, true, false
}

// press asks a node that returned again and again, from its first moment on.
func (c *Cluster) press(m *member, life int) {
	if m.life != life || c.now > m.since+5*second {
		return
	}
	m.read()
	c.after(10*millisecond, func() { c.press(m, life) })
}

// onlyRestores reports whether a broken rule shows with disks that were rolled
// back, so that those are all that is lost.
func onlyRestores(lie Lie) bool { return lie == LieNotLost || lie == LieForgets }

// cutLink breaks the way between two nodes for a while.
func (c *Cluster) cutLink(a, b *member) {
	if c.cut[a.index][b.index] {
		return
	}
	c.split(a, b)
	c.after(c.lasting(8000), func() { c.mend(a, b) })
}

// split breaks the way between two nodes until it is mended.
func (c *Cluster) split(a, b *member) {
	c.stats.Cuts++
	c.log("%s and %s are cut", a.name(), b.name())
	c.setCut(a, b, true)
	c.disconnect(a, b)
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
	c.stop(m)
	life := m.life
	c.after(c.lasting(6000), func() {
		if m.life == life && m.paused {
			c.resume(m)
		}
	})
}

func (c *Cluster) stop(m *member) {
	c.stats.Pauses++
	c.log("%s is stopped", m.name())
	m.paused, m.pausedAt = true, c.now
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
	c.deaf = [clusterNodes][clusterNodes]int64{}
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
