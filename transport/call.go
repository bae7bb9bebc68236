package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/quic-go/quic-go"
)

// A call's stream: kind, milliseconds left (u32, 0 = no deadline), then the
// request as a frame; back come a status byte and the response as a frame.
const (
	answerOK    byte = iota
	answerError      // the frame is the error's text
)

const (
	callHead = 4
	// joinBytes is the largest request that is copied to go out in one write.
	joinBytes = 16 << 10
)

// Call asks the peer and returns its answer, which the caller owns. request is
// not kept. The deadline is ctx's, and the peer is told what is left of it.
// Errors: *RemoteError is the peer's own; ErrNotSent, nothing was handed over;
// ErrNoAnswer, the peer may have seen the request and its outcome is unknown.
func (p *Peer) Call(ctx context.Context, request []byte) ([]byte, error) {
	if len(request) > MaxFrameBytes {
		return nil, p.callError(ErrNotSent, ErrTooLarge)
	}
	select {
	case p.calls <- struct{}{}:
		defer func() { <-p.calls }()
	case <-ctx.Done():
		return nil, p.callError(ErrNotSent, context.Cause(ctx))
	case <-p.Done():
		return nil, p.callError(ErrNotSent, ErrPeerDown)
	}
	s, err := p.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, p.callError(ErrNotSent, err)
	}
	stop := context.AfterFunc(ctx, func() { endStream(s, streamAborted) })
	defer stop()
	response, err := exchange(ctx, s, request)
	if err == nil {
		return response, nil
	}
	endStream(s, streamAborted)
	var remote *RemoteError
	if errors.As(err, &remote) {
		return nil, err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if wasRefused(err) {
		return nil, p.callError(ErrNotSent, err)
	}
	return nil, p.callError(ErrNoAnswer, err)
}

func (p *Peer) callError(kind, cause error) error {
	return fmt.Errorf("call %s: %w: %w", p.info.Name, kind, cause)
}

// wasRefused says whether the peer gave the call back before it began.
func wasRefused(err error) bool { return cancelledByPeer(err, streamRefused) }

func cancelledByPeer(err error, code quic.StreamErrorCode) bool {
	var s *quic.StreamError
	return errors.As(err, &s) && s.Remote && s.ErrorCode == code
}

// handOver writes a request and its end. The peer may have read all of it, and
// have said that it wants no more, before the writes return; and where they were
// cut off, reading the answer tells why.
func handOver(s *quic.Stream, parts ...[]byte) error {
	for _, b := range parts {
		if _, err := s.Write(b); err != nil && !cancelledByPeer(err, streamDone) {
			return err
		}
	}
	_ = s.Close()
	return nil
}

func exchange(ctx context.Context, s *quic.Stream, request []byte) ([]byte, error) {
	head := make([]byte, 0, 1+callHead+frameHead+min(len(request), joinBytes))
	head = append(head, streamCall)
	head = binary.LittleEndian.AppendUint32(head, millisLeft(ctx))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(request)))
	if len(request) <= joinBytes {
		head, request = append(head, request...), nil
	}
	if err := handOver(s, head, request); err != nil {
		return nil, err
	}
	var status [1]byte
	if _, err := io.ReadFull(s, status[:]); err != nil {
		return nil, noEOF(err)
	}
	response, err := readFrame(s, nil, MaxFrameBytes)
	if err != nil {
		return nil, noEOF(err)
	}
	s.CancelRead(streamDone) // the answer is whole; nothing may follow it
	if status[0] != answerOK {
		return nil, &RemoteError{Message: shortError(string(response))}
	}
	return response, nil
}

func shortError(s string) string { return s[:min(len(s), maxErrorBytes)] }

// millisLeft is what a call has left, at least one millisecond; 0 is no deadline.
func millisLeft(ctx context.Context) uint32 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	left := time.Until(deadline).Milliseconds()
	return uint32(min(max(left, 1), math.MaxUint32))
}

// serveCall answers one call.
func (p *Peer) serveCall(s *quic.Stream) {
	defer s.CancelRead(streamDone)
	var head [callHead + frameHead]byte
	_ = s.SetReadDeadline(time.Now().Add(kindTimeout))
	if _, err := io.ReadFull(s, head[:]); err != nil {
		endStream(s, streamAborted)
		return
	}
	left := time.Duration(binary.LittleEndian.Uint32(head[:])) * time.Millisecond
	n := int(binary.LittleEndian.Uint32(head[callHead:]))
	if n > MaxFrameBytes || !p.t.serving.take(n) {
		endStream(s, streamRefused)
		return
	}
	defer p.t.serving.give(n)
	ctx := s.Context() // ends when the caller gives up, and with the connection
	if left > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left)
		defer cancel()
	}
	deadline, _ := ctx.Deadline()
	_ = s.SetReadDeadline(deadline)
	request, err := readBody(s, nil, n)
	if err != nil {
		endStream(s, streamAborted)
		return
	}
	response, err := p.t.cfg.Server.Serve(ctx, p, request)
	if err == nil && len(response) > MaxFrameBytes {
		err = fmt.Errorf("response of %d bytes: %w", len(response), ErrTooLarge)
	}
	answer(s, deadline, response, err)
}

func answer(s *quic.Stream, deadline time.Time, response []byte, err error) {
	status := answerOK
	if err != nil {
		status, response = answerError, []byte(shortError(err.Error()))
	}
	_ = s.SetWriteDeadline(deadline)
	head := make([]byte, 0, 1+frameHead+min(len(response), joinBytes))
	head = append(head, status)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(response)))
	if len(response) <= joinBytes {
		head, response = append(head, response...), nil
	}
	if _, err := s.Write(head); err != nil {
		s.CancelWrite(streamAborted)
		return
	}
	if _, err := s.Write(response); err != nil {
		s.CancelWrite(streamAborted)
		return
	}
	_ = s.Close()
}
