package node

import (
	"maps"
	"net/http"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/transport/wire"
)

// metrics is the node's collector: everything is read when asked for, from the
// counters that the parts keep anyway.
type metrics struct{ n *Node }

func newMetrics(n *Node) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(metrics{n})
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector: the metrics are not known before
// they are collected.
func (metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	for name, c := range m.n.counterSet() {
		desc := prometheus.NewDesc("edged_"+name, c.help, nil, nil)
		ch <- prometheus.MustNewConstMetric(desc, c.kind, c.value)
	}
	m.collectPartitions(ch)
	m.collectDoors(ch)
	m.collectBreaches(ch)
	m.collectSteps(ch)
	m.collectPolicies(ch)
	m.collectRepair(ch)
}

func (m metrics) collectPartitions(ch chan<- prometheus.Metric) {
	c := status(m).counts()
	desc := prometheus.NewDesc("edged_partitions", "Partitions this node owns, by the state of its copy.", []string{"state"}, nil)
	for state, v := range map[string]int{
		admin.StateCold: c.Cold, admin.StateCatchingUp: c.CatchingUp, admin.StateLive: c.Live,
		admin.StateIsolated: c.Isolated, admin.StateDegraded: c.Degraded,
	} {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v), state)
	}
	desc = prometheus.NewDesc("edged_partitions_verified", "Live partitions whose digest equals another owner's at an equal clock.", nil, nil)
	ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(c.Verified))
}

func (m metrics) collectDoors(ch chan<- prometheus.Metric) {
	d := m.n.doors
	st := d.respServer.Stats()
	byName(ch, "edged_resp_commands_total", "RESP commands by name.", "command", st.Commands)
	byName(ch, "edged_resp_errors_total", "RESP error replies by kind.", "kind", st.Errors)
	byName(ch, "edged_resp_rejected_total", "What a limit of the RESP door refused, by limit.", "limit", st.Rejected)
	desc := prometheus.NewDesc("edged_http_requests_total", "HTTP requests answered, by method and status.", []string{"method", "status"}, nil)
	for a, v := range d.kv.Answered() {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), a.Method, strconv.Itoa(a.Status))
	}
}

func (m metrics) collectBreaches(ch chan<- prometheus.Metric) {
	desc := prometheus.NewDesc("edged_breaches_total", "Peers hung up on because they broke the protocol, by the code that their connection was closed with.", []string{"breach"}, nil)
	st := m.n.replica.Stats()
	for b := wire.NoBreach + 1; b < wire.Breaches; b++ {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(st.Breaches[b].Load()), b.String())
	}
	desc = prometheus.NewDesc("edged_late_pongs_total", "Answers to PINGs that this process did not send, dropped.", nil, nil)
	ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(st.LatePongs.Load()))
}

func (m metrics) collectPolicies(ch chan<- prometheus.Metric) {
	merges, spared := m.n.policies.Remembered()
	one := func(name, help string, kind prometheus.ValueType, v float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("edged_"+name, help, nil, nil), kind, v)
	}
	one("policy_merges_remembered", "Merges that failed or cost much, remembered so that they are not made again.", prometheus.GaugeValue, float64(merges))
	one("policy_merges_spared_total", "Merges that were not made again, since what became of them is remembered.", prometheus.CounterValue, float64(spared))
	desc := prometheus.NewDesc("edged_policy_outcomes_total", "Merges and plans by policy and outcome; failures of the guest end in the fallback.", []string{"policy", "outcome"}, nil)
	for _, c := range m.n.policies.Counts() {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(c.N), c.PolicyID, c.Reason)
	}
}

func byName(ch chan<- prometheus.Metric, name, help, label string, values map[string]uint64) {
	desc := prometheus.NewDesc(name, help, []string{label}, nil)
	for k, v := range values {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), k)
	}
}

type counter struct {
	help  string
	kind  prometheus.ValueType
	value float64
}

func total(help string, v int64) counter { return counter{help, prometheus.CounterValue, float64(v)} }

func gauge(help string, v float64) counter { return counter{help, prometheus.GaugeValue, v} }

