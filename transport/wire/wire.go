// Package wire has the bytes of every frame that nodes exchange, one file a
// frame. A frame is one type byte and a body, little endian; every length is
// checked before anything is allocated for it. Parsed frames own their memory
// unless a comment says otherwise.
//
// Actors are 16 bytes and repeat, so a frame that holds dots begins with a
// dictionary of the actors in it, and everything behind names them by index.
// Unknown bytes at a frame's end are optional fields of a later version and are
// skipped; a frame that ends early is an error.
package wire

import "edged.dev/edged/internal/kv"

// Version is the protocol version spoken here. A peer of another version is
// refused when it says CONN.
const Version = 3

// Type is the first byte of a frame.
type Type byte

// The frames. The numbers are the protocol: append only.
const (
	TypeConn      Type = 1
	TypeConnAck   Type = 2
	TypePing      Type = 3
	TypePong      Type = 4
	TypeState     Type = 5
	TypeApply     Type = 6
	TypeAck       Type = 7
	TypeForward   Type = 8
	TypeResult    Type = 9
	TypeRead      Type = 10
	TypeObject    Type = 11
	TypeClocks    Type = 12
	TypeClocksAck Type = 13
	TypeScan      Type = 14
	TypeScanAck   Type = 15
	TypeHello     Type = 16
	TypeHelloAck  Type = 17
	TypeDone      Type = 18
	TypeDoneAck   Type = 19
	TypeTick      Type = 20
	TypeTickAck   Type = 21
	TypeCount     Type = 22
	TypeCountAck  Type = 23
	TypeCover     Type = 24
	TypeCoverAck  Type = 25
	TypeTree      Type = 26
	TypeTreeAck   Type = 27
	TypeHeld      Type = 28
	TypeHeldAck   Type = 29
	TypeLaneHead  Type = 32
	TypeBegin     Type = 33
	TypeBatch     Type = 34
	TypeKeep      Type = 35
	TypeTail      Type = 36
	TypeEnd       Type = 37
	TypeClose     Type = 39
	TypeLiveDots  Type = 40
	TypeSeal      Type = 41
	TypeSealAck   Type = 42
	TypeWhole     Type = 43 // a partition that went as the HELLO_ACK told: its begin, batch and end
	TypeTaken     Type = 44
	TypeStop      Type = 45 // a partition that goes no further in this session
)

// Ping asks a peer for a sign of life; the answer echoes Stamp, so that a lease
// counts from when the question was sent.
type Ping struct {
	Stamp        int64 // sender's boot-time clock, nanoseconds; opaque to the receiver
	StateVersion uint64
	WallMS       int64
	HLC          kv.HLC
}

// Pong answers a Ping with its Stamp and the answerer's own fields.
type Pong struct {
	Stamp        int64
	StateVersion uint64
	WallMS       int64
	HLC          kv.HLC
	Load         Load
}

// Load is what a node has to do, by its own word: who chooses a donor goes by it.
type Load struct {
	Sessions uint8 // that it streams
	Busy     uint8 // percent of its processors that its process uses
	Mem      uint8 // percent of the memory for its store's tier that is in use
	// EgressKiBps is what it sends to other nodes, streams of sessions aside.
	EgressKiBps uint32
	Leaving     bool // it stops, and serves nothing more
}

// Serving is what STATE tells of a partition, two bits.
type Serving uint8

// The four things a peer may be for a partition.
const (
	NotServing Serving = iota
	ServingLive
	ServingMarked // isolated or degraded
	StandIn
)

// State tells a peer what the sender serves. Parts has one entry for each
// partition number from 0; System is the system partition's.
type State struct {
	Version uint64
	View    uint64 // hash of the layout it goes by
	System  Serving
	Parts   []Serving
}

// Copy names an object travelling with its key.
type Copy struct {
	Key    []byte
	Object kv.Object // filled
}

// Write is one change replicated to another owner.
type Write struct {
	Seq       uint64 // of the live stream, ascending by one
	Partition kv.Partition
	Copy
	Floor kv.VV // the sender's, joined before the object (R5)
}

// Apply carries replicated writes in the order they were published.
type Apply struct {
	View   uint64
	Writes []Write
}

// CopyClock tells of a copy: who it is and what it durably holds.
type CopyClock struct {
	Partition kv.Partition
	Actor     kv.Actor
	State     kv.State
	Trust     kv.Trust
	Lost      bool // the sender holds that the receiver's copy was rolled back (R8)
	Damaged   bool // the copy, suspect, may hold less than its clock says: it is streamed to nobody
	// Quarantined: the copy has lost its clock, and holds what this one does not say. It
	// is New and catches up, and is streamed to nobody.
	Quarantined bool
	Clock       kv.Clock
}

// Ack says that every write up to Seq is applied (and, under sync durability,
// durable); Copies has the durable clocks of the partitions touched since the
// last Ack. Elsewhere names, for those of them of which the receiver is not the first
// serving owner in the sender's view, who was when the writes became durable.
type Ack struct {
	Seq       uint64
	Copies    []CopyClock
	Elsewhere []First
}

// First names the first serving owner of a partition in a node's view, "" for none.
type First struct {
	Partition kv.Partition
	Name      string
}

// maxFirstBytes bounds a name: that of a member.
const maxFirstBytes = 64

// Forward asks a serving owner to run a request. DeadlineMS is what is left.
type Forward struct {
	DeadlineMS uint32
	View       uint64
	Request    kv.Request
}

// Result answers a Forward: Err, or Response.
type Result struct {
	Err      *kv.Error
	Response kv.Response
}

