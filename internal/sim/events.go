package sim

// table is what may happen, with its weights.
func (w *World) table() []event {
	m := &w.mix
	return []event{
		{m.Write, w.randomWrite},
		{m.Deliver, w.randomDeliver},
		{m.Commit, w.randomCommit},
		{m.Sync, func() {
			if n := w.someNode(); n != nil {
				w.log("n%d syncs", n.index)
				n.Sync()
			}
		}},
		{m.Crash, w.randomCrash},
		{m.Boot, w.randomBoot},
		{m.Begin, w.randomBegin},
		{m.Donate, func() {
			if s := w.someSession(); s != nil {
				w.learn(s)
				s.Donate()
			}
		}},
		{m.Receive, func() {
			if s := w.someSession(); s != nil {
				s.Receive()
			}
		}},
		{m.Abort, func() {
			if s := w.someSession(); s != nil {
				s.Abort()
			}
		}},
		{m.Backup, func() {
			n := w.nodes[w.rng.IntN(len(w.nodes))]
			if n.spoilt != nil {
				return // the record is lost, and to put that back is another loss
			}
			w.log("n%d is backed up", n.index)
			n.saveBackup()
		}},
		{m.Barrier, func() {
			if w.chance(150) {
				w.Heal()
			}
		}},
		{m.Read, w.randomRead},
		{m.Collect, w.randomCollect},
		{m.Reap, w.randomReap},
		{m.Evict, w.randomEvict},
		{m.Break, w.randomBreak},
		{m.Offer, w.randomOffer},
		{m.Jump, func() {
			n := w.nodes[w.rng.IntN(len(w.nodes))]
			w.drawSkew(n)
			w.stats.Jumps++
			w.log("n%d has its clock wrong by %d", n.index, n.skew)
		}},
		{m.Seal, w.randomSeal},
		{m.Catch, w.randomCatch},
		{m.Orphan, w.randomOrphan},
	}
}

// someNode returns an owner that is up, nil if there is none.
func (w *World) someNode() *Node { return w.someOf(w.owners()) }

