package sim

import "edged.dev/edged/internal/kv"

const (
	// healRounds is how often all ordered pairs sync until clocks must be equal.
	// The first collects, the second spreads; a third finds nothing.
	healRounds = 3
	// sessionSteps bounds a session without writes beside it: a handful of keys,
	// each sent a few times at worst.
	sessionSteps = 300
)

// Heal starts all nodes, loses what the network holds, ends the sessions, and
// syncs every pair until all copies are equal. Then one may rot, and is healed.
func (w *World) Heal() {
	w.level()
	if len(w.violations) == 0 && w.bug == NoBug {
		w.dropHeld()
	}
	if len(w.violations) == 0 && w.chance(w.mix.RotPM) {
		w.randomRot()
	}
	if len(w.violations) == 0 {
		w.keepLevel()
	}
}

// keepLevel keeps what copies hold when all are level.
func (w *World) keepLevel() {
	if w.equal() {
		w.KeepLevel()
	}
}

func (w *World) level() {
	w.log("heals")
	w.net = nil
	for _, s := range w.sessions {
		s.Abort()
	}
	w.sessions = nil
	for _, n := range w.nodes {
		if !n.up {
			w.Boot(n)
		}
	}
	w.settle()
	w.net = nil
	a := w.rng.IntN(Nodes)
	if b, p := w.nodes[(a+1)%Nodes], w.parts[w.rng.IntN(len(w.parts))]; w.nodes[a].gives(p) && b.gives(p) {
		w.CatchBoth(w.nodes[a], b, p)
	}
	for range healRounds {
		for _, p := range w.parts {
			w.syncAll(p)
		}
		w.net = nil
		if len(w.violations) > 0 || w.equal() && w.budget {
			return
		}
	}
}

func (w *World) settle() {
	for _, n := range w.nodes {
		n.Commit()
		if !n.up { // it died in this commit
			w.Boot(n)
		}
		n.Sync()
	}
}

func (w *World) syncAll(p kv.Partition) {
	for _, to := range w.owners() {
		for _, from := range w.nodes {
			if to != from && from.holds(p) && len(w.violations) == 0 {
				w.Catch(to, from, p)
			}
		}
	}
}

func (w *World) equal() bool {
	for _, p := range w.parts {
		for _, n := range w.owners()[1:] {
			if !n.copies[p].status.Clock.Equal(w.nodes[0].copies[p].status.Clock) {
				return false
			}
		}
	}
	return true
}

// Catch runs one session to its end and makes its effect durable; none, if the donor
// gives nothing.
func (w *World) Catch(to, from *Node, p kv.Partition) {
	if !from.gives(p) {
		return
	}
	s := w.Begin(to, from, p)
	for range sessionSteps {
		more := s.Donate()
		for s.Receive() {
			more = true
		}
		to.Commit()
		if s.done {
			to.Sync()
			return
		}
		if !more {
			break
		}
	}
	w.fail("I15", "s%d does not end", s.id)
}

// CatchBoth runs a session in each direction at the same time, which must end:
// neither may send back what the other sent.
func (w *World) CatchBoth(a, b *Node, p kv.Partition) {
	x, y := w.Begin(a, b, p), w.Begin(b, a, p)
	for range sessionSteps {
		for _, s := range []*Session{x, y} {
			s.Donate()
			s.Receive()
			s.to.Commit()
		}
		if x.done && y.done {
			w.settle()
			return
		}
	}
	w.fail("I15", "s%d and s%d do not end", x.id, y.id)
}
