package replica

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// remote is what the shell keeps of a connected peer.
type remote struct {
	name string
	node kv.NodeID
	boot uint32

	pongAt   atomic.Int64 // stamp of the newest PING it answered
	askedAt  atomic.Int64 // stamp of the oldest PING since, which it has not; 0: none
	offsetMS atomic.Int64 // its wall clock minus the boot-time clock here, once that is known
	rttNS    atomic.Int64
	stateDue atomic.Bool // the last STATE did not get into the queue

	clockKnown atomic.Bool // it has told its wall clock

	load atomic.Pointer[wire.Load] // as it told last; nil: it has not
	heat atomic.Pointer[wire.Heat] // as it told in its last answer to a HELLO that asked; nil: it has not

	mu     sync.Mutex
	flight []inFlight             // ascending
	floors map[kv.Partition]kv.VV // that it was sent, by this connection
	gone   bool                   // the connection ended: nothing more is sent by way of it

	lastSeq uint64 // of the last write of theirs; the live stream's reader alone has it

	ackMu   sync.Mutex
	applied uint64                  // highest write of theirs that is published here
	touched map[kv.Partition]string // and who was first there then, in this node's view
	told    map[kv.Partition]int64  // when it was told what other coordinators' writes there are
}

// inFlight is a replicated write that waits for its ACK.
type inFlight struct {
	seq  uint64
	part kv.Partition
	wait *waiting
}

// forgetFloors has the floors told again.
func (p *remote) forgetFloors() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.floors)
}

// standsIn reports whether a peer is no owner of a partition.
func (r *Replica) standsIn(name string, p kv.Partition) bool {
	part := r.part(p)
	return part != nil && !slices.Contains(part.Owners, name)
}

// PeerUp tells of a connection to a member.
func (r *Replica) PeerUp(name string, node kv.NodeID, boot uint32) {
	p := &remote{name: name, node: node, boot: boot, touched: map[kv.Partition]string{}, told: map[kv.Partition]int64{}, floors: map[kv.Partition]kv.VV{}}
	p.pongAt.Store(r.cfg.Boottime()) // the handshake was a sign of life
	r.peersMu.Lock()
	old := r.peers[name]
	r.peers[name] = p
	r.boundTimeLocked()
	r.peersMu.Unlock()
	if old != nil {
		old.end()
	}
	r.step(core.PeerUp{Name: name, Node: node, Boot: boot})
	p.stateDue.Store(r.cfg.Peers.SendControl(name, r.state().Append(nil)) != nil)
	r.pingAll()
}

// PeerDown tells that it ended.
func (r *Replica) PeerDown(name string, boot uint32) {
	r.peersMu.Lock()
	p := r.peers[name]
	if p == nil || p.boot != boot {
		r.peersMu.Unlock()
		return
	}
	delete(r.peers, name)
	r.boundTimeLocked()
	r.peersMu.Unlock()
	p.end()
	r.cutSessions(name)
	r.step(core.PeerDown{Name: name, Boot: boot})
}

func (r *Replica) remote(name string) *remote {
	r.peersMu.RLock()
	defer r.peersMu.RUnlock()
	return r.peers[name]
}

func (r *Replica) remotes() []*remote {
	r.peersMu.RLock()
	defer r.peersMu.RUnlock()
	out := make([]*remote, 0, len(r.peers))
	for _, p := range r.peers {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *remote) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return out
}

// fresh reports whether a peer gave a sign of life lately enough to wait for it.
func (r *Replica) fresh(p *remote) bool {
	return p != nil && r.cfg.Boottime() < p.pongAt.Load()+core.Fresh
}

// quietAfter is for how long a PING may be without an answer, beside four round trips,
// until no write is sent to the peer: longer than a process that is there pauses in the
// common case.
const quietAfter = int64(100 * time.Millisecond)

// quiet reports whether a peer may have died: it owes the answer to a PING. What is sent to
// it now would end as unknown if it has; what waits until it answers, or until others take
// over, is known not to have been done.
func (r *Replica) quiet(name string) bool {
	p := r.remote(name)
	if p == nil {
		return false // the call fails, and nothing is sent
	}
	asked := p.askedAt.Load()
	return asked != 0 && r.cfg.Boottime() > asked+quietAfter+4*p.rttNS.Load()
}

// Peer is what is known of a connected peer.
type Peer struct {
	Name   string
	Node   kv.NodeID
	Boot   uint32
	Fresh  bool
	RTTNS  int64
	SeenNS int64 // boot-time clock
	Load   wire.Load
}

