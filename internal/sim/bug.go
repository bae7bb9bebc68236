package sim

// Bug is a rule that the run breaks on purpose, so that the oracle can be seen
// to notice. The code under test is left alone: the driver misbehaves.
type Bug string

// What can be broken.
const (
	NoBug              Bug = ""
	BugSkipTail        Bug = "what changed during a session is not sent"
	BugClockPerChunk   Bug = "the clock grows with each chunk"
	BugHalfSession     Bug = "a session that breaks leaves its clock"
	BugKeepForgotten   Bug = "keep is not said"
	BugFirstBase       Bug = "objects are filled with the base of the session's beginning"
	BugLateBase        Bug = "objects are filled with a base newer than their snapshot"
	BugLateEnd         Bug = "the end has a clock newer than the last look"
	BugEcho            Bug = "a node sends back what its peer just sent"
	BugUnsyncedEnd     Bug = "a clock leaves the node before it is durable"
	BugOnlyNewDot      Bug = "only the new version is replicated"
	BugSiblingsCut     Bug = "an object is replicated without its oldest sibling"
	BugForeignToken    Bug = "a token is taken for another key"
	BugAckEarly        Bug = "a copy acknowledges before it is durable"
	BugActorReused     Bug = "an actor issues dots after a crash"
	BugLossKeepsClock  Bug = "a lost disk leaves its clock"
	BugChunkLost       Bug = "a chunk is lost and the session goes on"
	BugOldKnowledge    Bug = "a donor goes by what the receiver had before it lost it"
	BugRecordLost      Bug = "a session's record is lost by a restart"
	BugMarkLost        Bug = "the marks of complex objects are lost by a restart"
	BugNoLiveDots      Bug = "a receiver below the floor is not told what lives"
	BugFloorForgotten  Bug = "the floor does not travel"
	BugOwnClock        Bug = "each copy forgets by its own clock what has expired"
	BugReapRaw         Bug = "an expiry takes with it what of its actor lies below"
	BugHealByJoin      Bug = "what rotted at equal clocks is healed by the join rule"
	BugHealOnce        Bug = "what is on its way when copies are healed counts as lost"
	BugGiveDamaged     Bug = "a damaged copy gives what does not verify"
	BugSeqForgotten    Bug = "the actor of a dropped copy is kept and counts anew"
	BugSeqKept         Bug = "the actor of a dropped copy is kept and counts on"
	BugCheckThenDrop   Bug = "a copy is dropped that was covered when it was looked at"
	BugDropEarly       Bug = "a copy is dropped when one owner covers it"
	BugPromiseBroken   Bug = "an owner drops its copy right after it let another drop"
	BugStandInCounts   Bug = "a stand-in's copy counts as an owner's"
	BugTokenOwnActors  Bug = "a token has the base of its object's actors alone"
	BugAdoptEarly      Bug = "a copy that has lost its clock claims what it holds when one donor has answered"
	BugHeldKept        Bug = "a receiver keeps what it holds, whatever its donor has seen"
	BugHeldClaimed     Bug = "a copy that has lost its clock claims what it holds at once"
	BugHeldNotThere    Bug = "a receiver says that it holds what it has lost"
	BugContextStripped Bug = "an object travels without its explicit context"
	BugNoFence         Bug = "owners tell what they have seen of a process and promise nothing"
	BugSealUnlike      Bug = "a process is sealed though the owners have not seen the same of it"
	BugSealLiving      Bug = "a process that lives is sealed"
	BugLateJoined      Bug = "a late write of a sealed process is joined"
	BugOneRecord       Bug = "one record of pending context serves all sessions"
	BugRecordGrows     Bug = "a session's record of pending context grows with its donor's base"
	BugFold            Bug = "what lies side by side is folded where it is read"
	BugTombstoneView   Bug = "a view is made of tombstones too"
	BugLiveOnce        Bug = "what lives is told once, and goes for all that the session's end has seen"
	BugFloorOnce       Bug = "whether a receiver is below the floor is asked when its session opens alone"
	BugNotPinned       Bug = "a collection takes what a session pins"
	BugStub            Bug = "a copy gives up the bytes of values that another has"
	BugDonorWithout    Bug = "a copy that has lost its clock gives what it holds"
)

// lies reports whether acknowledgements are not to be believed.
func (b Bug) lies() bool { return b == BugAckEarly }
