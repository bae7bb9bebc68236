package sim

// Mix weighs what happens in a run. The weights of events are relative to their
// sum; those named per mille are chances.
type Mix struct {
	Name string

	Write, Deliver, Commit, Sync, Crash, Boot      int
	Begin, Donate, Receive, Abort, Backup, Barrier int
	Read                                           int
	Break                                          int // crash a receiver in its session
	Collect                                        int
	Reap                                           int // what has expired of a key, at any node
	Evict                                          int // all values of a key, at any node
	Jump                                           int // a wall clock jumps, within SkewMS
	Seal                                           int // a step of sealing processes that are gone
	Catch                                          int // a session from its beginning to its end
	Orphan                                         int // a node writes, and dies with its disk before that arrives

	DeletePM, BlindPM, TokenPM, OldTokenPM, TTLPM int
	DropPM, DoublePM, AckDropPM                   int
	LossPM, RestorePM, RecordPM                   int // of crashes, at most one between refills
	ForcePM                                       int // of collections: what not all owners are known to hold too
	DieInCommitPM                                 int
	PeekPM                                        int // of commits: sessions read before they are published
	LearnPM                                       int // of a donor's steps behind its scan: it catches up with somebody first
	ErasePM                                       int // of them: who has just deleted a key, and given the tombstone up

	Offer      int  // copies that are not owned are offered, asked for and dropped
	OwnersDrop bool // owners' copies too, which come back
	StandIns   int  // nodes beside the owners

	SkewMS int64 // clocks are wrong by up to so much; a step takes 10
	RotPM  int   // of barriers: a copy rots, and is healed
	// WrittenPM is of those: others write while it is healed.
	WrittenPM int
	// ApartPM is of those: owners and stand-ins are away while it is healed.
	ApartPM int
	// OpenPM is of the questions that owners are asked then who have answered one: they
	// are left open. FewNamesPM is of attempts: answers have room for one key.
	OpenPM, FewNamesPM int

	MaxSessions int
	Relaxed     bool // durability: publish first, sync later
	System      bool // a second partition beside the first
	Tier        bool // a memory tier in front of the store
}

// Stock is a bit of everything.
func Stock() Mix {
	return Mix{
		Name: "stock", Write: 16, Deliver: 44, Commit: 26, Crash: 4, Boot: 7, Begin: 6, Donate: 10, Receive: 10,
		Abort: 1, Backup: 2, Barrier: 1, Read: 2, Break: 1, Collect: 3, Sync: 6,
		DeletePM: 300, BlindPM: 150, TokenPM: 500, TTLPM: 250, DropPM: 150, DoublePM: 100, AckDropPM: 50,
		LossPM: 250, RestorePM: 300, DieInCommitPM: 20, PeekPM: 200, ForcePM: 100, RotPM: 300, MaxSessions: 3, Tier: true,
	}
}

// Hot has many sessions at once, in all directions.
func Hot() Mix {
	m := Stock()
	m.Name, m.MaxSessions, m.System = "hot", 6, true
	m.Begin, m.Donate, m.Receive, m.Abort, m.Crash = 12, 30, 30, 2, 2
	return m
}

// TTL has many expiring versions, which are removed by nodes whose clocks are up to
// fifteen steps wrong, blind writes and little replication.
func TTL() Mix {
	m := Hot()
	m.Name, m.System, m.Tier = "ttl", false, false
	m.TTLPM, m.BlindPM, m.DropPM = 700, 400, 500
	m.Reap, m.Evict, m.Jump, m.SkewMS = 14, 2, 1, 150
	return m
}

// OldTokens has clients that write with what they read long ago.
func OldTokens() Mix {
	m := Stock()
	m.Name, m.OldTokenPM, m.TokenPM = "oldtok", 500, 900
	m.Begin, m.Donate, m.Receive = 10, 20, 20
	return m
}

// Lossy has a network that loses and doubles most of what is replicated, so
// that sessions carry nearly everything.
func Lossy() Mix {
	m := Hot()
	m.Name, m.DropPM, m.DoublePM, m.AckDropPM = "lossy", 650, 250, 400
	m.Crash, m.Boot, m.Abort = 5, 10, 4
	return m
}

// Relaxed publishes before it syncs, and loses power.
func Relaxed() Mix {
	m := Hot()
	m.Name, m.Relaxed, m.Sync, m.Crash, m.Boot = "relaxed", true, 10, 6, 12
	return m
}

// Collecting has many deletes, and gives their tombstones up early, so that copies
// come back from below the floor.
func Collecting() Mix {
	m := Hot()
	m.Name, m.System = "collect", false
	m.DeletePM, m.Collect, m.ForcePM, m.DropPM = 500, 14, 500, 400
	return m
}

// Rotting has disks that lose and change what they hold, and many moments at which
// copies are equal, so that it shows.
func Rotting() Mix {
	m := Stock()
	m.Name, m.RotPM, m.Barrier, m.System = "rot", 1000, 12, true
	return m
}

// RottingWritten has others write while what rotted is healed.
func RottingWritten() Mix {
	m := Rotting()
	m.Name, m.WrittenPM = "written", 1000
	return m
}

// RottingApart has copies rot, and be healed, while those are away that have what rotted.
func RottingApart() Mix {
	m := RottingWritten()
	m.Name, m.ApartPM, m.WrittenPM, m.StandIns, m.System = "apart", 1000, 300, maxStandIns, false
	m.OpenPM, m.FewNamesPM = 40, 400
	return m
}

// StandIn has owners down so often that others take their writes.
func StandIn() Mix {
	m := Stock()
	m.Name, m.StandIns, m.Offer, m.Tier, m.RotPM = "standin", maxStandIns, 10, false, 0
	m.Crash, m.Boot, m.DropPM, m.Begin, m.Donate, m.Receive = 6, 7, 100, 10, 20, 20
	return m
}

// Dropping has owners that drop their copies and come back, as where the layout
// displaces them for a moment.
func Dropping() Mix {
	m := Hot()
	m.Name, m.System, m.Offer, m.OwnersDrop, m.RotPM = "dropping", false, 30, true, 0
	m.Write, m.DropPM, m.AckDropPM, m.Crash, m.Boot, m.Collect, m.LossPM = 8, 50, 20, 2, 8, 1, 700
	return m
}

// Sealing has many restarts, some without the clock, and seals what is gone while its
// writes are still on their way.
func Sealing() Mix {
	m := Collecting()
	m.Name, m.Seal = "seal", 40
	m.Crash, m.Boot, m.LossPM, m.DropPM, m.DeletePM, m.Write = 6, 20, 150, 300, 350, 22
	m.RecordPM = 150
	return m
}

// Quarantining has copies that lose their clocks and keep their entries, and a network
// that leaves much with one owner alone.
func Quarantining() Mix {
	m := Lossy()
	m.Name, m.Tier = "quarantine", true
	m.LossPM, m.RestorePM, m.RecordPM = 100, 100, 900
	m.DeletePM, m.Collect, m.ForcePM = 400, 8, 300
	m.Crash, m.Boot, m.Begin, m.Donate, m.Receive = 4, 14, 20, 40, 40
	return m
}

// Mixes returns all of them.
func Mixes() []Mix {
	return []Mix{Stock(), Hot(), TTL(), OldTokens(), Lossy(), Relaxed(), Collecting(), Rotting(), RottingWritten(), RottingApart(), StandIn(), Dropping(), Sealing(), Quarantining()}
}
