package sim

import "edged.dev/edged/internal/kv"

// A directed cluster does what a script has it do, and nothing else happens to it. Its
// owners are the members 0 to 2, in the order of placement; 3 stands in.

// Pass lets time pass, in milliseconds.
func (c *Cluster) Pass(ms int64) { c.runUntil(c.now + ms*millisecond) }

// Write has a client ask a member for a plain write.
func (c *Cluster) Write(i int, key string) {
	c.clients++
	c.members[i].route(key, request{client: c.clients, began: c.now})
}

// Read has a client ask a member for what its own copy holds.
func (c *Cluster) Read(i int) { c.members[i].read() }

// Crash ends a member's process.
func (c *Cluster) Crash(i int) { c.members[i].crash() }

// LoseDisk gives a member that is down an empty disk.
func (c *Cluster) LoseDisk(i int) { c.members[i].loseDisk() }

// BackUp keeps a copy of a member's disk.
func (c *Cluster) BackUp(i int) { c.members[i].backUp() }

// Restore gives a member that is down its disk as it was backed up.
func (c *Cluster) Restore(i int) { c.members[i].restore() }

// Boot starts a member that is down.
func (c *Cluster) Boot(i int) { c.members[i].boot() }

// Cut breaks the way between two members.
func (c *Cluster) Cut(i, j int) { c.split(c.members[i], c.members[j]) }

// Mend mends it.
func (c *Cluster) Mend(i, j int) { c.mend(c.members[i], c.members[j]) }

// Deafen has what a member sends another arrive only when so many milliseconds are over.
func (c *Cluster) Deafen(from, to int, ms int64) {
	c.deafenFor(c.members[from], c.members[to], ms*millisecond)
}

// Pause stops a member's process.
func (c *Cluster) Pause(i int) { c.stop(c.members[i]) }

// Resume lets it go on.
func (c *Cluster) Resume(i int) { c.resume(c.members[i]) }

// State returns what a member's copy does for requests.
func (c *Cluster) State(i int) kv.State { return c.members[i].part.State }

// Rest ends all faults, and looks once all must be level.
func (c *Cluster) Rest() {
	if len(c.broken) == 0 {
		c.rest()
	}
}
