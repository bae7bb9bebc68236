package wire_test

import (
	"math"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

// actors are few, so that dots of one actor meet, and more than fit the loop of
// a small dictionary.
func drawActor(t *rapid.T) kv.Actor {
	n := rapid.Uint32Range(1, 12).Draw(t, "actor")
	return kv.Actor{Node: kv.NodeID(n) << 40, Boot: n * 7, Rand: n << 20}
}

func drawSeq(t *rapid.T) uint64 {
	if rapid.IntRange(0, 20).Draw(t, "bigSeq") == 0 {
		return rapid.Uint64Range(1, math.MaxUint64).Draw(t, "seq")
	}
	return rapid.Uint64Range(1, 40).Draw(t, "seq")
}

func drawDot(t *rapid.T) kv.Dot { return kv.Dot{Actor: drawActor(t), Seq: drawSeq(t)} }

func drawVV(t *rapid.T) kv.VV {
	var v kv.VV
	for _, d := range rapid.SliceOfN(rapid.Custom(drawDot), 0, 6).Draw(t, "vv") {
		v = v.With(d)
	}
	for _, seal := range rapid.SliceOfN(rapid.Custom(drawSeal), 0, 1).Draw(t, "seals") {
		v = v.With(seal)
	}
	return v
}

// drawSeal draws a seal over an actor's process, or over those before it alone.
func drawSeal(t *rapid.T) kv.Dot {
	a := drawActor(t)
	return kv.SealOf(a.Node, a.Boot-rapid.Uint32Range(0, 1).Draw(t, "before"))
}

func drawClock(t *rapid.T) kv.Clock {
	c := drawDots(t)
	for _, seal := range rapid.SliceOfN(rapid.Custom(drawSeal), 0, 2).Draw(t, "seals") {
		c.Seal(seal)
	}
	return c
}

// drawDots draws a set of dots, in which there is no seal.
func drawDots(t *rapid.T) kv.Clock {
	var c kv.Clock
	for range rapid.IntRange(0, 8).Draw(t, "runs") {
		a, from := drawActor(t), drawSeq(t)
		to := from + rapid.Uint64Range(0, 9).Draw(t, "length")
		c.AddRun(a, kv.Run{From: from, To: max(from, to)})
	}
	return c
}

func drawBytes(t *rapid.T, name string, most int) []byte {
	return append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, name)...)
}

func drawOptional(t *rapid.T, name string) []byte {
	return rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, name)
}

func drawKey(t *rapid.T) []byte { return rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "key") }

func drawVersion(t *rapid.T) kv.Version {
	v := kv.Version{Dot: drawDot(t)}
	v.HLC = kv.HLCAt(rapid.Int64Range(1, 1<<41).Draw(t, "ms")) + kv.HLC(rapid.Uint64Range(0, 3).Draw(t, "counter"))
	v.Flags = kv.Flags(rapid.IntRange(0, 3).Draw(t, "flags"))
	if rapid.Bool().Draw(t, "expires") {
		v.ExpiresMS = rapid.Int64Range(1, 1<<50).Draw(t, "expiry")
	}
	if !v.Tombstone() {
		v.Value = drawBytes(t, "value", 60)
	}
	return v
}

func drawObject(t *rapid.T) kv.Object {
	vs := rapid.SliceOfNDistinct(rapid.Custom(drawVersion), 0, 4, func(v kv.Version) kv.Dot { return v.Dot }).Draw(t, "versions")
	slices.SortFunc(vs, func(a, b kv.Version) int { return a.Dot.Compare(b.Dot) })
	if len(vs) == 0 {
		vs = nil
	}
	return kv.Object{Versions: vs, Ctx: drawVV(t)}
}

func drawPartition(t *rapid.T) kv.Partition {
	if rapid.IntRange(0, 9).Draw(t, "system") == 0 {
		return kv.System
	}
	return kv.Partition(rapid.Uint32Range(0, 300).Draw(t, "partition"))
}

func drawPartitions(t *rapid.T) []kv.Partition {
	ps := rapid.SliceOfN(rapid.Custom(drawPartition), 0, 20).Draw(t, "partitions")
	if len(ps) == 0 {
		return nil
	}
	return ps
}

func drawHeldDots(t *rapid.T) []wire.HeldDots {
	var out []wire.HeldDots
	for range rapid.IntRange(0, 2).Draw(t, "held") {
		out = append(out, wire.HeldDots{Partition: drawPartition(t), Dots: drawDots(t)})
	}
	return out
}