// Connected returns the connected peers by name.
func (r *Replica) Connected() []Peer {
	var out []Peer
	for _, p := range r.remotes() {
		peer := Peer{Name: p.name, Node: p.node, Boot: p.boot, Fresh: r.fresh(p), RTTNS: p.rttNS.Load(), SeenNS: p.pongAt.Load()}
		if l := p.load.Load(); l != nil {
			peer.Load = *l
		}
		out = append(out, peer)
	}
	return out
}

// expireStale fails what waits for peers that gave no sign of life for too long.
func (r *Replica) expireStale() {
	for _, p := range r.remotes() {
		if !r.fresh(p) {
			p.failAll()
		}
	}
}

func (p *remote) failAll() {
	p.mu.Lock()
	flight := p.flight
	p.flight = nil
	p.mu.Unlock()
	for _, f := range flight {
		f.wait.fail(p.name)
	}
}

// end fails what waits, now and from now on.
func (p *remote) end() {
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	p.failAll()
}

// ControlFrame takes a frame of a peer's control stream.
func (r *Replica) ControlFrame(name string, frame []byte) {
	p := r.remote(name)
	if p == nil {
		return
	}
	r.breach(name, r.controlFrame(p, frame))
}

func (r *Replica) controlFrame(p *remote, frame []byte) error {
	t, err := wire.TypeOf(frame)
	if err != nil {
		return err
	}
	switch t {
	case wire.TypePing:
		ping, err := wire.ParsePing(frame)
		if err != nil {
			return err
		}
		r.seeHLC(ping.HLC)
		pong := wire.Pong{Stamp: ping.Stamp, WallMS: r.cfg.WallMS(), HLC: kv.HLC(r.hlc.Load()), Load: r.load()}
		_ = r.cfg.Peers.SendControl(p.name, pong.Append(nil)) // lost with its connection, like the peer's question
	case wire.TypePong:
		pong, err := wire.ParsePong(frame)
		if err != nil {
			return err
		}
		if pong.Stamp > r.cfg.Boottime() { // it may answer a former process, of before the machine was restarted
			r.stats.LatePongs.Add(1)
			return nil
		}
		r.ponged(p, pong)
	case wire.TypeState:
		st, err := wire.ParseState(frame)
		if err != nil {
			return err
		}
		r.step(core.Stated{Name: p.name, State: st})
	case wire.TypeTaken:
		taken, err := wire.ParseTaken(frame)
		if err != nil {
			return err
		}
		r.stats.SyncBytesIn.Add(int64(len(frame)))
		return r.takenBy(p.name, taken)
	}
	return nil
}

// maxClockTrip bounds the round trip of a PONG that tells of the peer's clock. One
// that waited while this process stood still would set the cluster's time back by as
// long, and expiries would be taken from that.
const maxClockTrip = int64(time.Second)

func (r *Replica) ponged(p *remote, pong wire.Pong) {
	now := r.cfg.Boottime()
	if pong.Stamp > now || pong.Stamp < p.pongAt.Load() && pong.Stamp < now-core.Lease {
		return // not an answer to a question of this process, or one from long ago
	}
	p.pongAt.Store(max(p.pongAt.Load(), pong.Stamp))
	if asked := p.askedAt.Load(); asked <= pong.Stamp {
		p.askedAt.CompareAndSwap(asked, 0)
	}
	p.rttNS.Store(now - pong.Stamp)
	if trip := now - pong.Stamp; trip <= maxClockTrip {
		p.offsetMS.Store(pong.WallMS - (now-trip/2)/1e6)
		p.clockKnown.Store(true)
	}
	r.peersMu.Lock()
	r.boundTimeLocked()
	r.peersMu.Unlock()
	r.seeHLC(pong.HLC)
	p.load.Store(&pong.Load)
	r.step(core.Ponged{Name: p.name, Stamp: pong.Stamp, Load: pong.Load})
}

// load is what this node tells of itself to who may choose it as a donor.
func (r *Replica) load() wire.Load {
	l := wire.Load{Sessions: uint8(r.sessions.streamed()), Leaving: r.leaving.Load()}
	if r.cfg.Load != nil {
		own := r.cfg.Load()
		l.Busy, l.Mem, l.EgressKiBps = uint8(min(own.CPUPermille/10, 100)), uint8(min(own.MemPermille/10, 100)), own.EgressKiBps
	}
	return l
}

