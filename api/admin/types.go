// Package admin has the admin API's types and its client, once for the
// server, the command line, tests and loadtest.
//
// Every type is the JSON body of one answer, with snake_case names. Times of
// day are Unix milliseconds, durations are milliseconds with the unit in the
// name, and bytes are plain integers. A field that a server does not know yet
// is left out; a client ignores fields that it does not know.
package admin

import "time"

// Paths of the admin API. A server mounts exactly these.
const (
	PathLivez      = "/livez"
	PathReadyz     = "/readyz"
	PathMetrics    = "/metrics"
	PathStatus     = "/status"
	PathNodes      = "/v1/nodes"
	PathPartitions = "/v1/partitions"
	PathRejoin     = "/v1/rejoin"
	PathPolicies   = "/v1/policies" // POST deploys, GET lists, GET {PathPolicies}/{name} shows
	PathRollback   = "/v1/policies/rollback"
	PathEvents     = "/v1/events"
	PathDump       = "/v1/dump"
)

// Builtin reports whether a name is one of the policies that need no module: lww
// (last writer wins, the default) and siblings (shows the newest, marked
// unresolved). They are bound by their names, with no module.
func Builtin(name string) bool { return name == "lww" || name == "siblings" }

// PortsFile is the name of the file in the data directory to which a node
// writes its Ports as JSON once every listener is bound.
const PortsFile = "ports.json"

// The states of a partition's copy on one node. Live, isolated and degraded
// copies serve.
const (
	StateCold       = "cold"
	StateCatchingUp = "catching_up"
	StateLive       = "live"
	StateIsolated   = "isolated"
	StateDegraded   = "degraded"
	StateStandIn    = "stand_in" // of a copy that the node does not own: it takes writes and serves nobody
)

// Status is the answer of /status: one node's view of itself and its cluster.
type Status struct {
	Name    string `json:"name"`
	Node    string `json:"node"`    // node ID, 16 hex digits
	Cluster string `json:"cluster"` // cluster ID, hex
	Version string `json:"version"`
	Boot    uint32 `json:"boot"`
	State   string `json:"state"` // starting, ready, not_ready or draining
	// StartedMS is when the process started, in Unix milliseconds.
	StartedMS int64  `json:"started_ms"`
	Layout    Layout `json:"layout"`
	// Degraded says, a sentence each, why answers may promise less than the
	// configuration does: fewer members than copies, owners out of reach.
	Degraded   []string        `json:"degraded,omitempty"`
	Partitions PartitionCounts `json:"partitions"`
	// BytesBehind estimates what this node's copies still lack: versions that
	// other owners' clocks name and this node's do not, times the mean size of
	// the versions held. 0 when nothing is known to be missing.
	BytesBehind uint64   `json:"bytes_behind"`
	Keys        uint64   `json:"keys"` // live objects in this node's copies
	Policies    []Policy `json:"policies,omitempty"`
	Nodes       []Node   `json:"nodes,omitempty"`
	Ports       Ports    `json:"ports"`
	// Counters are the node's totals since its process started, by name
	// without the metrics' prefix.
	Counters map[string]uint64 `json:"counters,omitempty"`
}

// Layout is where data lives: how many partitions and copies there are, and
// who the members are.
type Layout struct {
	Partitions  int      `json:"partitions"`
	Copies      int      `json:"copies"` // copies wanted, which fewer members may not give
	WriteQuorum int      `json:"write_quorum"`
	ReadQuorum  int      `json:"read_quorum"`
	View        string   `json:"view"` // hash of the members, 16 hex digits; equal views place data equally
	Members     []Member `json:"members"`
}

// Member is one entry of the layout. Members leave by an operator's word
// alone, so a member may be down.
type Member struct {
	Name      string   `json:"name"`
	Node      string   `json:"node"` // node ID, 16 hex digits
	Epoch     uint64   `json:"epoch"`
	Weight    float64  `json:"weight"`
	Zone      string   `json:"zone,omitempty"`
	Addresses []string `json:"addresses"`
	Status    string   `json:"status"` // active, left or forgotten
}

// PartitionCounts counts the partitions that a node owns by the state of its
// copies. Verified is a part of the others, not one more state.
type PartitionCounts struct {
	Owned      int `json:"owned"`
	Cold       int `json:"cold"`
	CatchingUp int `json:"catching_up"`
	Live       int `json:"live"`
	Isolated   int `json:"isolated"`
	Degraded   int `json:"degraded"`
	Verified   int `json:"verified"`
	// StandIn counts copies that the node holds without owning them, until every
	// owner has what they hold; StandInKeys is the versions in them.
	StandIn     int    `json:"stand_in"`
	StandInKeys uint64 `json:"stand_in_keys"`
}

// Nodes is the answer of /v1/nodes.
type Nodes struct {
	Nodes []Node `json:"nodes"`
}

