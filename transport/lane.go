package transport

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"edged.dev/edged/transport/wire"
)

// OpenLane opens a one-way stream to the peer, whose Server.Lane reads it. Writes
// wait for a peer that reads slowly. Close ends it in good order; the end of ctx
// cuts it off, and the reader then gets an error, not io.EOF. One of the two must
// happen. Past maxLanes open ones it waits for one to be closed.
func (p *Peer) OpenLane(ctx context.Context) (*Lane, error) {
	select {
	case p.lanes <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("open lane to %s: %w", p.info.Name, context.Cause(ctx))
	case <-p.Done():
		return nil, fmt.Errorf("open lane to %s: %w", p.info.Name, ErrPeerDown)
	}
	s, err := p.conn.OpenUniStreamSync(ctx)
	if err != nil {
		<-p.lanes
		return nil, fmt.Errorf("open lane to %s: %w", p.info.Name, err)
	}
	s.SetPriority(5, true)
	l := &Lane{peer: p, stream: s, free: sync.OnceFunc(func() { <-p.lanes })}
	l.stop = context.AfterFunc(ctx, func() {
		s.CancelWrite(streamAborted)
		l.free()
	})
	if _, err := s.Write([]byte{streamLane}); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("open lane to %s: %w", p.info.Name, err)
	}
	return l, nil
}

// Lane is the writing end of a lane.
type Lane struct {
	peer   *Peer
	stream *quic.SendStream
	stop   func() bool
	free   func()
}

// Write writes to the lane.
func (l *Lane) Write(b []byte) (int, error) { return l.stream.Write(b) }

// Done is closed when the reader has gone, or the lane is closed or cut off.
func (l *Lane) Done() <-chan struct{} { return l.stream.Context().Done() }

// RTT is the least round trip seen of the connection.
func (l *Lane) RTT() time.Duration { return l.peer.conn.ConnectionStats().MinRTT }

// Close sends the end. It fails if the lane was cut off before.
func (l *Lane) Close() error {
	l.stop()
	defer l.free()
	return l.stream.Close()
}

// acceptLanes takes in the peer's one-way streams.
func (p *Peer) acceptLanes(rest *sync.WaitGroup) {
	for {
		s, err := p.conn.AcceptUniStream(p.conn.Context())
		if err != nil {
			return
		}
		rest.Go(func() {
			// A stream that is not read to its end keeps its credit until cancelled.
			defer s.CancelRead(streamDone)
			p.takeLane(s)
		})
	}
}

func (p *Peer) takeLane(s *quic.ReceiveStream) {
	kind, err := readKind(s)
	if err != nil {
		return
	}
	switch kind {
	case streamPacket:
		p.takePacket(s)
	case streamLane:
		// The writer may open the next lane before this end has done with the last.
		select {
		case p.reading <- struct{}{}:
			defer func() { <-p.reading }()
			p.t.cfg.Server.Lane(p.conn.Context(), p, s)
		case <-p.Done():
		}
	default:
		p.Hangup(wire.BreachMalformed, "unexpected kind of one-way stream")
	}
}