// Read asks an owner for its copy of one object.
type Read struct {
	Partition kv.Partition
	Key       []byte
}

// Object answers a Read: the object filled, the copy's whole base as the token
// context, its floor, state and actor. It counts as a quorum's answer only if
// the state is Live.
type Object struct {
	State  kv.State
	Actor  kv.Actor
	Object kv.Object
	Floor  kv.VV
}

// Clocks asks for the durable clocks of copies.
type Clocks struct{ Partitions []kv.Partition }

// ClocksAck answers Clocks; partitions the peer does not hold are left out.
type ClocksAck struct{ Copies []CopyClock }

// Scan asks for keys of one partition from a 48-bit order on.
type Scan struct {
	Partition kv.Partition
	From      uint64
	Limit     uint32
	Prefix    []byte
}

// ScanAck answers Scan. Next is the order to go on from; Done says there is none.
type ScanAck struct {
	State kv.State
	Keys  []ScannedKey
	Next  uint64
	Done  bool
}

// ScannedKey is a live key and its expiry.
type ScannedKey struct {
	Key       []byte
	ExpiresMS int64
}

// Count asks how many live keys copies hold; CountAck answers, in order, with
// -1 for a partition the peer does not serve.
type Count struct{ Partitions []kv.Partition }

// CountAck answers Count.
type CountAck struct{ Keys []int64 }

// Mode is a rung of the ladder a session takes for one partition.
type Mode uint8

// The rungs. Part of the protocol: append only.
const (
	ModeEqual    Mode = iota // L0: nothing to send
	ModeInterval             // L1: what the dot index has above the receiver's base
	ModeLive                 // L2: and which dots below it are live
	ModeBoth                 // L3: and which of those live that the receiver told of
)

// Hello begins a session: what the sender (the receiver of data) holds of the
// partitions it shares with the peer, and which of them it asks the peer to
// stream now. Root is over the clocks and digests; Pending over objects whose
// context is beyond the clock. Without Clocks it asks whether roots are equal.
type Hello struct {
	Session uint64 // unique for the sender's process; the lane carries it
	View    uint64
	Root    [16]byte
	Pending uint64
	Copies  []CopyClock
	Wants   []kv.Partition
	// Orders say how wanted partitions are to be streamed. If they are Planned, it is
	// in their order, before all others; else the donor's own reads count as much.
	Orders  []Order
	Planned bool
	// AsksHeat has the donor tell what is read of it: the plan is made by that.
	AsksHeat bool
	// Held has, of wanted partitions of which this copy lost its clock, the versions
	// that are there, whatever the clock in Copies claims. It is told only with Pending:
	// such a copy can be compared with none.
	Held []HeldDots
}

// HeldDots is a set of versions of one partition.
type HeldDots struct {
	Partition kv.Partition
	Dots      kv.Clock
}

// HelloCode says how a Hello or a Tick was taken.
type HelloCode uint8

// How a Hello may be answered.
const (
	HelloOK HelloCode = iota
	HelloEqual
	HelloBusy
	HelloNeedClocks
)

// HelloAck answers Hello: of partitions that differ, the peer's own copies; of
// equal ones only trust and state.
type HelloAck struct {
	Code   HelloCode
	View   uint64
	Copies []CopyClock
	Equal  []CopyClock // Clock left out: it equals the asker's
	Heat   Heat        // where the HELLO asked for it
}

// Done ends a session: the receiver's durable clocks, and the digest of each
// partition whose clock it holds to be equal to the peer's.
type Done struct {
	Session uint64
	Copies  []CopyClock
	Digests []Digest
}

// Digest is the checkable content of one partition.
type Digest struct {
	Partition kv.Partition
	Count     uint64
	Sum       [16]byte
}

// DoneAck answers Done: partitions compared, and of them those that differ.
type DoneAck struct {
	Compared []kv.Partition
	Bad      []kv.Partition
	// NeedClocks says that nothing was looked at: the checkpoint that the DONE leans
	// on is not here.
	NeedClocks bool
}

// Tick compares roots between running nodes; TickAck says equal, or has the
// answerer's copies of the partitions both hold.
type Tick struct {
	View    uint64
	Root    [16]byte
	Pending uint64
}

// TickAck answers Tick.
type TickAck struct {
	Code   HelloCode
	Copies []CopyClock
}

// Taken tells the donor of a lane that everything in so many of its chunks, from the
// first, is written where it went. The donor goes by it in how much it keeps under way.
// It is sent on control, for each chunk but the last, and each is more than the one
// before.
type Taken struct {
	Session uint64
	Lane    uint8
	Chunks  uint64
}

// Begin opens a partition in a lane.
type Begin struct {
	Partition kv.Partition
	Mode      Mode
}

// Batch carries whole objects of the partition last begun. Base is the donor's,
// taken from the same snapshot; objects travel with explicit context only and
// are handed out filled. Floor is the donor's collection floor of the snapshot,
// joined before the objects. A Tail has the same shape and holds changed objects.
type Batch struct {
	Base   kv.VV
	Floor  kv.VV
	Copies []Copy
}

// Keep names dots above the receiver's base that the receiver has already.
type Keep struct{ Dots kv.Clock }

// LiveDots names those dots below the receiver's base that the donor holds, as
// of a moment when its clock was Clock. What Clock has of them and Dots has not
// is dead. Large sets come in several records with the same Clock: More is set in
// all but the last.
type LiveDots struct {
	Clock kv.Clock
	Dots  kv.Clock
	More  bool
}

// End closes a partition (PEND): the donor's published clock and floor at the
// moment when nothing was left to send.
type End struct {
	Clock kv.Clock
	Floor kv.VV
}