func drawCopies(t *rapid.T) []wire.CopyClock {
	ps := rapid.SliceOfNDistinct(rapid.Custom(drawPartition), 0, 30, rapid.ID[kv.Partition]).Draw(t, "partitions")
	slices.Sort(ps)
	var out []wire.CopyClock
	for _, p := range ps {
		out = append(out, wire.CopyClock{
			Partition: p,
			Actor:     drawActor(t),
			State:     kv.State(rapid.IntRange(0, 4).Draw(t, "state")),
			Trust:     kv.Trust(rapid.IntRange(0, 2).Draw(t, "trust")),
			Lost:      rapid.Bool().Draw(t, "lost"),
			Clock:     drawClock(t),
		})
		last := &out[len(out)-1]
		last.Damaged = last.Trust == kv.Suspect && rapid.Bool().Draw(t, "damaged")
		last.Quarantined = last.Trust == kv.New && last.State == kv.CatchingUp && rapid.Bool().Draw(t, "quarantined")
	}
	return out
}

// drawNear draws a table near ref, as answers are.
func drawNear(t *rapid.T, ref []wire.CopyClock) []wire.CopyClock {
	var out []wire.CopyClock
	for _, c := range ref {
		if rapid.IntRange(0, 5).Draw(t, "drop") == 0 {
			continue
		}
		c.Clock = c.Clock.Clone()
		for range rapid.IntRange(0, 2).Draw(t, "more") {
			c.Clock.Join(drawClock(t))
		}
		out = append(out, c)
	}
	return out
}

func drawRoot(t *rapid.T) (r [16]byte) {
	copy(r[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "root"))
	return r
}

func drawResponse(t *rapid.T) kv.Response {
	p := kv.Response{
		Found: rapid.Bool().Draw(t, "found"), Changed: rapid.Bool().Draw(t, "changed"), Partial: rapid.Bool().Draw(t, "partial"),
		Value: drawBytes(t, "value", 50), ExpiresMS: rapid.Int64().Draw(t, "exp"), Int: rapid.Int64().Draw(t, "int"),
		Token: drawOptional(t, "token"), Fence: drawOptional(t, "fence"),
		ETag: rapid.StringN(0, 40, 200).Draw(t, "etag"), View: rapid.StringN(0, 40, 200).Draw(t, "view"),
		Copies: rapid.IntRange(0, wire.MaxQuorum).Draw(t, "copies"), Wanted: rapid.IntRange(0, 3).Draw(t, "wanted"),
		StandIns: rapid.IntRange(0, wire.MaxQuorum).Draw(t, "stand-ins"),
		State:    kv.State(rapid.IntRange(0, 4).Draw(t, "state")),
	}
	for range rapid.IntRange(0, 3).Draw(t, "siblings") {
		p.Siblings = append(p.Siblings, kv.Sibling{
			Value: drawBytes(t, "sibling", 30), Dot: drawDot(t),
			HLC: kv.HLC(rapid.Uint64().Draw(t, "hlc")), ExpiresMS: rapid.Int64().Draw(t, "exp"),
		})
	}
	return p
}

func drawRequest(t *rapid.T) kv.Request {
	on := func(name string) bool { return rapid.Bool().Draw(t, name) }
	return kv.Request{
		Op: kv.Op(rapid.IntRange(1, 7).Draw(t, "op")), Key: drawKey(t), Value: drawBytes(t, "value", 80),
		ExpiresMS: rapid.Int64().Draw(t, "exp"), Delta: rapid.Int64().Draw(t, "delta"),
		NX: on("nx"), XX: on("xx"), GT: on("gt"), LT: on("lt"), KeepTTL: on("keep"), ReturnOld: on("old"),
		Siblings: on("siblings"), Meta: on("meta"), System: on("system"),
		IfMatch:     rapid.SliceOfN(rapid.StringN(0, 20, 80), 1, 4).Draw(t, "ifMatch"),
		IfNoneMatch: rapid.SliceOfN(rapid.StringN(0, 20, 80), 1, 4).Draw(t, "ifNoneMatch"),
		Token:       drawOptional(t, "token"), Fence: drawOptional(t, "fence"),
		R: rapid.IntRange(0, wire.MaxQuorum).Draw(t, "r"), W: rapid.IntRange(0, wire.MaxQuorum).Draw(t, "w"),
	}
}

