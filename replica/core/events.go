package core

import (
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/transport/wire"
)

// Event is something that happened. The concrete types are below.
type Event interface{ event() }

// Events the shell hands in.
type (
	// LayoutChanged gives the layout of the system partition as this node has it.
	LayoutChanged struct{ Layout *layout.Layout }
	// PeerUp says that a connection to a member is there.
	PeerUp struct {
		Name string
		Node kv.NodeID
		Boot uint32
	}
	// PeerDown says that it is gone.
	PeerDown struct {
		Name string
		Boot uint32
	}
	// Stated brings a peer's STATE.
	Stated struct {
		Name  string
		State wire.State
	}
	// Ponged brings the stamp of a PING that a peer answered, and what it has to do.
	Ponged struct {
		Name  string
		Stamp int64
		Load  wire.Load
	}
	// HelloAnswered brings the answer to a HELLO, or Failed. Clocks that it says are
	// equal are those that were told.
	HelloAnswered struct {
		Name    string
		Session uint64
		Ack     wire.HelloAck
		Wants   []kv.Partition
		Failed  bool
		AskAt   int64 // when the HELLO was sent
	}
	// HelloAsked brings a peer's own HELLO: what it holds.
	HelloAsked struct {
		Name   string
		Node   kv.NodeID
		Copies []wire.CopyClock
	}
	// PartEnded says that a streamed partition's end is durable here, or that
	// its session was cut (Failed).
	PartEnded struct {
		Name      string
		Session   uint64
		Partition kv.Partition
		Failed    bool
		Stopped   bool // as much of it came as a plan lets one session bring
		Below     bool // the donor had to tell which dots are live (L2)
		Both      bool // this copy had to tell what it holds (L3)
		Buried    int  // versions that only this told to be dead
	}
	// PartsEnded brings several of them, with one look at what follows: a session of
	// many partitions ends most of them together.
	PartsEnded []PartEnded
	// SessionEnded says that a session's lane is over, in order or not. It comes
	// once, behind the answer to the session's HELLO.
	SessionEnded struct {
		Name    string
		Session uint64
		Parts   []kv.Partition // that ended in order
	}
	// DoneAnswered brings the answer to DONE for the partitions it was about.
	DoneAnswered struct {
		Name   string
		Parts  []kv.Partition
		Ack    wire.DoneAck
		Failed bool
	}
	// PeerEqual says that a peer's digests of partitions were found equal to this
	// node's at equal clocks, when it asked.
	PeerEqual struct {
		Name  string
		Parts []kv.Partition
	}
	// DoneAsked brings a peer's DONE: its durable clocks.
	DoneAsked struct {
		Name   string
		Node   kv.NodeID
		Copies []wire.CopyClock
	}
	// Acked brings durable clocks that a peer's ACK carried.
	Acked struct {
		Name   string
		Copies []wire.CopyClock
	}
	// ClocksAnswered brings clocks asked for at AskAt, of the process Boot.
	ClocksAnswered struct {
		Name   string
		Boot   uint32
		Copies []wire.CopyClock
		AskAt  int64
	}
	// TickAnswered brings the answer to a TICK sent at AskAt, of the process Boot.
	TickAnswered struct {
		Name   string
		Boot   uint32
		Ack    wire.TickAck
		Failed bool
		AskAt  int64
		Mine   []wire.CopyClock // the durable clocks that the root was over
	}
	// TickEqual says that the TICK of a peer's process Boot had the same root as these
	// clocks.
	TickEqual struct {
		Name   string
		Boot   uint32
		Copies []wire.CopyClock
	}
	// Breached says that a peer broke the protocol, so that its connection is closed.
	Breached struct {
		Name   string
		Breach wire.Breach
		Text   string
	}
	// StreamBroke says that replicated writes to a peer were lost.
	StreamBroke struct{ Name string }
	// Doubted says that an owner's acknowledgement of a write of this node named
	// another first serving owner: whatever lead there was is over.
	Doubted struct{ Partition kv.Partition }
	// Lapsed says that a request found the lease of a partition over.
	Lapsed struct{ Partition kv.Partition }
	// Fenced says that this process may coordinate nothing more: another one has
	// its place. It serves nothing until it ends.
	Fenced struct{}
	// Decreed says that this node's NEW copy of a partition was made WHOLE by an
	// operator who accepts the loss of the others.
	Decreed struct{ Partition kv.Partition }
	// Passed says that time passed; at least every 50 ms while anything waits.
	Passed struct{}
)

func (LayoutChanged) event()  {}
func (PeerUp) event()         {}
func (PeerDown) event()       {}
func (Stated) event()         {}
func (Ponged) event()         {}
func (HelloAnswered) event()  {}
func (HelloAsked) event()     {}
func (PartEnded) event()      {}
func (PartsEnded) event()     {}
func (SessionEnded) event()   {}
func (DoneAnswered) event()   {}
func (DoneAsked) event()      {}
func (PeerEqual) event()      {}
func (Acked) event()          {}
func (ClocksAnswered) event() {}
func (TickAnswered) event()   {}
func (TickEqual) event()      {}
func (Breached) event()       {}
func (StreamBroke) event()    {}
func (Doubted) event()        {}
func (Lapsed) event()         {}
func (Fenced) event()         {}
func (Decreed) event()        {}
func (Passed) event()         {}

// Effect is something to do. The concrete types are below.
type Effect interface{ effect() }

// Effects the shell carries out.
type (
	// SetPart replaces what requests go by. LeaseOnly: nothing but Until changed.
	SetPart struct {
		Part      Part
		LeaseOnly bool
	}
	// SetTrust makes a copy's trust durable.
	SetTrust struct {
		Partition kv.Partition
		Trust     kv.Trust
	}
	// SendHello begins a session: open the receiving side of Wants, then ask.
	SendHello struct {
		Name    string
		Session uint64
		Wants   []kv.Partition
	}
	// SendDone ends a session: report the clocks of what it streamed, compare
	// the digests of what is now equal. It comes once for every session whose
	// HELLO was answered.
	SendDone struct {
		Name    string
		Session uint64
	}
	// Compare tells a peer this node's clocks of partitions, and asks for the
	// digests of those whose clocks are equal, each by itself.
	Compare struct {
		Name  string
		Parts []kv.Partition
	}
	// SendClocks asks for durable clocks.
	SendClocks struct {
		Name  string
		Parts []kv.Partition
	}
	// SendTick compares roots.
	SendTick struct{ Name string }
	// SendState tells every peer what this node serves.
	SendState struct{ State wire.State }
	// PingAll asks every peer for a sign of life now.
	PingAll struct{}
	// Note tells people: a kind, a partition (System: none) and words.
	Note struct {
		Kind      string
		Peer      string
		Partition kv.Partition
		Text      string
		Step      string // of a repair.step
		Versions  int    // of a partition.buried
	}
)

func (SetPart) effect()    {}
func (SetTrust) effect()   {}
func (SendHello) effect()  {}
func (SendDone) effect()   {}
func (Compare) effect()    {}
func (SendClocks) effect() {}
func (SendTick) effect()   {}
func (SendState) effect()  {}
func (PingAll) effect()    {}
func (Note) effect()       {}
