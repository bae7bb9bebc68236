package transport

import (
	"net/netip"
	"time"
)

// admit makes p the living connection of its name, unless another is to stay. It
// returns false and why p is to be closed, or true and what it replaces.
//
// Invariant: both ends come to the same answer, so that one connection of a pair
// survives. A later life of a node beats an earlier one. Between two lives there
// is an order that both see: connections dialed by the node with the smaller name
// come before the others, and of those dialed the same way the later attempt.
func (t *Transport) admit(p *Peer, now time.Time) (replaced *Peer, code CloseCode, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, CloseShutdown, false
	}
	name := p.info.Name
	old := t.peers[name]
	if old != nil && old.conn.Context().Err() == nil {
		if code, stays := t.stays(old, p, now); stays {
			return nil, code, false
		}
		replaced = old
	}
	if old != nil {
		t.unrouteLocked(old)
	}
	p.upAt = now
	p.after = t.tails[name]
	t.tails[name] = p.quiet
	t.peers[name] = p
	t.routeLocked(p)
	return replaced, CloseReplaced, true
}

// stays says whether old is to stay and p to be closed, and with which code.
func (t *Transport) stays(old, p *Peer, now time.Time) (CloseCode, bool) {
	switch {
	case p.info.Boot != old.info.Boot:
		return CloseStale, p.info.Boot < old.info.Boot
	case p.info.Nonce != old.info.Nonce:
		return CloseStale, false // the handler has let it in, knowing the nonce
	case !p.dialed && p.holds == t.cfg.Nonce:
		// The dialer has a living connection and tried another address of ours.
		return CloseDuplicate, true
	case p.dialed == old.dialed:
		return CloseDuplicate, p.attempt < old.attempt
	}
	ours := t.cfg.Identity.Name < p.info.Name // connections that we dialed come first
	if p.dialed == ours {
		return CloseDuplicate, false
	}
	// The other half of a simultaneous dial began before old was up. A dial that
	// comes later than that was made because the peer has lost old.
	lost := !p.dialed && now.Sub(old.upAt) > dialTimeout
	return CloseDuplicate, !lost
}

// drop forgets p when its connection has ended.
func (t *Transport) drop(p *Peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[p.info.Name] == p {
		delete(t.peers, p.info.Name)
	}
	t.unrouteLocked(p)
}

// hush says that p's handler calls are over: the next connection may come up.
func (t *Transport) hush(p *Peer) {
	t.mu.Lock()
	if t.tails[p.info.Name] == p.quiet {
		delete(t.tails, p.info.Name)
	}
	t.mu.Unlock()
	close(p.quiet)
}

func (t *Transport) routeLocked(p *Peer) {
	for _, at := range p.routes() {
		t.routes[at] = p
	}
}

func (t *Transport) unrouteLocked(p *Peer) {
	for at, to := range t.routes {
		if to == p {
			delete(t.routes, at)
		}
	}
}

// addRoute notes that addr leads to the living connection of that name.
func (t *Transport) addRoute(addr, name string) {
	at, err := parseAddr(addr)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[name]; p != nil {
		t.routes[at] = p
	}
}

// route returns the living connection that an address leads to, or nil.
func (t *Transport) route(addr string) *Peer {
	at, err := parseAddr(addr)
	if err != nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.routes[at]
}

func parseAddr(addr string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(addr)
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), err
}