func (w *World) someOf(nodes []*Node) *Node {
	up := make([]*Node, 0, maxNodes)
	for _, n := range nodes {
		if n.up {
			up = append(up, n)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[w.rng.IntN(len(up))]
}

// someSession returns one that has not ended, nil if there is none.
func (w *World) someSession() *Session {
	live := w.sessions[:0]
	for _, s := range w.sessions {
		if !s.done {
			live = append(live, s)
		}
	}
	w.sessions = live
	if len(live) == 0 {
		return nil
	}
	return live[w.rng.IntN(len(live))]
}

func (w *World) randomWrite() {
	n := w.someNode()
	if n == nil {
		return
	}
	m := &w.mix
	p := Put{Key: w.rng.IntN(len(w.keys)), Delete: w.chance(m.DeletePM)}
	if n.quarantined(w.partOf(p.Key)) {
		return // it does not serve
	}
	if w.chance(m.TTLPM) {
		p.Expires = w.now + 10*int64(1+w.rng.IntN(60))
	}
	switch {
	case w.chance(m.BlindPM):
	case w.chance(m.TokenPM):
		reader := w.someNode()
		if reader.quarantined(w.partOf(p.Key)) {
			reader = n
		}
		p.Token = w.pickToken(w.ReadToken(reader, p.Key))
	default:
		p.Held = true
	}
	w.Write(n, p)
}

// pickToken keeps a token and returns it, or one that was kept long ago.
func (w *World) pickToken(t *Token) *Token {
	w.tokens = append(w.tokens, t)
	if len(w.tokens) > 40 {
		w.tokens = w.tokens[1:]
	}
	old := w.tokens[w.rng.IntN(len(w.tokens))]
	switch {
	case w.bug == BugForeignToken && old.key != t.key && w.chance(w.bugPM(300)):
		return old
	case old.key == t.key && w.chance(w.mix.OldTokenPM):
		return old
	}
	return t
}

func (w *World) randomDeliver() {
	if len(w.net) > 0 {
		w.deliver(w.rng.IntN(len(w.net)))
	}
}

func (w *World) randomCommit() {
	n := w.someOf(w.nodes)
	if n == nil {
		return
	}
	n.store.FailNext(w.chance(w.mix.DieInCommitPM))
	if w.chance(w.mix.PeekPM) {
		n.store.Between(func() { w.peek(n) })
	}
	n.commitGroup() // what was planned meanwhile stays planned
	n.store.FailNext(false)
	n.store.Between(nil)
}

func (w *World) randomCrash() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if !n.up {
		return
	}
	keep := len(n.tail) // the process dies; the machine lives on and syncs
	if keep > 0 && w.chance(500) {
		keep = w.rng.IntN(keep + 1)
	}
	w.Crash(n, keep)
	if !n.owner() {
		if w.chance(w.mix.LossPM) { // no copy of its counts
			w.LoseDisk(n)
		}
		return
	}
	if !w.budget || w.mix.LossPM+w.mix.RecordPM == 0 {
		return
	}
	switch {
	case w.chance(w.mix.LossPM):
		w.LoseDisk(n)
	case n.hasBackup && w.chance(w.mix.RestorePM):
		w.Restore(n)
	case w.chance(w.mix.RecordPM):
		w.LoseRecords(n, w.parts[w.rng.IntN(len(w.parts)):])
	}
}

// peek is what others do to a node whose commit is visible and not published:
// they plan on, and sessions read.
func (w *World) peek(n *Node) {
	n.store.Between(nil)
	n.peeked = true
	if n.owner() && w.chance(300) && len(n.set.InQuarantine()) == 0 {
		w.Write(n, Put{Key: w.rng.IntN(len(w.keys)), Held: w.chance(700), Delete: w.chance(w.mix.DeletePM)})
	}
	for range 2 {
		w.randomDeliver()
	}
	for _, s := range w.sessions {
		if s.from == n && w.chance(500) {
			for range 1 + w.rng.IntN(6) {
				s.Donate()
			}
		}
	}
	n.peeked = false
}

// randomBreak crashes the receiver of a session that has brought something.
func (w *World) randomBreak() {
	s := w.someSession()
	if s == nil || !s.receiverLives() || s.sofar.Len() == 0 {
		return
	}
	if s.to.Commit(); s.to.up {
		w.Crash(s.to, len(s.to.tail))
	}
}

func (w *World) randomBoot() {
	if n := w.nodes[w.rng.IntN(len(w.nodes))]; !n.up {
		w.Boot(n)
	}
}

func (w *World) randomBegin() {
	to, from := w.nodes[w.rng.IntN(Nodes)], w.nodes[w.rng.IntN(len(w.nodes))]
	w.someSession() // forgets those that have ended
	if to == from || !to.up || !from.up || len(w.sessions) >= w.mix.MaxSessions {
		return
	}
	if p := w.parts[w.rng.IntN(len(w.parts))]; from.gives(p) {
		w.Begin(to, from, p)
	}
}

func (w *World) randomCatch() {
	to, from := w.nodes[w.rng.IntN(Nodes)], w.nodes[w.rng.IntN(len(w.nodes))]
	if p := w.parts[w.rng.IntN(len(w.parts))]; to != from && to.up && from.up && from.holds(p) {
		w.Catch(to, from, p)
	}
}

// learn has a donor that has scanned catch up with some other node, at times.
func (w *World) learn(s *Session) {
	if !s.scanned || !s.donorLives() || !w.chance(w.mix.LearnPM) {
		return
	}
	from := w.someNode()
	if from == s.from {
		return
	}
	if w.chance(w.mix.ErasePM) {
		w.erase(from, w.rng.IntN(len(w.keys)))
	}
	w.Catch(s.from, from, s.part)
}

// erase has a node delete a key, and give the tombstone up at once.
func (w *World) erase(n *Node, key int) {
	if n.quarantined(w.partOf(key)) {
		return
	}
	w.Write(n, Put{Key: key, Held: true, Delete: true})
	n.Commit()
	w.Collect(n, w.partOf(key), true)
	n.Commit()
}

func (w *World) randomOrphan() {
	n := w.someNode()
	if n == nil || !w.budget || len(n.set.InQuarantine()) > 0 {
		return
	}
	w.Write(n, Put{Key: w.rng.IntN(len(w.keys)), Held: w.chance(700), Delete: w.chance(w.mix.DeletePM)})
	if n.Commit(); n.up {
		w.Crash(n, len(n.tail))
		w.LoseDisk(n)
		w.Boot(n)
	}
}

// Crash ends a node's process. Of the commits that were not synced the first
// keep are durable.
func (w *World) Crash(n *Node, keep int) {
	w.log("n%d crashes and keeps %d of %d", n.index, keep, len(n.tail))
	w.stats.Crashes++
	n.crash(keep)
}

// LoseDisk replaces the directory of a node that is down by an empty one.
func (w *World) LoseDisk(n *Node) {
	w.log("n%d loses its disk", n.index)
	w.stats.Losses++
	n.loseDisk()
}

// Restore replaces the directory of a node that is down by its backup.
func (w *World) Restore(n *Node) {
	w.log("n%d is restored", n.index)
	w.stats.Restores++
	n.restore()
}

// Boot starts a node. Sessions with its former process end at their other side
// before the new one is heard of.
func (w *World) Boot(n *Node) {
	for _, s := range w.sessions {
		if s.to == n || s.from == n {
			s.Abort()
		}
	}
	w.log("n%d boots", n.index)
	n.start()
}