// Node is one member as the answering node sees it.
type Node struct {
	Name    string `json:"name"`
	ID      string `json:"id"` // node ID, 16 hex digits
	Boot    uint32 `json:"boot"`
	Address string `json:"address"`
	// Alive says that the answering node heard from it within the last lease.
	Alive bool   `json:"alive"`
	Self  bool   `json:"self,omitempty"`
	State string `json:"state"` // ready, not_ready, draining, down or unknown
	// Owned, Live and Verified count the member's partitions; of another
	// node, Live is what it last reported and Verified is left at 0.
	Owned    int     `json:"owned"`
	Live     int     `json:"live"`
	Verified int     `json:"verified"`
	RTTMS    float64 `json:"rtt_ms"` // of the last ping; 0 for the node itself
	// SeenMS is when it was last heard from, in Unix milliseconds; 0 is never.
	SeenMS int64 `json:"seen_ms,omitempty"`
}

// Partitions is the answer of /v1/partitions.
type Partitions struct {
	Partitions []Partition `json:"partitions"`
}

// Partition is one partition as the answering node holds it. What only a
// holder knows is zero where the node is no owner.
type Partition struct {
	ID     uint32   `json:"id"`
	Owners []string `json:"owners"` // names, in rendezvous order
	Owned  bool     `json:"owned"`
	State  string   `json:"state,omitempty"`
	Trust  string   `json:"trust,omitempty"` // new, suspect or whole
	// Verified says that an owner had an equal digest at an equal clock.
	Verified bool   `json:"verified"`
	Keys     uint64 `json:"keys"`
	// Path is the step that the last sync took: L0 to L4.
	Path string `json:"path,omitempty"`
	// Reason says why that step was taken, or why the state is what it is.
	Reason string `json:"reason,omitempty"`
	// StandIns are the members that take its writes while too few owners are up.
	StandIns []string `json:"stand_ins,omitempty"`
	// Lead says that this node may decide plain writes by its own copy alone.
	Lead        bool   `json:"lead"`
	ClockActors int    `json:"clock_actors"`
	Sealed      int    `json:"sealed"`         // of them, entries that stand for a node's former processes
	Root        string `json:"root,omitempty"` // digest of the live versions, hex
}

// MaxWait bounds ?wait= of /v1/rejoin: a request holds a connection meanwhile.
const MaxWait = 10 * time.Minute

// Rejoin is the answer of /v1/rejoin: how this process came back. Every
// moment is in milliseconds since the process started, and left out while it
// has not come.
type Rejoin struct {
	StartedMS int64 `json:"started_ms"` // Unix milliseconds
	// OfflineMS is the time between the node's last sign of life before this
	// start and this start; 0 on a node's first start.
	OfflineMS  int64           `json:"offline_ms"`
	Partitions PartitionCounts `json:"partitions"`
	// Synced is there where the question had a wait: whether every owner of this
	// node's partitions holds all that any of them held when it was asked.
	// Unsynced says what was missing, if it was not.
	Synced   *bool  `json:"synced,omitempty"`
	Unsynced string `json:"unsynced,omitempty"`
	// PerStep says how many partitions took which step: {"L0": 250, "L1": 6}.
	PerStep map[string]int `json:"per_step"`
	// Steps says the same by reason: which partitions took which step last, and why, the
	// cheapest step first. It has MaxRejoinSteps entries and one more a step at most.
	Steps []RejoinStep `json:"steps"`
	// Healed are the copies that were damaged, or differed from the other owners' at
	// equal clocks, and were healed (the step L4).
	Healed []HealedCopy `json:"healed,omitempty"`
	// Guard is how syncs are slowed down for clients, now.
	Guard SyncGuard `json:"guard"`
	// SyncBytesIn and SyncBytesOut are the compressed bytes of session frames
	// (HELLO and its answer, lanes, DONE) before QUIC adds its own.
	SyncBytesIn     uint64 `json:"sync_bytes_in"`
	SyncBytesOut    uint64 `json:"sync_bytes_out"`
	EntriesReceived uint64 `json:"entries_received"`
	EntriesSent     uint64 `json:"entries_sent"`
	// WireBytesIn and WireBytesOut are counted at the UDP socket, and stop
	// growing when the node is caught up.
	WireBytesIn  uint64   `json:"wire_bytes_in"`
	WireBytesOut uint64   `json:"wire_bytes_out"`
	FirstHelloMS *float64 `json:"first_hello_ms,omitempty"`
	LastPendMS   *float64 `json:"last_pend_ms,omitempty"`
	// CaughtUpMS is when all owned partitions were live, VerifiedMS when all
	// of them were verified.
	CaughtUpMS *float64 `json:"caught_up_ms,omitempty"`
	VerifiedMS *float64 `json:"verified_ms,omitempty"`
}

// MaxRejoinSteps bounds the reasons that Rejoin tells apart: a healed copy's names what
// was found in it, so that there may be as many as partitions. The rest of a step's are
// one entry.
const MaxRejoinSteps = 32

// RejoinStep is the partitions of which the last sync took a step for one reason.
type RejoinStep struct {
	Step   string `json:"step"` // L0 to L4
	Reason string `json:"reason"`
	Count  int    `json:"count"`
	// Partitions are their numbers, in order, such as "0-3,7,9-12".
	Partitions string `json:"partitions"`
}