// counterSet is every plain counter of the node, by name without prefix.
func (n *Node) counterSet() map[string]counter {
	st, tier := n.replica.Stats(), n.tier.Stats()
	here, guard := status{n}.counts(), n.replica.Guard()
	set := n.damageCounters()
	maps.Copy(set, map[string]counter{
		"stand_in_partitions":          gauge("Copies held without owning them, for owners that lack what they hold.", float64(here.StandIn)),
		"stand_in_entries":             gauge("Versions in those copies.", float64(here.StandInKeys)),
		"sync_received_bytes_total":    total("Compressed bytes of session frames received.", st.SyncBytesIn.Load()),
		"sync_sent_bytes_total":        total("Compressed bytes of session frames sent.", st.SyncBytesOut.Load()),
		"sync_entries_received_total":  total("Objects received in sessions.", st.EntriesIn.Load()),
		"sync_entries_sent_total":      total("Objects sent in sessions.", st.EntriesOut.Load()),
		"sync_sessions_total":          total("Sessions begun as their receiver.", st.Sessions.Load()),
		"sync_sessions_cut_total":      total("Sessions that broke off; they are asked for again.", st.SessionsCut.Load()),
		"sync_lanes_sent_total":        total("Streams opened to nodes that catch up.", st.LanesOut.Load()),
		"sync_lanes_received_total":    total("Streams of sessions taken in.", st.LanesIn.Load()),
		"sync_lanes_cut_total":         total("Streams that broke off while others of their session went on.", st.LanesCut.Load()),
		"sync_lanes_refused_total":     total("Streams of no session that was open, or against the protocol.", st.LanesRefused.Load()),
		"sync_apply_queue_bytes":       gauge("Bytes that sessions brought and the store has not written.", float64(n.replica.ApplyQueue())),
		"sync_guard_rate_bytes":        gauge("Bytes a second that sessions may move for the sake of clients; 0 holds nothing back.", float64(guard.RateBytes)),
		"sync_guard_slowed_total":      total("Looks, four a second, that slowed sessions down for the sake of clients.", guard.Slowed),
		"foreground_quiet_p99_seconds": gauge("What the slowest 1 % of requests took here without a sync.", float64(guard.QuietP99US)/1e6),
		"foreground_p99_seconds":       gauge("What the slowest 1 % of requests took here lately.", float64(guard.P99US)/1e6),
		"writes_total":                 total("Writes coordinated here.", st.Writes.Load()),
		"reads_total":                  total("Reads answered from a copy here, by the long way.", st.Reads.Load()),
		"forwards_total":               total("Requests run at another node.", st.Forwards.Load()),
		"writes_partial_context_total": total("Plain writes that could not read every copy they wanted.", st.PartialContext.Load()),
		"writes_few_copies_total":      total("Writes acknowledged with fewer copies than configured.", st.FewCopies.Load()),
		"writes_stand_in_total":        total("Writes acknowledged with the copy of a node that stands in for an owner.", st.StandInWrites.Load()),
		"stand_in_opened_total":        total("Copies opened here for owners that were away.", st.StandInsOpened.Load()),
		"copies_dropped_total":         total("Copies dropped here since every owner covers them.", st.CopiesDropped.Load()),
		"actors_sealed_total":          total("Times that the former processes of a node became one entry of a copy's clock here.", st.Sealed.Load()),
		"clock_seals":                  gauge("Entries of clocks here that stand for former processes.", float64(n.replica.Sealed())),
		"late_writes_refused_total":    total("Replicated writes refused because their process is gone and sealed.", st.LateRefused.Load()),
		"writes_unknown_total":         total("Writes whose outcome is unknown to their client.", st.Unknown.Load()),
		"answers_marked_total":         total("Answers of isolated or degraded copies.", st.MarkedAnswers.Load()),
		"replicated_sent_total":        total("Writes sent to other owners.", st.LiveSent.Load()),
		"replicated_received_total":    total("Writes received from other owners.", st.LiveApplied.Load()),
		"replication_overflows_total":  total("Writes not sent because a peer's queue was full.", st.StreamOverflows.Load()),
		"ticks_equal_total":            total("Anti-entropy ticks that found equal roots.", st.TicksEqual.Load()),
		"ticks_different_total":        total("Anti-entropy ticks that found a difference.", st.TicksDifferent.Load()),
		"tombstones_collected_total":   total("Tombstones given up.", st.Collected.Load()),
		"tombstones_forced_total":      total("Of them, those that not every owner was known to hold.", st.CollectedForced.Load()),
		"versions_reaped_total":        total("Versions that this node removed from all copies because they had expired.", st.Reaped.Load()),
		"versions_evicted_total":       total("Versions that this node removed from all copies to keep the store below its limit.", st.Evicted.Load()),
		"store_weighed_bytes":          gauge("Bytes of keys and values in the store as last weighed; 0 without a limit.", float64(st.StoreBytes.Load())),
		"reap_errors_total":            total("Removals of expired or evicted versions that the store failed.", st.ReapErrors.Load()),
		"tree_bytes":                   gauge("Memory of hash trees kept in step.", float64(n.set.WarmBytes())),
		"read_repairs_total":           total("Copies mended behind a read that found them apart.", st.ReadRepairs.Load()),
		"lease_waits_total":            total("Requests that found a lease lapsed.", st.LeaseWaits.Load()),
		"memory_tier_hits_total":       total("Reads that the memory tier answered.", int64(tier.Hits)),
		"memory_tier_misses_total":     total("Reads that went to the store.", int64(tier.Misses)),
		"memory_tier_bytes":            gauge("Bytes in the memory tier.", float64(tier.Bytes)),
		"memory_tier_entries":          gauge("Objects in the memory tier.", float64(tier.Entries)),
		"frames_refused_total":         total("Frames of peers that made no sense; their connection was closed.", n.badFrames.Load()),
		"breaches_of_ours_total":       total("Connections that peers closed because they hold that this node broke the protocol.", n.hungUpOn.Load()),
		"repair_plans_total":           total("Plans made of an operator's repair policy.", n.plans.made.Load()),
		"repair_fallbacks_total":       total("Plans of which the policy failed, so that the built-in one took over.", n.plans.fellBack.Load()),
		"policies_refused_total":       total("Policies that an upload's check refused.", n.badUpload.Load()),
		"connections_refused_total":    total("Connections refused or not trusted, by either side.", n.refusals.Load()+n.links.transport.Rejected()),
		"wire_received_bytes_total":    total("Bytes received at the UDP socket.", n.links.transport.BytesIn()),
		"wire_sent_bytes_total":        total("Bytes sent at the UDP socket.", n.links.transport.BytesOut()),
	})
	return set
}

