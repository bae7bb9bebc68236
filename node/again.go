package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/replica"
	"edged.dev/edged/transport"
	"edged.dev/edged/transport/wire"
)

// ErrAgain is wrapped by what Run returns when this process has lost its place to
// another one of the same data directory: it is fenced, and is to start again with
// the boot number that it was told. RunOn does so.
var ErrAgain = errors.New("this node is to start again")

// againError is why a node starts again.
type againError struct {
	reason string
	boot   uint32 // the least number that the next life may take
	twin   bool   // another process lives on a copy of the data directory
}

func (e *againError) Error() string        { return e.reason }
func (e *againError) Is(target error) bool { return target == ErrAgain }

// RunOn runs n until ctx ends, as Run does; where Run returns ErrAgain, it starts
// the node again, on the same addresses. opts are those that n was made with.
func RunOn(ctx context.Context, n *Node, opts Options) error {
	for {
		err := n.Run(ctx)
		if !errors.Is(err, ErrAgain) || ctx.Err() != nil {
			return err
		}
		n.log.Warn("the node starts again", slog.String("reason", err.Error()))
		cfg, ports := n.cfg, n.doors.ports
		cfg.NodeListen, cfg.RESPListen, cfg.HTTPListen, cfg.AdminListen = ports.Node, ports.RESP, ports.HTTP, ports.Admin
		if n, err = New(cfg, opts); err != nil {
			return fmt.Errorf("start again: %w", err)
		}
	}
}

// fence ends this node's coordination at once: no request of a client or a peer
// begins any more. Then the node stops for that reason.
func (n *Node) fence(reason error) {
	first := n.fenced.CompareAndSwap(false, true)
	n.serving.Store(nil)
	if r := n.links.to(); r != nil {
		r.Fence()
	}
	if first {
		n.events.emit(admin.Event{Kind: "node.fenced", Node: n.id.Name, Text: reason.Error()})
	}
	n.halt(reason)
}

// conflict takes a peer's word that another life holds this node's name with a
// boot number that is no lower: this one is the later, fences itself and starts
// again with the number it is told. A node that is still joining only takes it.
func (n *Node) conflict(ack wire.ConnAck) {
	if n.serving.Load() == nil && !n.fenced.Load() {
		select {
		case n.links.boot <- ack.Boot:
		default: // one was told already
		}
		return
	}
	n.fence(&againError{reason: fmt.Sprintf("refused by %s: boot number %d is taken", ack.Self.Name, n.self.Boot), boot: ack.Boot})
}

// twin takes a peer's word that another process lives on this node's data
// directory, or on a copy of it: two that write under one name must not be. This
// one fences itself, and stands by until the other is gone.
func (n *Node) twin(ack wire.ConnAck) {
	if n.serving.Load() == nil && !n.fenced.Load() {
		select {
		case n.links.twin <- ack.Self.Name:
		default: // it was told already
		}
		return
	}
	n.fence(&againError{
		reason: fmt.Sprintf("refused by %s: another process lives on a copy of this data directory (node ID %s)", ack.Self.Name, n.self.Node),
		boot:   ack.Boot, twin: true,
	})
}

// outlived takes that peers have sealed this process: a later one of its directory
// has run, and the directory and this machine's clock were set back since. What this
// one writes counts as dead; it starts again above that boot.
func (n *Node) outlived(boot uint32) {
	if boot == math.MaxUint32 { // the whole directory is given up
		n.fence(forgotten(n.id.Name))
		return
	}
	n.fence(&againError{reason: fmt.Sprintf("boot number %d is of a process that is gone, others hold, and so is every one up to %d", n.self.Boot, boot), boot: boot + 1})
}

// noteAgain keeps, for the next life, what this one was told when it was fenced.
func (n *Node) noteAgain(cause error) error {
	var again *againError
	if !errors.As(cause, &again) {
		return nil
	}
	// The next start takes the number behind this one, or the time if that is more.
	n.self.Boot = n.bootTold(again.boot) - 1
	n.self.Twin = n.self.Twin || again.twin
	return n.self.save(n.store)
}

// maxBootAhead bounds how far beyond the time in seconds a peer may push a boot
// number: restarts and conflicts take one each, and a peer that lies must not use
// them up. A day of a restart a second.
const maxBootAhead = 24 * 60 * 60

// bootTold is the number that the next life takes, of what a peer said.
func (n *Node) bootTold(told uint32) uint32 {
	next := n.self.Boot + 1
	if most := max(next, uint32(n.clocks.wallMS()/1000)+maxBootAhead); told > most {
		n.log.Error("a peer told a boot number that no life can have had", slog.Uint64("boot", uint64(told)))
		return next
	}
	return max(next, told)
}