// SyncGuard is what the guard of foreground latency sees and does at this node.
type SyncGuard struct {
	// Factor is the setting sync.guard: what the 99th percentile of what clients wait
	// may grow to during a sync, as a multiple of QuietP99MS; 0 is off.
	Factor     float64 `json:"factor"`
	QuietP99MS float64 `json:"quiet_p99_ms"` // without a sync; 0: not known yet
	P99MS      float64 `json:"p99_ms"`       // of the last moments
	RateBytes  int64   `json:"rate_bytes"`   // a second that sessions may move, 0: nothing is held back
	Slowed     int64   `json:"slowed"`       // looks, four a second, that slowed sessions down
}

// HealedCopy is a copy that took the step L4, and why.
type HealedCopy struct {
	Partition uint32 `json:"partition"`
	Reason    string `json:"reason"`
}

// Policies is the answer of GET /v1/policies.
type Policies struct {
	Policies []Policy `json:"policies"`
}

// Policy is a policy as the answering node holds it.
type Policy struct {
	Name string `json:"name"`
	ID   string `json:"id"`   // SHA-256 of the module, hex; a built-in's is its name
	Kind string `json:"kind"` // merge or repair
	Size int    `json:"size"` // bytes of the module; 0 for a built-in
	// CreatedMS is when it was deployed, in Unix milliseconds.
	CreatedMS int64     `json:"created_ms,omitempty"`
	Bindings  []Binding `json:"bindings,omitempty"`
	// Ready says that this node can run it; Error says why it cannot.
	Ready bool   `json:"ready"`
	Error string `json:"error,omitempty"`
	// Counters are merge calls and failures since the process started: calls,
	// conflicts, fallbacks, and fallback reasons.
	Counters map[string]uint64 `json:"counters,omitempty"`
}

// Binding ties a policy to the keys that begin with a prefix.
type Binding struct {
	Prefix string `json:"prefix"`
	Epoch  uint64 `json:"epoch"`
	// Conflict says that another binding of the prefix was made concurrently
	// and lost; the next edit of the prefix covers both.
	Conflict bool `json:"conflict,omitempty"`
}

// Deployed is the answer of POST /v1/policies.
type Deployed struct {
	Name   string `json:"name"`
	ID     string `json:"id"`
	Prefix string `json:"prefix"`
	Epoch  uint64 `json:"epoch"`
	Copies string `json:"copies"` // durable copies at the answer, as "2/3"
}

// DeletedPolicy is the answer of DELETE /v1/policies/{name or id}.
type DeletedPolicy struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// RolledBack is the answer of POST /v1/policies/rollback. An empty Name means
// that the prefix went back to the default policy.
type RolledBack struct {
	Prefix string `json:"prefix"`
	Name   string `json:"name"`
	ID     string `json:"id"`
	Epoch  uint64 `json:"epoch"`
}

// Event is one message of /v1/events.
type Event struct {
	Seq    uint64 `json:"seq"`
	TimeMS int64  `json:"time_ms"` // Unix milliseconds
	// Kind names what happened: node.join, node.rejoin, node.leave, node.fenced,
	// node.forgotten, accept-loss, actor.sealed, partition.state, partition.buried,
	// partition.requalified, stand-in.opened, stand-in.flushed, stand-in.dropped,
	// repair.step (with the fields step and reason, Node being the donor), repair.plan,
	// heal.left-out, corruption (what was healed, with keys and dots), alarm.
	Kind string `json:"kind"`
	Node string `json:"node,omitempty"` // the name of the node concerned
	// Partition is nil when the event is about no partition in particular.
	Partition *uint32           `json:"partition,omitempty"`
	Text      string            `json:"text"`
	Fields    map[string]string `json:"fields,omitempty"`
}

// Ready is the body of /readyz, with status 200 or 503.
type Ready struct {
	Ready      bool            `json:"ready"`
	Degraded   []string        `json:"degraded,omitempty"`
	Partitions PartitionCounts `json:"partitions"`
}

// Ports says where a node listens, as HOST:PORT; an empty one does not.
type Ports struct {
	RESP  string `json:"resp"`
	HTTP  string `json:"http"`
	Admin string `json:"admin"`
	// Node is the UDP address that other nodes use.
	Node string `json:"node"`
	PID  int    `json:"pid,omitempty"`
}

// Problem is an error's body, as RFC 9457 has it, with the media type
// application/problem+json.
type Problem struct { //nolint:errname // the RFC calls it a problem
	Type   string `json:"type,omitempty"` // a short name of the problem, such as "outcome-unknown"
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// ProblemJoining is the type of what a node answers that is still joining its
// cluster: it serves nothing yet.
const ProblemJoining = "joining"

// MediaProblem is the media type of Problem.
const MediaProblem = "application/problem+json"

// Error says the problem in one line.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Title + ": " + p.Detail
}