// damageCounters are those of copies that were found damaged.
func (n *Node) damageCounters() map[string]counter {
	st := n.replica.Stats()
	return map[string]counter{
		"copies_quarantined":         gauge("Copies that have lost their clock and are not level with all others yet.", float64(len(n.set.InQuarantine()))),
		"copies_requalified_total":   total("Copies that were, and claim again what they hold (L3).", st.Requalified.Load()),
		"versions_adopted_total":     total("Versions that such copies alone held, and gave to the others.", st.Adopted.Load()),
		"versions_buried_total":      total("Versions held here that had been deleted meanwhile, and would have come back (L2, L3).", st.Buried.Load()),
		"corruption_total":           total("Versions put in or taken out of a copy here by the owners' vote (L4).", st.Corruptions.Load()),
		"heals_total":                total("Attempts to heal a copy here (L4).", st.Heals.Load()),
		"heal_answers_refused_total": total("Answers of peers to L4's questions that made no sense.", st.HealLies.Load()),
		"heal_owners_left_out_total": total("Owners that held up the vote on a damaged copy here (L4), and were left out.", st.HealLeftOut.Load()),
		"scrubs_total":               total("Copies that were read whole.", st.Scrubs.Load()),
		"scrubs_damaged_total":       total("Copies that a scrub found damaged.", st.ScrubsBad.Load()),
		"scrubbed_bytes_total":       total("Bytes that scrubs read.", st.ScrubbedBytes.Load()),
	}
}

// counters are the same for /status.
func (n *Node) counters() map[string]uint64 {
	out := map[string]uint64{}
	for name, c := range n.counterSet() {
		out[name] = uint64(c.value)
	}
	return out
}

// caught remembers the socket's bytes at the moment of catching up.
type caught struct {
	mu      sync.Mutex
	done    bool
	in, out uint64
}

// wireAtCatchUp returns the bytes at the UDP socket until the node had caught up,
// or now while it has not.
func (n *Node) wireAtCatchUp() (in, out uint64) {
	n.caught.mu.Lock()
	defer n.caught.mu.Unlock()
	if n.caught.done {
		return n.caught.in, n.caught.out
	}
	return uint64(n.links.transport.BytesIn()), uint64(n.links.transport.BytesOut())
}

// noteCaughtUp keeps the count; the first call wins.
func (n *Node) noteCaughtUp() {
	n.caught.mu.Lock()
	defer n.caught.mu.Unlock()
	if !n.caught.done && n.replica.Stats().CaughtUpNS.Load() != 0 {
		n.caught.done = true
		n.caught.in, n.caught.out = uint64(n.links.transport.BytesIn()), uint64(n.links.transport.BytesOut())
	}
}
