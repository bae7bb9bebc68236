package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"edged.dev/edged/api/admin"
)

// Report is the answer of `loadtest rejoin`. Every duration is in milliseconds
// since the returning process was executed, or resumed after a pause.
type Report struct {
	Keys      int    `json:"keys"`      // loaded before the outage
	Changed   int    `json:"changed"`   // overwritten or inserted meanwhile
	Deleted   int    `json:"deleted"`   // meanwhile
	Conflicts int    `json:"conflicts"` // keys written at two nodes with one token
	Outage    string `json:"outage"`
	Disk      string `json:"disk"`

	FirstAnswerMS float64 `json:"first_answer_ms"` // the first correct GET through the node
	CaughtUpMS    float64 `json:"caught_up_ms"`    // all its partitions were live
	VerifiedMS    float64 `json:"verified_ms"`     // all of them were verified
	SyncMS        float64 `json:"sync_ms"`         // from the first HELLO to the last PEND

	SyncBytes    uint64         `json:"sync_bytes"`    // session frames, compressed, both directions
	WireBytesIn  uint64         `json:"wire_bytes_in"` // at the UDP socket until caught up; of a process that was there all the time, since it was cut off
	WireBytesOut uint64         `json:"wire_bytes_out"`
	NeededBytes  int            `json:"needed_bytes"` // one zstd frame over what the node lacked
	Ratio        float64        `json:"ratio"`        // sync_bytes / needed_bytes, and others_needed_bytes
	Path         map[string]int `json:"path"`         // step: partitions

	ReadsDuring  int `json:"reads_during"` // answers of the returning node
	StaleReads   int `json:"stale_reads"`
	LaggingReads int `json:"lagging_reads"`
	NotFound     int `json:"not_found"`

	Lost        int  `json:"lost"`
	Resurrected int  `json:"resurrected"`
	Diverged    int  `json:"diverged"`
	RootsEqual  bool `json:"roots_equal"`

	ClientP50MS   float64 `json:"client_p50_ms"` // of clients of the other nodes, meanwhile
	ClientP99MS   float64 `json:"client_p99_ms"`
	BaselineP99MS float64 `json:"baseline_p99_ms"` // of the same clients before the outage

	Nodes            int          `json:"nodes"`
	ValueBytes       int          `json:"value_bytes"`
	Mix              string       `json:"mix"`
	Seed             uint64       `json:"seed"`
	Durability       string       `json:"durability"`
	Inserted         int          `json:"inserted"` // of the changed
	LoadMS           float64      `json:"load_ms"`  // to load the keys
	DownMS           float64      `json:"down_ms"`  // between the node's end and its return
	MissedVersions   int          `json:"missed_versions"`
	UnknownVersions  int          `json:"unknown_versions"` // of the missed: somebody else's, taken as random bytes
	EntriesReceived  uint64       `json:"entries_received"`
	BaselineP50MS    float64      `json:"baseline_p50_ms"`
	DuringP99MS      float64      `json:"during_p99_ms"` // of the same clients until the node was caught up
	AfterP99MS       float64      `json:"after_p99_ms"`  // and after that
	DuringRequests   int          `json:"during_requests"`
	P99Ratio         float64      `json:"client_p99_ratio"` // during over before
	ClientErrors     int          `json:"client_errors"`
	ExemptReads      int          `json:"exempt_reads"` // answers that were marked isolated or degraded
	UnansweredReads  int          `json:"unanswered_reads"`
	ResurrectedReads int          `json:"resurrected_reads"` // of the resurrected: seen by readers
	Leftovers        int          `json:"leftovers"`         // keys that still show what a later write should have covered
	Retries          int          `json:"retries"`           // writes of the run that were refused or unanswered, and sent again
	RetryReasons     []string     `json:"retry_reasons,omitempty"`
	Net              string       `json:"net,omitempty"`                    // between the nodes; empty is loopback
	OthersMissed     int          `json:"others_missed_versions,omitempty"` // after a partition: what the target's side wrote, for each other owner
	OthersNeeded     int          `json:"others_needed_bytes,omitempty"`    // the same as one zstd frame for each, as needed_bytes
	Cloned           *Cloned      `json:"cloned,omitempty"`                 // with --disk cloned
	Interruptions    int          `json:"interruptions"`                    // cuts of a further return
	Interrupted      *Interrupted `json:"interrupted,omitempty"`            // with --interrupt
	Versus           *Versus      `json:"versus,omitempty"`                 // with --vs
	Scale            *Scale       `json:"scale,omitempty"`                  // with --scale
	Waits            *Waits       `json:"returns,omitempty"`                // with --returns
	// Repair is there with --repair-policy.
	Repair *RepairReport `json:"repair,omitempty"`
	Faults []string      `json:"faults"` // the first few of what was wrong, in words
}