func newCodec(t require.TestingT) *wire.Codec {
	c, err := wire.NewCodec()
	require.NoError(t, err)
	return c
}

// frameCase is one kind of frame: how to draw one as (bytes, what it holds), and
// how to read it back.
type frameCase struct {
	name  string
	draw  func(t *rapid.T) (frame []byte, value any)
	parse func(frame []byte) (any, error)
}

func drawAs[F interface{ Append([]byte) []byte }](draw func(*rapid.T) F) func(*rapid.T) ([]byte, any) {
	return func(t *rapid.T) ([]byte, any) {
		f := draw(t)
		return f.Append(nil), f
	}
}

func parseAs[F any](parse func([]byte) (F, error)) func([]byte) (any, error) {
	return func(b []byte) (any, error) { return parse(b) }
}

func testFrames(c *wire.Codec, ref []wire.CopyClock) []frameCase {
	return append(plainFrames(), packedFrames(c, ref)...)
}

func plainFrames() []frameCase {
	u64 := func(t *rapid.T, name string) uint64 { return rapid.Uint64().Draw(t, name) }
	ping := func(t *rapid.T) wire.Ping {
		return wire.Ping{Stamp: int64(u64(t, "stamp")), StateVersion: u64(t, "version"), WallMS: int64(u64(t, "wall")), HLC: kv.HLC(u64(t, "hlc"))}
	}
	return []frameCase{
		{"ping", drawAs(ping), parseAs(wire.ParsePing)},
		{"pong", drawAs(func(t *rapid.T) wire.Pong {
			p := ping(t)
			return wire.Pong{
				Stamp: p.Stamp, StateVersion: p.StateVersion, WallMS: p.WallMS, HLC: p.HLC,
				Load: wire.Load{
					Sessions: rapid.Byte().Draw(t, "sessions"), Busy: rapid.Byte().Draw(t, "busy"), Mem: rapid.Byte().Draw(t, "mem"),
					EgressKiBps: rapid.Uint32().Draw(t, "egress"), Leaving: rapid.Bool().Draw(t, "leaving"),
				},
			}
		}), parseAs(wire.ParsePong)},
		{"state", drawAs(func(t *rapid.T) wire.State {
			s := wire.State{Version: u64(t, "version"), View: u64(t, "view"), System: wire.Serving(rapid.IntRange(0, 3).Draw(t, "system"))}
			for range rapid.IntRange(0, 40).Draw(t, "parts") {
				s.Parts = append(s.Parts, wire.Serving(rapid.IntRange(0, 3).Draw(t, "part")))
			}
			return s
		}), parseAs(wire.ParseState)},
		{"apply", drawAs(func(t *rapid.T) wire.Apply {
			a, seq := wire.Apply{View: u64(t, "view")}, u64(t, "first")>>1
			for range rapid.IntRange(0, 5).Draw(t, "writes") {
				seq += rapid.Uint64Range(0, 3).Draw(t, "step")
				a.Writes = append(a.Writes, wire.Write{
					Seq: seq, Partition: drawPartition(t),
					Copy: wire.Copy{Key: drawKey(t), Object: drawObject(t)}, Floor: drawVV(t),
				})
			}
			return a
		}), parseAs(wire.ParseApply)},
		{"ack", drawAs(func(t *rapid.T) wire.Ack {
			a := wire.Ack{Seq: u64(t, "seq"), Copies: drawCopies(t)}
			for _, p := range drawPartitions(t) {
				a.Elsewhere = append(a.Elsewhere, wire.First{Partition: p, Name: rapid.StringN(0, 8, 64).Draw(t, "first")})
			}
			return a
		}), parseAs(wire.ParseAck)},
		{"forward", drawAs(func(t *rapid.T) wire.Forward {
			return wire.Forward{DeadlineMS: rapid.Uint32().Draw(t, "deadline"), View: u64(t, "view"), Request: drawRequest(t)}
		}), parseAs(wire.ParseForward)},
		{"result", drawAs(func(t *rapid.T) wire.Result { return wire.Result{Response: drawResponse(t)} }), parseAs(wire.ParseResult)},
		{"error", drawAs(func(t *rapid.T) wire.Result {
			return wire.Result{Err: &kv.Error{Code: kv.Code(rapid.IntRange(1, 12).Draw(t, "code")), Text: rapid.String().Draw(t, "text")}}
		}), parseAs(wire.ParseResult)},
		{"read", drawAs(func(t *rapid.T) wire.Read {
			return wire.Read{Partition: drawPartition(t), Key: drawKey(t)}
		}), parseAs(wire.ParseRead)},
		{"object", drawAs(func(t *rapid.T) wire.Object {
			return wire.Object{State: kv.State(rapid.IntRange(0, 4).Draw(t, "state")), Actor: drawActor(t), Object: drawObject(t), Floor: drawVV(t)}
		}), parseAs(wire.ParseObject)},
		{"clocks", drawAs(func(t *rapid.T) wire.Clocks { return wire.Clocks{Partitions: drawPartitions(t)} }), parseAs(wire.ParseClocks)},
		{"clocks ack", drawAs(func(t *rapid.T) wire.ClocksAck { return wire.ClocksAck{Copies: drawCopies(t)} }), parseAs(wire.ParseClocksAck)},
		{"cover", drawAs(func(t *rapid.T) wire.Cover {
			return wire.Cover{View: u64(t, "view"), Copies: drawCopies(t)}
		}), parseAs(wire.ParseCover)},
		{"cover ack", drawAs(func(t *rapid.T) wire.CoverAck { return wire.CoverAck{Covered: drawPartitions(t)} }), parseAs(wire.ParseCoverAck)},
		{"seal", drawAs(func(t *rapid.T) wire.Seal {
			s := wire.Seal{View: u64(t, "view"), Node: kv.NodeID(u64(t, "node")), Boot: rapid.Uint32().Draw(t, "boot"), Close: rapid.Bool().Draw(t, "close")}
			for _, p := range drawPartitions(t) {
				x := wire.SealPart{Partition: p}
				if s.Close {
					x.Found = u64(t, "found")
				}
				s.Parts = append(s.Parts, x)
			}
			return s
		}), parseAs(wire.ParseSeal)},
		{"seal ack", drawAs(func(t *rapid.T) wire.SealAck {
			var s wire.SealAck
			for _, p := range drawPartitions(t) {
				x := wire.SealState{Partition: p, Promise: wire.Promise(rapid.IntRange(0, 4).Draw(t, "promise")), Whole: rapid.Bool().Draw(t, "whole")}
				if x.Promise == wire.SealFenced {
					x.Sum = u64(t, "sum")
				}
				s.Parts = append(s.Parts, x)
			}
			return s
		}), parseAs(wire.ParseSealAck)},
		{"scan", drawAs(func(t *rapid.T) wire.Scan {
			return wire.Scan{Partition: drawPartition(t), From: u64(t, "from"), Limit: rapid.Uint32Range(0, wire.MaxScanKeys).Draw(t, "limit"), Prefix: drawOptional(t, "prefix")}
		}), parseAs(wire.ParseScan)},
		{"scan ack", drawAs(func(t *rapid.T) wire.ScanAck {
			s := wire.ScanAck{State: kv.State(rapid.IntRange(0, 4).Draw(t, "state")), Next: u64(t, "next"), Done: rapid.Bool().Draw(t, "done")}
			for range rapid.IntRange(0, 6).Draw(t, "keys") {
				s.Keys = append(s.Keys, wire.ScannedKey{Key: drawKey(t), ExpiresMS: rapid.Int64().Draw(t, "exp")})
			}
			return s
		}), parseAs(wire.ParseScanAck)},
		{"count", drawAs(func(t *rapid.T) wire.Count { return wire.Count{Partitions: drawPartitions(t)} }), parseAs(wire.ParseCount)},
		{"count ack", drawAs(func(t *rapid.T) wire.CountAck {
			return wire.CountAck{Keys: rapid.SliceOfN(rapid.Int64Range(-1, 1<<40), 1, 30).Draw(t, "keys")}
		}), parseAs(wire.ParseCountAck)},
		{"done ack", drawAs(func(t *rapid.T) wire.DoneAck {
			return wire.DoneAck{Compared: drawPartitions(t), Bad: drawPartitions(t), NeedClocks: rapid.Bool().Draw(t, "need clocks")}
		}), parseAs(wire.ParseDoneAck)},
		{"taken", drawAs(func(t *rapid.T) wire.Taken {
			return wire.Taken{Session: u64(t, "session"), Lane: rapid.Uint8Range(0, wire.MaxSessionLanes-1).Draw(t, "lane"), Chunks: u64(t, "chunks")}
		}), parseAs(wire.ParseTaken)},
		{"tick", drawAs(func(t *rapid.T) wire.Tick {
			return wire.Tick{View: u64(t, "view"), Root: drawRoot(t), Pending: u64(t, "pending")}
		}), parseAs(wire.ParseTick)},
		{"tree", drawAs(drawTree), parseAs(wire.ParseTree)},
		{"tree ack", drawAs(drawTreeAck), parseAs(wire.ParseTreeAck)},
		{"held", drawAs(drawHeld), parseAs(wire.ParseHeld)},
		{"held ack", drawAs(drawHeldAck), parseAs(wire.ParseHeldAck)},
	}
}

