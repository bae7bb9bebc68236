package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/simnet"
	"edged.dev/edged/transport/wire"
)

// silent is a handler that lets everyone in.
type silent struct{ served chan []byte }

func (silent) Conn(wire.Conn) wire.ConnAck            { return wire.ConnAck{} }
func (silent) Refused(wire.ConnAck)                   {}
func (silent) PeerUp(*Peer)                           {}
func (silent) PeerDown(*Peer, error)                  {}
func (silent) Frame(*Peer, Kind, []byte)              {}
func (silent) Lane(context.Context, *Peer, io.Reader) {}
func (s silent) Serve(_ context.Context, _ *Peer, request []byte) ([]byte, error) {
	s.served <- request
	return nil, nil
}

// rogue is a raw QUIC connection, with a good certificate, to a transport.
type rogue struct {
	t      *testing.T
	id     Identity
	target *Transport
	served chan []byte
	conn   *quic.Conn
}

func withRogue(t *testing.T, test func(r *rogue)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, InitCA(filepath.Join(dir, "ca")))
		ids := map[string]Identity{}
		for _, name := range []string{"good", "rogue"} {
			require.NoError(t, Issue(filepath.Join(dir, "ca"), name, filepath.Join(dir, name), time.Hour))
			id, err := LoadIdentity(filepath.Join(dir, name))
			require.NoError(t, err)
			ids[name] = id
		}
		network := simnet.New(1, simnet.Link{Latency: time.Millisecond})
		socket, err := network.Listen("10.0.0.1:1")
		require.NoError(t, err)
		h := silent{served: make(chan []byte, 1)}
		target, err := New(Config{Identity: ids["good"], Socket: socket, StatelessResetKey: [32]byte{1}, Handler: h, Server: h})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- target.Run(ctx) }()

		own, err := network.Listen("10.0.0.2:2")
		require.NoError(t, err)
		dialer := &quic.Transport{Conn: &plainSocket{PacketConn: own, counter: &counter{}}}
		conn, err := dialer.Dial(t.Context(), socket.LocalAddr(), ids["rogue"].tlsConfig(new(atomic.Int64)), &quic.Config{EnableDatagrams: true})
		require.NoError(t, err)
		test(&rogue{t: t, id: ids["rogue"], target: target, served: h.served, conn: conn})

		_ = conn.CloseWithError(0, "")
		require.NoError(t, dialer.Close())
		require.NoError(t, own.Close())
		stop()
		require.NoError(t, <-done)
	})
}

func (r *rogue) open(b ...byte) *quic.Stream {
	r.t.Helper()
	s, err := r.conn.OpenStreamSync(r.t.Context())
	require.NoError(r.t, err)
	_, err = s.Write(b)
	require.NoError(r.t, err)
	return s
}

// greeted says a proper CONN and returns the control stream.
func (r *rogue) greeted() *quic.Stream {
	r.t.Helper()
	hello := wire.Conn{Version: wire.Version, Cluster: r.id.Cluster, Name: r.id.Name, Nonce: 1, Attempt: 1}
	body, err := hello.Append([]byte{byte(wire.TypeConn)})
	require.NoError(r.t, err)
	s := r.open(appendFrame([]byte{streamControl}, body)...)
	_, err = readFrame(s, nil, wire.MaxConnBytes+1)
	require.NoError(r.t, err)
	return s
}

// closed waits for the transport to hang up and returns the code.
func (r *rogue) closed(within time.Duration) CloseCode {
	r.t.Helper()
	start := time.Now()
	<-r.conn.Context().Done()
	require.LessOrEqual(r.t, time.Since(start), within)
	var app *quic.ApplicationError
	require.ErrorAs(r.t, context.Cause(r.conn.Context()), &app)
	require.True(r.t, app.Remote)
	return CloseCode(app.ErrorCode)
}