// ok reports whether nothing was lost, stale, resurrected or diverged, and no
// two nodes of one name stayed.
func (r *Report) ok() bool {
	if r.Cloned != nil && r.Cloned.Fenced == fencedNone {
		return false
	}
	if r.Scale != nil && r.Scale.Wrong > 0 {
		return false
	}
	return r.Lost == 0 && r.StaleReads == 0 && r.NotFound == 0 && r.Resurrected == 0 && r.Diverged == 0 && r.RootsEqual
}

// took fills what the returning node says of its session. before is what it
// said before the outage, which counts where the process is the same.
func (r *Report) took(before, after admin.Rejoin, resumed time.Time) {
	r.Path = maps.Clone(after.PerStep)
	if r.Path == nil {
		r.Path = map[string]int{}
	}
	from := 0.0
	if before.StartedMS == after.StartedMS {
		for step, n := range before.PerStep {
			if r.Path[step] -= n; r.Path[step] <= 0 {
				delete(r.Path, step)
			}
		}
		from = float64(resumed.UnixMilli() - after.StartedMS)
	} else {
		before = admin.Rejoin{}
	}
	r.SyncBytes = after.SyncBytesIn + after.SyncBytesOut - before.SyncBytesIn - before.SyncBytesOut
	r.WireBytesIn = after.WireBytesIn - before.WireBytesIn
	r.WireBytesOut = after.WireBytesOut - before.WireBytesOut
	r.EntriesReceived = after.EntriesReceived - before.EntriesReceived
	if after.FirstHelloMS != nil && after.LastPendMS != nil {
		r.SyncMS = max(0, *after.LastPendMS-max(*after.FirstHelloMS, from))
	}
}

// counted fills the bytes at the UDP socket of a process that was there all the
// time: those between the two counts.
func (r *Report) counted(before, after wireCount) {
	r.WireBytesIn, r.WireBytesOut = after.in-before.in, after.out-before.out
}

// lacked fills the yardstick.
func (r *Report) lacked(k lack) {
	r.NeededBytes, r.MissedVersions, r.UnknownVersions = k.bytes, k.versions, k.unknown
	r.Ratio = ratio(r.SyncBytes, k.bytes+r.OthersNeeded)
}

// ratio is sync_bytes over what was needed, of both sides of a partition: 0 where nothing was.
func ratio(syncBytes uint64, neededBytes int) float64 {
	if neededBytes == 0 {
		return 0
	}
	return float64(syncBytes) / float64(neededBytes)
}

// reached fills the moments, as milliseconds since from.
func (r *Report) reached(from time.Time, m moments) {
	r.FirstAnswerMS = since(from, m.firstAnswer)
	r.CaughtUpMS = since(from, m.caughtUp)
	r.VerifiedMS = since(from, m.verified)
}

// since is a duration in milliseconds with three decimals.
func since(from, to time.Time) float64 {
	return msOf(to.Sub(from))
}