// judgeLife decides whether a process that connects may be the living one of its
// name, where this node is connected to another one, or is it itself.
//
// A later life of one data directory has a higher boot number, and its earlier one
// is gone: so the earlier one is asked for a sign of life, and if there is one, the
// directory was copied. Of two directories under one name the one that came last
// has the higher boot; boots are seconds, so that it may have to be told.
func (l *links) judgeLife(remote wire.Conn, ack *wire.ConnAck) {
	self := l.node.self
	if remote.Name == l.node.id.Name {
		switch {
		case kv.NodeID(remote.Node) != self.Node:
		case l.node.hasPlace():
			l.refuseLife(remote, ack, self.Boot, func() bool { return true })
		default: // whoever of the two has the place, this one may not fence it
			ack.Code = wire.ConnNobody
		}
		return
	}
	p := l.transport.Peer(remote.Name)
	if p == nil {
		return
	}
	have := p.Info()
	switch {
	case have.Nonce == remote.Nonce: // the same process
	case have.Node == remote.Node:
		l.refuseLife(remote, ack, have.Boot, func() bool { return l.lives(p) })
	case have.Boot >= remote.Boot:
		ack.Code, ack.Boot = wire.ConnBootConflict, have.Boot+1
	}
}

// hasPlace reports whether this process is the one that the cluster knows by its
// name: it serves, and a member answers it now, or there is no other. What it was
// before a pause does not count.
func (n *Node) hasPlace() bool {
	r := n.serving.Load()
	if r == nil || n.fenced.Load() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), signWait)
	defer cancel()
	if slices.ContainsFunc(r.Connected(), func(p replica.Peer) bool { return r.Answers(ctx, p.Name) }) {
		return true
	}
	l := r.Layout()
	return l != nil && !slices.ContainsFunc(l.Members(), func(m layout.Member) bool {
		return m.Status == layout.Active && m.Name != n.id.Name
	})
}

func (l *links) refuseLife(remote wire.Conn, ack *wire.ConnAck, have uint32, lives func() bool) {
	switch {
	case have >= remote.Boot:
		ack.Code, ack.Boot = wire.ConnBootConflict, have+1
	case lives():
		ack.Code, ack.Boot = wire.ConnTwin, remote.Boot+1
	}
}

// signWait bounds the wait for a sign of life of a process whose data directory
// has a later one: some round trips of a slow link, and far less than a client
// waits. A restart on the same address is told apart at once, since the new
// process resets the old one's connection; one that is on another address, and
// was killed a moment ago, is let in after this time.
const signWait = 300 * time.Millisecond

// lives reports whether a connected process answers a PING now.
func (l *links) lives(p *transport.Peer) bool {
	r := l.to()
	if r == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), signWait)
	defer cancel()
	return r.Answers(ctx, p.Name())
}

// standBy waits, where another process lives on a copy of this data directory,
// until it is gone: when somebody lets this one in and nobody in reach knows the
// other. It then takes the next boot number, for to its peers the life that asked
// is over.
func (n *Node) standBy(ctx context.Context) error {
	if !n.self.Twin {
		return nil
	}
	n.standing.Store(true)
	defer n.standing.Store(false)
	n.log.Error("another process lives on a copy of this data directory; this one serves nothing until that is stopped",
		slog.String("node_id", n.self.Node.String()), slog.Any("asked", n.standByAddresses()))
	for n.self.Twin {
		running, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- n.links.transport.Run(running) }()
		boot, gone := n.awaitPlace(running)
		stop()
		if err := ignoreCancel(<-done); err != nil || ctx.Err() != nil {
			return err
		}
		n.self.Boot, n.self.Twin = n.bootTold(boot), !gone
		if err := n.self.save(n.store); err != nil {
			return err
		}
		if err := n.doors.rebindLinks(); err != nil {
			return err
		}
	}
	n.log.Warn("the other process is gone; this one goes on", slog.Uint64("boot", uint64(n.self.Boot)))
	return nil
}

// whyNot says why a node serves nothing yet.
func (n *Node) whyNot() (kind, text string) {
	if n.standing.Load() {
		return "standby", "another process lives on a copy of this node's data directory; this one serves nothing until that is stopped"
	}
	return admin.ProblemJoining, "this node is still joining its cluster; it serves nothing yet, and its log says whom it asks"
}

// standByAddresses is where the members were, and where the operator said.
func (n *Node) standByAddresses() []string {
	out := append(n.remembered(), n.cfg.ClusterJoin...)
	slices.Sort(out)
	return slices.Compact(out)
}

// awaitPlace dials everybody, again and again, until this process may take its
// place, or must take another boot number to go on asking.
func (n *Node) awaitPlace(ctx context.Context) (boot uint32, gone bool) {
	tick := time.NewTicker(reconnectEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		for _, addr := range n.standByAddresses() {
			dialCtx, cancel := context.WithTimeout(ctx, time.Second)
			n.dialed(addr, n.links.transport.Connect(dialCtx, addr))
			cancel()
		}
		peers := n.links.transport.Peers()
		gone := len(peers) > 0
		for more := true; more; {
			select {
			case <-n.links.twin:
				gone = false
			case boot := <-n.links.boot:
				return boot, false
			default:
				more = false
			}
		}
		if gone {
			return 0, true
		}
		for _, p := range peers { // these do not know of the other, and others do
			p.Close(transport.CloseShutdown, "stands by")
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return 0, false
}