func length(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

func TestBadGreetingsAreHungUpOn(t *testing.T) {
	t.Parallel()
	conn := func(c wire.Conn) []byte {
		b, err := c.Append([]byte{byte(wire.TypeConn)})
		require.NoError(t, err)
		return appendFrame([]byte{streamControl}, b)
	}
	for name, b := range map[string][]byte{
		"another kind of stream": append([]byte{streamCall}, appendFrame(nil, []byte("x"))...),
		"another frame":          appendFrame([]byte{streamControl}, []byte{byte(wire.TypePing)}),
		"no frame":               appendFrame([]byte{streamControl}, nil),
		"rubbish":                appendFrame([]byte{streamControl}, []byte{byte(wire.TypeConn), 1, 2, 3}),
		"over the limit":         append([]byte{streamControl}, length(1<<31)...),
	} {
		t.Run(name, func(t *testing.T) {
			withRogue(t, func(r *rogue) {
				r.open(b...)
				require.Equal(t, CloseProtocol, r.closed(time.Second))
			})
		})
	}
	t.Run("another version", func(t *testing.T) {
		withRogue(t, func(r *rogue) {
			s := r.open(conn(wire.Conn{Version: wire.Version + 1, Cluster: r.id.Cluster, Name: r.id.Name, Nonce: 1})...)
			frame, err := readFrame(s, nil, wire.MaxConnBytes+1)
			require.NoError(t, err)
			ack, err := wire.ParseConnAck(frame[1:])
			require.NoError(t, err)
			require.Equal(t, wire.ConnVersion, ack.Code, "the refusal says why")
			require.Equal(t, CloseRefused, r.closed(2*refusalTimeout))
		})
	})
	t.Run("another name", func(t *testing.T) {
		withRogue(t, func(r *rogue) {
			r.open(conn(wire.Conn{Version: wire.Version, Cluster: r.id.Cluster, Name: "good", Nonce: 1})...)
			require.Equal(t, CloseWrongCluster, r.closed(2*refusalTimeout))
		})
	})
	t.Run("silence", func(t *testing.T) {
		withRogue(t, func(r *rogue) { require.Equal(t, CloseProtocol, r.closed(2*helloTimeout)) })
	})
}

func TestFrameOverItsLimitEndsTheConnection(t *testing.T) {
	t.Parallel()
	withRogue(t, func(r *rogue) {
		control := r.greeted()
		_, err := control.Write(length(MaxControlFrameBytes + 1))
		require.NoError(t, err)
		require.Equal(t, CloseBreach+CloseCode(wire.BreachOversized), r.closed(time.Second))
	})
	withRogue(t, func(r *rogue) {
		r.greeted()
		r.open(append([]byte{streamLive}, length(MaxFrameBytes+1)...)...)
		require.Equal(t, CloseBreach+CloseCode(wire.BreachOversized), r.closed(time.Second))
	})
}

func TestUnknownAndSecondLongStreamsEndTheConnection(t *testing.T) {
	t.Parallel()
	for _, kind := range []byte{0, streamControl, streamLane, 99} {
		withRogue(t, func(r *rogue) {
			r.greeted()
			r.open(kind)
			require.Equal(t, CloseBreach+CloseCode(wire.BreachMalformed), r.closed(time.Second))
		})
	}
	withRogue(t, func(r *rogue) {
		r.greeted()
		r.open(streamLive)
		r.open(streamLive)
		require.Equal(t, CloseBreach+CloseCode(wire.BreachMalformed), r.closed(time.Second))
	})
}

func TestHostileCallsAreRefusedAndHurtNoOther(t *testing.T) {
	t.Parallel()
	withRogue(t, func(r *rogue) {
		r.greeted()
		call := func(n uint32) *quic.Stream {
			return r.open(append(append([]byte{streamCall}, length(0)...), length(n)...)...)
		}
		refused := func(s *quic.Stream) {
			_, err := s.Read(make([]byte, 1))
			require.True(t, cancelledByPeer(err, streamRefused), "%v", err)
		}
		refused(call(MaxFrameBytes + 1))
		require.Zero(t, r.target.serving.used.Load())

		// Requests that never come hold the budget of all.
		var held []*quic.Stream
		for range maxServeBytes / MaxFrameBytes {
			held = append(held, call(MaxFrameBytes))
		}
		time.Sleep(time.Second)
		refused(call(MaxFrameBytes))
		for _, s := range held {
			endStream(s, streamAborted)
		}
		time.Sleep(time.Second)
		require.Zero(t, r.target.serving.used.Load())
		s := call(2)
		_, err := s.Write([]byte("ok"))
		require.NoError(t, err)
		require.Equal(t, "ok", string(<-r.served))
	})
}

func TestReadFrameRefusesEveryTruncatedPrefix(t *testing.T) {
	t.Parallel()
	whole := appendFrame(nil, bytes.Repeat([]byte("x"), 300))
	for n := range whole {
		_, err := readFrame(bytes.NewReader(whole[:n]), nil, 1000)
		if n == 0 {
			require.Equal(t, io.EOF, err, "an end between frames is one")
			continue
		}
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "prefix of %d bytes", n)
	}
	got, err := readFrame(bytes.NewReader(whole), nil, 300)
	require.NoError(t, err)
	require.Len(t, got, 300)
	_, err = readFrame(bytes.NewReader(whole), nil, 299)
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestFrameBufferGrowsWithWhatCame(t *testing.T) {
	t.Parallel()
	r := &counted{Reader: bytes.NewReader(append(length(MaxFrameBytes), make([]byte, 1000)...))}
	_, err := readFrame(r, nil, MaxFrameBytes)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.LessOrEqual(t, r.largest, growBytes, "a length alone buys no more memory than this")
}

// counted notes the largest buffer it was asked to fill.
type counted struct {
	io.Reader
	largest int
}

func (c *counted) Read(b []byte) (int, error) {
	c.largest = max(c.largest, len(b))
	return c.Reader.Read(b)
}

func TestQueueCountsWhatIsBeingWritten(t *testing.T) {
	t.Parallel()
	q := newFrameQueue(100, 50)
	require.NoError(t, q.push(make([]byte, 46)))
	require.NoError(t, q.push(make([]byte, 46)))
	require.ErrorIs(t, q.push(nil), ErrQueueFull)
	require.Len(t, q.take(nil), 100, "both go out in one write")
	require.ErrorIs(t, q.push(nil), ErrQueueFull, "they are not written yet")
	require.Empty(t, q.take(nil))
	require.NoError(t, q.push(nil))
	require.ErrorIs(t, q.push(make([]byte, 51)), ErrTooLarge)
	q.end()
	require.ErrorIs(t, q.push(nil), ErrPeerDown)
}

func TestQueueDrainEndsWithItsWriter(t *testing.T) {
	t.Parallel()
	q := newFrameQueue(100, 50)
	require.NoError(t, q.push(nil))
	broken := errors.New("broken")
	require.ErrorIs(t, q.drain(nil, writerFunc(func([]byte) (int, error) { return 0, broken })), broken)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestBucketRefillsWithTime(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := newBucket(10, now)
	for range 10 {
		ok, _ := b.take(now)
		require.True(t, ok)
	}
	ok, fill := b.take(now)
	require.False(t, ok)
	require.Zero(t, fill)
	require.InDelta(t, 0.5, b.fill(now.Add(500*time.Millisecond)), 1e-9)
	require.InDelta(t, 1, b.fill(now.Add(time.Hour)), 1e-9)
}

func TestConnectionsAreCountedAndTheirWindowsShared(t *testing.T) {
	t.Parallel()
	tr := &Transport{}
	for range fullWindowConns {
		require.True(t, tr.countConn())
	}
	full := tr.quicConfig()
	require.Same(t, full, tr.sized(full))
	require.Greater(t, full.MaxConnectionReceiveWindow, uint64(streamWindow*(maxLanes+1)), "stalled streams leave room")
	require.True(t, tr.countConn())
	small := tr.sized(full)
	require.Equal(t, uint64(connWindow/smallWindowShare), small.MaxConnectionReceiveWindow)
	require.Equal(t, uint64(streamWindow/smallWindowShare), small.InitialStreamReceiveWindow)
	for range maxConns - fullWindowConns - 1 {
		require.True(t, tr.countConn())
	}
	require.False(t, tr.countConn())
	tr.uncountConn()
	require.True(t, tr.countConn())
}

// FuzzReadFrame: what is read is what was announced, and never over the limit.
func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, []byte("frame")))
	f.Add(length(1 << 31))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := readFrame(bytes.NewReader(b), nil, 1<<10)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(frame), 1<<10)
		require.Equal(t, b[:frameHead+len(frame)], appendFrame(nil, frame))
	})
}
