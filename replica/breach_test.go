package replica_test

import (
	"bytes"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport/wire"
)

// laneLie changes the records of one lane on their way. It returns what is sent in
// place of a record.
type laneLie func(rec wire.LaneRecord) []wire.LaneRecord

// lieOnLane is a lane's writer whose records pass through a lie.
func (c *returning) lieOnLane(to io.WriteCloser, lie laneLie) io.WriteCloser {
	rd, wr := io.Pipe()
	c.hangups.Go(func() {
		err := c.relayLane(rd, to, lie)
		rd.CloseWithError(err)
		_ = to.Close()
	})
	return wr
}

func (c *returning) relayLane(from io.Reader, to io.Writer, lie laneLie) error {
	in, err := wire.NewLaneReader(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := wire.NewLaneWriter(to, wire.LanePlain)
	if err != nil {
		return err
	}
	for {
		rec, err := in.Next()
		if err == io.EOF {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if rec.Type == wire.TypeLaneHead {
			time.Sleep(10 * time.Millisecond) // virtual: the answer that the lane leans on is out
			c.wires.mu.Lock()
			told := c.told
			c.wires.mu.Unlock()
			if err := in.Lean(told); err != nil {
				return err
			}
		}
		for _, r := range lie(rec) {
			if err := c.writeRecord(out, r); err != nil {
				return err
			}
		}
		if _, whole := in.Chunks(); !whole { // as many chunks as the donor's, of which it is told
			continue
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

func (c *returning) writeRecord(out *wire.LaneWriter, r wire.LaneRecord) error {
	switch r.Type {
	case wire.TypeLaneHead:
		return out.HeadOf(r.Session, int(r.Lane), int(r.Lanes), c.leanOn)
	case wire.TypeBegin:
		return out.Begin(r.Begin)
	case wire.TypeBatch:
		return out.Batch(r.Batch)
	case wire.TypeTail:
		return out.Tail(r.Batch)
	case wire.TypeKeep:
		return out.Keep(r.Keep)
	case wire.TypeLiveDots:
		return out.LiveDots(r.Live)
	case wire.TypeStop:
		return out.Stop()
	}
	return out.End(r.End)
}

// evil is the value that no node may ever hold.
const evil = "evil"

// returning is a node that comes back to a donor that lies; another is there once it
// has hung up.
type returning struct {
	*cluster
	donors []string // of the lanes to n3, in order
	alarms atomic.Int64

	asked [][]wire.CopyClock // told in HELLOs to n1
	told  []wire.CopyClock   // in its last answer

	leanOn []wire.CopyClock // what a lane that is relayed says it leans on

	fetched bool // all of it was here before n3 hung up
}

// comesBack has n3 miss some writes and return to n1 alone, whose lanes pass through
// what wrap makes of them and whose answers through what answer does; both may be nil.
func comesBack(t *testing.T, wrap func(c *returning, w io.WriteCloser) io.WriteCloser, answer func(c *returning, typ wire.Type, resp []byte) []byte) *returning {
	c := &returning{cluster: filled(t, "n1", "n2", "n3")}
	c.nodes["n3"].kill()
	for i := range 10 {
		c.set("n1", "k"+string(rune('0'+i)), "while it was away")
	}
	c.equal("n1", "n2")
	c.nodes["n3"].cfg = func(cfg *replica.Config) {
		cfg.Events.Note = func(n core.Note) {
			if n.Kind == "alarm" && n.Peer == "n1" {
				c.alarms.Add(1)
			}
		}
	}
	codec, err := wire.NewCodec()
	require.NoError(t, err)
	c.wires.with(func(w *wires) {
		w.seen = func(_ string, frame []byte) {
			c.wires.mu.Lock()
			defer c.wires.mu.Unlock()
			if h, err := wire.ParseHello(slices.Clone(frame), codec, nil); err == nil {
				c.asked = append(c.asked, h.Copies)
			}
			for _, asked := range c.asked {
				if a, err := wire.ParseHelloAck(slices.Clone(frame), codec, asked); err == nil && len(a.Copies) > 0 {
					c.told = a.Copies
				}
			}
		}
		w.lane = func(from, to string, x io.WriteCloser) io.WriteCloser {
			if to == "n3" {
				c.wires.with(func(*wires) { c.donors = append(c.donors, from) })
			}
			if from == "n1" && to == "n3" && wrap != nil {
				return wrap(c, x)
			}
			return x
		}
		w.answer = func(from, to string, request, resp []byte) []byte {
			typ, _ := wire.TypeOf(request)
			if from != "n3" || to != "n1" || answer == nil {
				return resp
			}
			return answer(c, typ, resp)
		}
		// The liar is back at once; only then the other donor is there as well.
		w.onHangup = func(by, on string) {
			c.wires.disconnect(by, on)
			c.wires.connect(by, on)
			if c.wires.conn(by, "n2") == nil {
				c.wires.connect(by, "n2")
			}
		}
	})
	c.nodes["n3"].start()
	c.wires.connect("n1", "n3")
	return c
}

// hungUpFor waits until n3 has hung up on n1, and holds it to one breach, an alarm, and
// to have caught up with the other donor's help and to have taken nothing of the lie.
func (c *returning) hungUpFor(b wire.Breach) {
	c.t.Helper()
	c.wait("hung up", func() bool {
		c.wires.mu.Lock()
		defer c.wires.mu.Unlock()
		return len(c.wires.hungUp) > 0
	})
	c.live("n3")
	c.equal("n1", "n2", "n3")
	c.hangups.Wait()
	c.wires.with(func(w *wires) {
		require.Equal(c.t, []hangup{{"n3", "n1", b, w.hungUp[0].why}}, w.hungUp, "%s", b)
		// A lane of the session that was hung up on may be opened behind the other donor's.
		require.True(c.t, c.fetched || slices.Contains(c.donors, "n2"), "another donor is taken: %v", c.donors)
	})
	n3 := c.nodes["n3"]
	require.EqualValues(c.t, 1, n3.replica.Stats().Breaches[b].Load())
	require.EqualValues(c.t, 1, c.alarms.Load())
	for _, key := range []string{"k1", "k20", evil} {
		require.NotEqual(c.t, evil, n3.holds(key))
	}
	require.Equal(c.t, "while it was away", n3.holds("k1"))
	require.Equal(c.t, "v20", n3.holds("k20"))
}

// lying is the wrap of a lane that lies by its records.
func lying(lie func(c *returning, rec wire.LaneRecord) []wire.LaneRecord) func(*returning, io.WriteCloser) io.WriteCloser {
	return func(c *returning, w io.WriteCloser) io.WriteCloser {
		return c.lieOnLane(w, func(rec wire.LaneRecord) []wire.LaneRecord { return lie(c, rec) })
	}
}

// onlyAt makes a lie of one that is about the records of one type.
func onlyAt(t wire.Type, lie func(c *returning, rec wire.LaneRecord) []wire.LaneRecord) func(*returning, io.WriteCloser) io.WriteCloser {
	return lying(func(c *returning, rec wire.LaneRecord) []wire.LaneRecord {
		if rec.Type == t {
			return lie(c, rec)
		}
		return []wire.LaneRecord{rec}
	})
}

// forged is a dot of n3's own copy of a partition, that it has not given out.
func (c *returning) forged(p kv.Partition) kv.Dot {
	d := c.nodes["n3"].set.Shard(p).Issued()
	d.Seq++
	return d
}

// strange is a dot of an actor that nobody knows.
var strange = kv.Dot{Actor: kv.Actor{Node: 99, Boot: 9, Rand: 9}, Seq: 1}

func clockOf(dots ...kv.Dot) kv.Clock {
	var c kv.Clock
	for _, d := range dots {
		c.Add(d)
	}
	return c
}

func evilObject(d kv.Dot) kv.Object {
	return kv.Object{Versions: []kv.Version{{Dot: d, HLC: kv.HLC(1) << 60, Value: []byte(evil)}}, Ctx: kv.VV{d}}
}

// A donor whose lane breaks the protocol is hung up on with the code of its breach,
// nothing of the record is applied, and another donor brings what is missing.
func TestALaneThatBreaksTheProtocol(t *testing.T) {
	one := func(rec wire.LaneRecord) []wire.LaneRecord { return []wire.LaneRecord{rec} }
	spoil := func(rec wire.LaneRecord, d kv.Dot, key string) []wire.LaneRecord {
		rec.Batch.Copies = append(rec.Batch.Copies, wire.Copy{Key: []byte(key), Object: evilObject(d)})
		return one(rec)
	}
	for name, x := range map[string]struct {
		want wire.Breach
		wrap func(*returning, io.WriteCloser) io.WriteCloser
	}{
		"a key of another partition": {wire.BreachMisplaced, onlyAt(wire.TypeBatch, func(c *returning, rec wire.LaneRecord) []wire.LaneRecord {
			p := partOf(string(rec.Batch.Copies[0].Key))
			for i := byte('a'); ; i++ {
				if key := evil + string(i); partOf(key) != p {
					return spoil(rec, strange, key)
				}
			}
		})},
		"a version of the receiver's own": {wire.BreachForged, onlyAt(wire.TypeBatch, func(c *returning, rec wire.LaneRecord) []wire.LaneRecord {
			key := string(rec.Batch.Copies[0].Key)
			rec.Batch.Copies = nil
			return spoil(rec, c.forged(partOf(key)), key)
		})},
		"a base that has seen the future": {wire.BreachForged, onlyAt(wire.TypeBatch, func(c *returning, rec wire.LaneRecord) []wire.LaneRecord {
			rec.Batch.Base = rec.Batch.Base.With(c.forged(partOf(string(rec.Batch.Copies[0].Key))))
			return one(rec)
		})},
		"a context that has": {wire.BreachForged, onlyAt(wire.TypeBatch, func(c *returning, rec wire.LaneRecord) []wire.LaneRecord {
			o := &rec.Batch.Copies[0]
			o.Object.Ctx = o.Object.Ctx.With(c.forged(partOf(string(o.Key))))
			return one(rec)
		})},
		"keep of what nobody has": {wire.BreachKeep, onlyAt(wire.TypeEnd, func(_ *returning, rec wire.LaneRecord) []wire.LaneRecord {
			return []wire.LaneRecord{{Type: wire.TypeKeep, Keep: wire.Keep{Dots: clockOf(strange)}}, rec}
		})},
		"an end without what was sent": {wire.BreachEnd, onlyAt(wire.TypeEnd, func(_ *returning, rec wire.LaneRecord) []wire.LaneRecord {
			rec.End.Clock = clockOf(strange)
			return one(rec)
		})},
		"live dots beyond their clock": {wire.BreachEnd, onlyAt(wire.TypeEnd, func(_ *returning, rec wire.LaneRecord) []wire.LaneRecord {
			return []wire.LaneRecord{{Type: wire.TypeLiveDots, Live: wire.LiveDots{Clock: rec.End.Clock, Dots: clockOf(strange)}}, rec}
		})},
		"an end without a beginning": {wire.BreachMalformed, onlyAt(wire.TypeEnd, func(c *returning, rec wire.LaneRecord) []wire.LaneRecord {
			return []wire.LaneRecord{rec, rec}
		})},
		"a stop that was not asked for": {wire.BreachUnasked, onlyAt(wire.TypeEnd, func(*returning, wire.LaneRecord) []wire.LaneRecord {
			return []wire.LaneRecord{{Type: wire.TypeStop}}
		})},
		"a session that was never begun": {wire.BreachUnasked, onlyAt(wire.TypeLaneHead, func(_ *returning, rec wire.LaneRecord) []wire.LaneRecord {
			rec.Session += 1000
			return one(rec)
		})},
		"a partition that was not asked for": {wire.BreachUnasked, onlyAt(wire.TypeBegin, func(_ *returning, rec wire.LaneRecord) []wire.LaneRecord {
			rec.Begin.Partition = testPartitions + 5
			return one(rec)
		})},
		"bytes that do not fit their digest": {wire.BreachDigest, func(c *returning, w io.WriteCloser) io.WriteCloser {
			return c.lieOnLane(&spoiled{w, func(b []byte) []byte {
				if len(b) == 8 { // the digest
					b[7] ^= 1
				}
				return b
			}}, one)
		}},
		"bytes": {wire.BreachMalformed, func(_ *returning, w io.WriteCloser) io.WriteCloser {
			return &instead{w, []byte{9, 9, 9}}
		}},
		"a record past every limit": {wire.BreachOversized, func(_ *returning, w io.WriteCloser) io.WriteCloser {
			return &instead{w, []byte{0, 0xff, 0xff, 0xff, 0x7f}}
		}},
		"a bomb": {wire.BreachBomb, func(c *returning, w io.WriteCloser) io.WriteCloser {
			return &instead{w, bomb(c.t)}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				comesBack(t, x.wrap, nil).hungUpFor(x.want)
			})
		})
	}
}

// spoiled changes what is written.
type spoiled struct {
	io.WriteCloser
	fn func([]byte) []byte
}

func (s *spoiled) Write(b []byte) (int, error) {
	if _, err := s.WriteCloser.Write(s.fn(bytes.Clone(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// instead writes something else, once, and swallows the rest.
type instead struct {
	io.WriteCloser
	bytes []byte
}

func (i *instead) Write(b []byte) (int, error) {
	if i.bytes != nil {
		if _, err := i.WriteCloser.Write(i.bytes); err != nil {
			return 0, err
		}
		i.bytes = nil
	}
	return len(b), nil
}

// bomb is a compressed lane that wants 64 times the memory that a receiver gives.
func bomb(t *testing.T) []byte {
	var b bytes.Buffer
	b.WriteByte(1)
	z, err := zstd.NewWriter(&b, zstd.WithWindowSize(64*wire.WindowBytes), zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	_, err = z.Write(make([]byte, 4<<20))
	require.NoError(t, err)
	require.NoError(t, z.Flush())
	return b.Bytes()
}

// Frames that break the protocol outside of lanes end the connection as well.
func TestAFrameThatBreaksTheProtocol(t *testing.T) {
	codec, err := wire.NewCodec()
	require.NoError(t, err)
	live := func(fn func(c *returning) []byte) func(c *returning) {
		return func(c *returning) { require.Error(c.t, c.nodes["n3"].replica.LiveFrame("n1", fn(c))) }
	}
	control := func(fn func(c *returning) []byte) func(c *returning) {
		return func(c *returning) { c.nodes["n3"].replica.ControlFrame("n1", fn(c)) }
	}
	call := func(fn func(c *returning) []byte) func(c *returning) {
		return func(c *returning) {
			_, err := c.nodes["n3"].replica.Serve(c.t.Context(), "n1", fn(c))
			require.Error(c.t, err)
		}
	}
	write := func(c *returning, seq uint64, d kv.Dot) []byte {
		w := wire.Write{Seq: seq, Partition: partOf("k1"), Copy: wire.Copy{Key: []byte("k1"), Object: evilObject(d)}}
		return wire.Apply{Writes: []wire.Write{w}}.Append(nil)
	}
	ownClock := func(c *returning) []wire.CopyClock {
		p := partOf("k1")
		return []wire.CopyClock{{Partition: p, State: kv.Live, Trust: kv.Whole, Clock: clockOf(c.forged(p))}}
	}
	for name, x := range map[string]struct {
		want wire.Breach
		send func(c *returning)
	}{
		"live bytes":    {wire.BreachMalformed, live(func(*returning) []byte { return []byte{byte(wire.TypeApply), 1} })},
		"no bytes":      {wire.BreachMalformed, live(func(*returning) []byte { return nil })},
		"control bytes": {wire.BreachMalformed, control(func(*returning) []byte { return []byte{byte(wire.TypePing), 1} })},
		"request bytes": {wire.BreachMalformed, call(func(*returning) []byte { return []byte{byte(wire.TypeHello), 7} })},
		"too much": {wire.BreachOversized, live(func(*returning) []byte {
			return append([]byte{byte(wire.TypeApply)}, make([]byte, wire.MaxFrameBytes)...)
		})},
		"too many parts": {wire.BreachOversized, call(func(*returning) []byte {
			return wire.Clocks{Partitions: make([]kv.Partition, wire.MaxCopies+1)}.Append(nil)
		})},
		"a bomb in a request": {wire.BreachBomb, call(func(c *returning) []byte {
			z, err := zstd.NewWriter(nil)
			require.NoError(c.t, err)
			return z.EncodeAll(make([]byte, wire.MaxTableBytes+1), []byte{byte(wire.TypeHello), 1})
		})},
		"a key of another partition": {wire.BreachMisplaced, live(func(c *returning) []byte {
			w := wire.Write{Seq: 1 << 50, Partition: partOf("k1") ^ 1, Copy: wire.Copy{Key: []byte("k1"), Object: evilObject(strange)}}
			return wire.Apply{Writes: []wire.Write{w}}.Append(nil)
		})},
		"a dot of the receiver's own": {wire.BreachForged, live(func(c *returning) []byte { return write(c, 1<<50, c.forged(partOf("k1"))) })},
		"a floor of it": {wire.BreachForged, live(func(c *returning) []byte {
			w := wire.Write{Seq: 1 << 50, Partition: partOf("k1"), Copy: wire.Copy{Key: []byte("k1")}, Floor: kv.VV{c.forged(partOf("k1"))}}
			return wire.Apply{Writes: []wire.Write{w}}.Append(nil)
		})},
		"an ack's clock of it": {wire.BreachForged, live(func(c *returning) []byte { return wire.Ack{Copies: ownClock(c)}.Append(nil) })},
		"a hello's clock of it": {wire.BreachForged, call(func(c *returning) []byte {
			return wire.Hello{Session: 1, Copies: ownClock(c)}.Append(nil, codec, nil)
		})},
		"a write that was sent before": {wire.BreachReplayed, live(func(c *returning) []byte { return write(c, 1, strange) })},
		"an ack of what was not sent":  {wire.BreachUnasked, live(func(*returning) []byte { return wire.Ack{Seq: 1 << 60}.Append(nil) })},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := comesBack(t, nil, nil)
				c.live("n3")
				c.set("n1", "k0", "a write that n3 gets") // the live stream has begun
				c.fetched = true
				x.send(c)
				c.hungUpFor(x.want)
			})
		})
	}
}

// An answer that does not fit what was asked ends the connection too.
func TestAnAnswerThatBreaksTheProtocol(t *testing.T) {
	other := kv.Partition(testPartitions + 3)
	for name, x := range map[string]struct {
		want wire.Breach
		of   wire.Type
		lie  func(c *returning, resp []byte) []byte
	}{
		"hello: bytes": {wire.BreachMalformed, wire.TypeHello, func(_ *returning, r []byte) []byte { return r[:1] }},
		"hello: a copy that was not asked about": {wire.BreachUnasked, wire.TypeHello, func(c *returning, _ []byte) []byte {
			codec, err := wire.NewCodec()
			require.NoError(c.t, err)
			return wire.HelloAck{Copies: []wire.CopyClock{{Partition: other, State: kv.Live}}}.Append(nil, codec, nil)
		}},
		"done: a partition that was not asked about": {wire.BreachUnasked, wire.TypeDone, func(*returning, []byte) []byte {
			return wire.DoneAck{Bad: []kv.Partition{other}}.Append(nil)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				lied := false
				c := comesBack(t, nil, func(c *returning, typ wire.Type, resp []byte) []byte {
					if typ != x.of || lied {
						return resp
					}
					lied, c.fetched = true, typ == wire.TypeDone
					return x.lie(c, slices.Clone(resp))
				})
				c.hungUpFor(x.want)
			})
		})
	}
}