func packedFrames(c *wire.Codec, ref []wire.CopyClock) []frameCase {
	u64 := func(t *rapid.T, name string) uint64 { return rapid.Uint64().Draw(t, name) }
	return []frameCase{
		{"hello", func(t *rapid.T) ([]byte, any) {
			h := wire.Hello{Session: u64(t, "session"), View: u64(t, "view"), Root: drawRoot(t), Pending: u64(t, "pending"), Wants: drawPartitions(t)}
			h.Orders = drawOrders(t)
			h.Planned = len(h.Orders) > 0 && rapid.Bool().Draw(t, "planned")
			for i := range h.Orders {
				if h.Planned {
					h.Orders[i].MaxBytes = u64(t, "most")
				}
			}
			if h.Pending > 0 {
				h.Held = drawHeldDots(t)
			}
			if rapid.Bool().Draw(t, "leans") {
				h.Copies = drawNear(t, ref)
				return h.Append(nil, c, ref), h
			}
			h.Copies = drawCopies(t)
			return h.Append(nil, c, nil), h
		}, func(b []byte) (any, error) { return wire.ParseHello(b, c, checkpointOf(ref)) }},
		{"hello ack", func(t *rapid.T) ([]byte, any) {
			h := wire.HelloAck{Code: wire.HelloCode(rapid.IntRange(0, 3).Draw(t, "code")), View: u64(t, "view"), Copies: drawNear(t, ref)}
			if h.Equal = drawNear(t, ref); rapid.Bool().Draw(t, "others") {
				h.Equal = drawCopies(t)
			}
			h.Equal = slices.DeleteFunc(h.Equal, func(c wire.CopyClock) bool {
				return slices.ContainsFunc(h.Copies, func(d wire.CopyClock) bool { return c.Partition == d.Partition })
			})
			if len(h.Equal) == 0 {
				h.Equal = nil
			}
			for i := range h.Equal {
				h.Equal[i].Clock = kv.Clock{}
			}
			return h.Append(nil, c, ref), h
		}, func(b []byte) (any, error) { return wire.ParseHelloAck(b, c, ref) }},
		{"done", func(t *rapid.T) ([]byte, any) {
			d := wire.Done{Session: u64(t, "session"), Copies: drawNear(t, ref)}
			if rapid.Bool().Draw(t, "of no session") {
				d.Session = 0
			}
			for range rapid.IntRange(0, 6).Draw(t, "digests") {
				d.Digests = append(d.Digests, wire.Digest{Partition: drawPartition(t), Count: u64(t, "count"), Sum: drawRoot(t)})
			}
			return d.Append(nil, c, ref), d
		}, func(b []byte) (any, error) { return wire.ParseDone(b, c, ref, checkpointOf(ref)) }},
		{"tick ack", func(t *rapid.T) ([]byte, any) {
			a := wire.TickAck{Code: wire.HelloCode(rapid.IntRange(0, 3).Draw(t, "code")), Copies: drawCopies(t)}
			return a.Append(nil, c), a
		}, func(b []byte) (any, error) { return wire.ParseTickAck(b, c) }},
	}
}

func checkpointOf(ref []wire.CopyClock) func(uint64) []wire.CopyClock {
	return func(id uint64) []wire.CopyClock {
		if id == wire.CheckpointID(ref) {
			return ref
		}
		return nil
	}
}

// testRef is a table that answers lean on.
func testRef() []wire.CopyClock {
	return rapid.Custom(drawCopies).Filter(func(c []wire.CopyClock) bool { return len(c) > 5 }).Example(7)
}