// clusterTime bounds this node's wall clock by those of its peers, as offsets to the
// boot-time clock, which is never set: one that jumps is contradicted at once, and not
// only by the next PONG.
type clusterTime struct{ leastMS, mostMS int64 }

// NowMS is cluster time: the median of this node's wall clock and its peers', so that
// one wrong clock hides nothing.
func (r *Replica) NowMS() int64 {
	now := r.cfg.WallMS()
	if t := r.time.Load(); t != nil {
		boot := r.cfg.Boottime() / 1e6
		now = min(max(now, boot+t.leastMS), boot+t.mostMS)
	}
	return now
}

// boundTimeLocked finds anew what this node's clock is held between: the two of the
// peers' clocks between which the median of all lies, this one's among them. By a
// single peer nothing says which of the two is wrong. The caller holds peersMu.
func (r *Replica) boundTimeLocked() {
	offsets := make([]int64, 0, len(r.peers))
	for _, p := range r.peers {
		if p.clockKnown.Load() {
			offsets = append(offsets, p.offsetMS.Load())
		}
	}
	if len(offsets) < 2 {
		r.time.Store(nil)
		return
	}
	slices.Sort(offsets)
	mid := len(offsets) / 2
	r.time.Store(&clusterTime{offsets[mid-1], offsets[mid]})
}

// maxHLCAhead bounds how far a peer's hybrid time may pull this node's ahead: a
// clock that is wrong by more only loses ties.
const maxHLCAhead = 60_000

func (r *Replica) seeHLC(h kv.HLC) {
	if h.MS() > r.cfg.WallMS()+maxHLCAhead {
		return
	}
	for {
		old := r.hlc.Load()
		if uint64(h) <= old || r.hlc.CompareAndSwap(old, uint64(h)) {
			return
		}
	}
}

// nextHLC returns a time above every one seen and above those of an object.
func (r *Replica) nextHLC(o kv.Object) kv.HLC {
	for _, v := range o.Versions {
		r.seeHLC(v.HLC)
	}
	for {
		old := r.hlc.Load()
		next := kv.HLC(old).Next(r.cfg.WallMS())
		if r.hlc.CompareAndSwap(old, uint64(next)) {
			return next
		}
	}
}

// sendChange replicates a published change to a peer. wait is told of its ACK.
//
// Invariant: what is sent by way of a remote is numbered above all that was sent
// before, also over an earlier connection or by an earlier process, and nothing is
// sent once the connection ended. So an ACK that comes late acknowledges nothing
// that it does not know of.
func (r *Replica) sendChange(p *remote, sh kv.Partition, ch *state.Change, wait *waiting) {
	w := wire.Write{Partition: sh, Copy: wire.Copy{Key: ch.Keys[0].Key, Object: ch.Filled(0)}}
	r.sendWrite(p, w, ch.Below, wait)
}

// sendWrite sends an object, with the floor of its copy where the peer has not been
// told that.
func (r *Replica) sendWrite(p *remote, w wire.Write, floor kv.VV, wait *waiting) {
	p.mu.Lock()
	if p.gone { // the next connection begins with a HELLO, which finds the write
		p.mu.Unlock()
		if wait != nil {
			wait.fail(p.name)
		}
		return
	}
	w.Seq = r.liveSeq.Add(1)
	if wait != nil {
		p.flight = append(p.flight, inFlight{w.Seq, w.Partition, wait})
	}
	// The stream is in order: once is enough, but for a stand-in, which may drop its
	// copy and open another in between.
	if r.standsIn(p.name, w.Partition) || !slices.Equal(p.floors[w.Partition], floor) {
		w.Floor, p.floors[w.Partition] = floor, floor
	}
	err := r.cfg.Peers.SendLive(p.name, wire.Apply{View: r.view(), Writes: []wire.Write{w}}.Append(nil))
	if err != nil {
		delete(p.floors, w.Partition)
	}
	p.mu.Unlock()
	r.stats.LiveSent.Add(1)
	if err == nil {
		return
	}
	r.stats.StreamOverflows.Add(1)
	if wait != nil {
		wait.fail(p.name)
	}
	r.step(core.StreamBroke{Name: p.name})
}

// LiveOf returns how many partitions each connected peer says it serves as LIVE.
func (r *Replica) LiveOf() map[string]int {
	out := map[string]int{}
	for p := range r.Parts() {
		if p.Partition == kv.System {
			continue
		}
		for _, name := range p.Live {
			out[name]++
		}
	}
	return out
}

// Behind estimates how many versions other owners reported that this node's
// copies lack.
func (r *Replica) Behind() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.machine.Behind()
}