// msOf is a duration in milliseconds.
func msOf(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// answered fills what the readers of the returning node were told.
func (r *Report) answered(c readCounts) {
	r.ReadsDuring, r.StaleReads, r.LaggingReads, r.NotFound = c.reads, c.stale, c.lagging, c.notFound
	r.ExemptReads, r.UnansweredReads, r.ResurrectedReads = c.exempt, c.errors, c.resurrected
	r.Resurrected += c.resurrected
}

// found fills what the dumps said.
func (r *Report) found(v verification) {
	r.Lost, r.Diverged, r.RootsEqual, r.Leftovers = v.lost, v.diverged, v.rootsEqual, v.leftovers
	r.Resurrected += v.resurrected
	r.Faults = append(r.Faults, v.faults...)
}

func (r *Report) writeJSON(w io.Writer) error {
	if r.Faults == nil {
		r.Faults = []string{}
	}
	return writeJSON(w, r)
}

// sheet is a table for people, as it grows.
type sheet struct {
	strings.Builder
	paint painter
}

func (s *sheet) section(title string) { fmt.Fprintf(s, "\n%s\n", s.paint.bold(title)) }

func (s *sheet) row(name, format string, args ...any) {
	fmt.Fprintf(s, "  %-22s %s\n", name, fmt.Sprintf(format, args...))
}

// writeTable writes the report for people.
func (r *Report) writeTable(w io.Writer, p painter) error {
	s := &sheet{paint: p}
	s.section(fmt.Sprintf("Rejoin of one of %d nodes: outage by %s, disk %s, %.1f s away", r.Nodes, r.Outage, r.Disk, r.DownMS/1000))
	s.row("keys", "%d of %d bytes (%s, seed %d, durability %s)", r.Keys, r.ValueBytes, r.Mix, r.Seed, r.Durability)
	s.row("changed meanwhile", "%d, %d of them new; %d deleted; %d conflicts", r.Changed, r.Inserted, r.Deleted, r.Conflicts)
	if r.Net != "" {
		s.row("network", "%s between the nodes", r.Net)
	}
	s.section("Time since the process was started")
	s.row("first correct answer", "%9.1f ms", r.FirstAnswerMS)
	s.row("caught up", "%9.1f ms", r.CaughtUpMS)
	s.row("verified", "%9.1f ms", r.VerifiedMS)
	s.row("the sync itself", "%9.1f ms", r.SyncMS)
	s.section("Bytes")
	s.row("sync", "%9d B", r.SyncBytes)
	s.row("needed", "%9d B for %d versions", r.NeededBytes, r.MissedVersions)
	s.row("ratio", "%9.3f", r.Ratio)
	s.row("at the UDP socket", "%9d B in, %d B out", r.WireBytesIn, r.WireBytesOut)
	s.row("path", "%s", pathText(r.Path))
	if r.Outage == outagePartition {
		s.row("the others needed", "%9d B for %d versions", r.OthersNeeded, r.OthersMissed)
	}
	s.section("Clients")
	s.row("through other nodes", "p50 %.2f ms, p99 %.2f ms; before: p50 %.2f ms, p99 %.2f ms; %d errors", r.ClientP50MS, r.ClientP99MS, r.BaselineP50MS, r.BaselineP99MS, r.ClientErrors)
	s.row("  p99, during", "%.2f ms of %d requests, %.2f times that before; after %.2f ms", r.DuringP99MS, r.DuringRequests, r.P99Ratio, r.AfterP99MS)
	s.row("through the returning", "%d answers, %d lagging, %d exempt, %d unanswered", r.ReadsDuring, r.LaggingReads, r.ExemptReads, r.UnansweredReads)
	if r.Retries > 0 {
		s.row("writes sent again", "%d: %s", r.Retries, strings.Join(r.RetryReasons, "; "))
	}
	r.tellBeside(s)
	r.tellCorrectness(s)
	_, err := io.WriteString(w, s.String())
	return err
}

// tellBeside tells what was measured beside the outage.
func (r *Report) tellBeside(s *sheet) {
	if c := r.Cloned; c != nil {
		s.section("A clone beside it")
		s.row("fenced", "%s, after %.1f ms; clients of both saw %d errors", c.Fenced, c.FencedMS, c.ClientErrors)
	}
	if p := r.Repair; p != nil {
		s.section("Repair policy")
		p.tell(s)
		if p.Effect != nil {
			s.section(fmt.Sprintf("%s beside the built-in plan, in turn, %d returns of each", p.Policy, len(p.Effect.Pairs)))
			p.Effect.tell(s, p.Policy)
		}
	}
	if w := r.Waits; w != nil {
		s.section(fmt.Sprintf("%d more returns, beside clients of the other nodes", w.Returns))
		w.tell(s)
	}
	if c := r.Scale; c != nil {
		s.section(fmt.Sprintf("Beside a cluster of %d keys, as many of them changed, in turn, without clients", c.Keys))
		c.tell(s)
	}
	if v := r.Versus; v != nil {
		s.section("Beside " + v.Server + " " + v.Version + ", in turn, without clients")
		v.tell(s)
	}
	if i := r.Interrupted; i != nil {
		s.section(fmt.Sprintf("Another return, cut %d times", r.Interruptions))
		i.tell(s)
	}
}

func (r *Report) tellCorrectness(s *sheet) {
	s.section("Correctness, by the dumps of all nodes")
	for _, line := range []struct {
		name string
		n    int
	}{{"lost", r.Lost}, {"stale reads", r.StaleReads}, {"not found", r.NotFound}, {"resurrected", r.Resurrected}, {"diverged", r.Diverged}} {
		s.row(line.name, "%s", s.paint.count(line.n))
	}
	s.row("roots equal", "%s", s.paint.yes(r.RootsEqual))
	for _, fault := range r.Faults {
		fmt.Fprintf(s, "  %s %s\n", s.paint.red("!"), fault)
	}
}

// pathText says how many partitions took which step.
func pathText(path map[string]int) string {
	var parts []string
	for _, step := range slices.Sorted(maps.Keys(path)) {
		parts = append(parts, fmt.Sprintf("%s %d", step, path[step]))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
