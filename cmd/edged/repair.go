package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
)

func repairCommand(sys system) *cobra.Command {
	cmd := group(&cobra.Command{Use: "repair", Short: "Show how a node repairs its copies"})
	cmd.AddCommand(repairPlanCommand(sys))
	return cmd
}

func repairPlanCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	var explain, replay bool
	var seq uint64
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show the plan by which a node repairs its copies, and what came of it",
		Long: `Show the plan by which a node repairs its copies, and what came of it.

A repair policy may delay, order and slow repair. It never starves it: what has
waited for ten minutes goes first, what asks for more than it may is dropped or
clamped, and the built-in plan stands in for a policy that fails. With --explain
every input and every step is shown, and why it was kept, clamped or dropped.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				plans, err := client.RepairPlan(ctx, seq, replay)
				if err != nil {
					return err
				}
				return form.print(sys, plans, func(t *table) { repairTable(t, plans, explain) })
			})
		},
	}
	cmd.Flags().BoolVar(&explain, "explain", false, "show the inputs, and each step with what became of it")
	cmd.Flags().BoolVar(&replay, "replay", false, "have the node make the plan again, of the recorded input, and compare")
	cmd.Flags().Uint64Var(&seq, "seq", 0, "show an earlier plan by its number (default: the newest)")
	form.add(cmd.Flags())
	to.add(cmd.Flags(), askTimeout)
	return cmd
}

func repairTable(t *table, p admin.RepairPlans, explain bool) {
	t.row("POLICY", plannerText(p))
	t.row("READY", yesNo(p.Ready))
	if p.Error != "" {
		t.row("ERROR", p.Error)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Counters)) {
		t.row(strings.ToUpper(name), strconv.FormatUint(p.Counters[name], 10))
	}
	if p.Replay != nil {
		t.row("REPLAY", replayText(*p.Replay))
	}
	if p.Plan == nil {
		t.line("")
		t.line("This node has lacked nothing since it started, so it made no plan.")
		return
	}
	t.line("")
	planTable(t, *p.Plan)
	if explain {
		explainInput(t, p.Plan.Input)
		explainSteps(t, *p.Plan)
		return
	}
	if len(p.History) > 1 {
		t.line("")
		historyTable(t, p.History)
	}
}

func replayText(r admin.RepairReplay) string {
	switch {
	case r.Same:
		return "the same plan"
	case r.Failed:
		return "not made: " + r.Detail
	}
	return "NOT THE SAME: " + r.Detail
}

func plannerText(p admin.RepairPlans) string {
	if p.Epoch == 0 {
		return p.Policy + " (no policy is deployed)"
	}
	text := fmt.Sprintf("%s (%s), epoch %d", p.Policy, short(p.ID), p.Epoch)
	if p.Conflict {
		text += " CONFLICT"
	}
	return text
}

func planTable(t *table, p admin.RepairPlan) {
	t.row("PLAN", fmt.Sprintf("%d, made %s by %s", p.Seq, time.UnixMilli(p.AtMS).UTC().Format(time.RFC3339), short(p.Policy)))
	if !p.Enforced {
		t.row("ENFORCED", "no: without a policy this is what is done anyway")
	}
	if p.Fallback != "" {
		t.row("FELL BACK", fmt.Sprintf("to the built-in plan: %s: %s", p.Fallback, p.Detail))
	}
	for _, line := range p.Log {
		t.row("LOG", line)
	}
	if p.FuelUsed > 0 {
		t.row("FUEL", strconv.FormatInt(p.FuelUsed, 10))
	}
	t.row("STEPS", fatesText(p.RepairPlanHead.Steps))
	t.row("OUTCOME", outcomeText(p.RepairPlanHead))
}

func fatesText(steps map[string]int) string {
	var parts []string
	for _, fate := range slices.Sorted(maps.Keys(steps)) {
		parts = append(parts, fmt.Sprintf("%d %s", steps[fate], fate))
	}
	return orDash(strings.Join(parts, ", "))
}

func outcomeText(h admin.RepairPlanHead) string {
	return fmt.Sprintf("%d ranges; %d partitions asked for, %d repaired, %d streams broke off", h.Ranges, h.Asked, h.Repaired, h.Failures)
}

func historyTable(t *table, history []admin.RepairPlanHead) {
	t.row("PLAN", "AT", "POLICY", "RANGES", "STEPS", "REPAIRED", "FELL BACK")
	for _, h := range history {
		t.row(strconv.FormatUint(h.Seq, 10), time.UnixMilli(h.AtMS).UTC().Format(time.TimeOnly), short(h.Policy), strconv.Itoa(h.Ranges),
			fatesText(h.Steps), fmt.Sprintf("%d of %d", h.Repaired, h.Asked), orDash(h.Fallback))
	}
}

func explainInput(t *table, in admin.RepairInput) {
	t.line("")
	local := time.Unix(int64(in.TickS), 0).In(time.FixedZone("", int(in.UTCOffsetS)))
	t.row("TIME", local.Format(time.RFC3339))
	t.row("LOAD", fmt.Sprintf("processors %s, %d requests/s, p99 %s, %d sessions", permilleText(in.CPUPermille), in.RequestsPerS,
		time.Duration(in.ForegroundP99US)*time.Microsecond, in.Inflight))
	budget := "none"
	if in.BudgetBytes > 0 {
		budget = node.FormatSize(int64(in.BudgetBytes)) + " in this round"
	}
	t.row("BUDGET", fmt.Sprintf("%s; at most %d steps", budget, in.MaxSteps))
	for _, h := range in.Hot {
		t.row("HOT", fmt.Sprintf("%q %d reads/s", h.Prefix, h.ReadsPerS))
	}
	t.line("")
	t.row("PEER", "ZONE", "STATE", "LINK", "RTT", "CPU", "MEMORY", "SENDS")
	for _, p := range in.Peers {
		t.row(p.Name, strconv.Itoa(int(p.Zone)), nameOf(p.State, "up", "suspect", "draining", "rejoining"),
			nameOf(p.Link, "-", "local", "near", "far"), (time.Duration(p.RTTUS) * time.Microsecond).String(), permilleText(p.CPUPermille), permilleText(p.MemPermille),
			node.FormatSize(int64(p.EgressKiBps)<<10)+"/s")
	}
	t.line("")
	t.row("PARTITION", "FROM", "MISSING", "BYTES", "OF KEYS", "FOR", "REPAIRED", "READS/S", "SERVES", "FAILURES")
	for _, r := range in.Ranges {
		t.row(strconv.FormatUint(r.Partition, 10), r.Peer, strconv.FormatUint(r.Dots, 10), node.FormatSize(int64(r.Bytes)), strconv.FormatUint(r.Keys, 10),
			millis(r.AgeMS), millis(r.LastRepairMS)+" ago", strconv.FormatUint(uint64(r.ReadsPerS), 10), yesNo(r.Serves), strconv.Itoa(int(r.Failures)))
	}
}

func explainSteps(t *table, p admin.RepairPlan) {
	done := map[uint64]admin.RepairOutcome{}
	for _, o := range p.Outcomes {
		done[o.Partition] = o
	}
	t.line("")
	t.row("STEP", "PARTITION", "FROM", "DO", "PRIORITY", "RATE", "MOST", "DELAY", "FIRST", "LAST", "FATE", "OUTCOME", "WHY")
	for i, s := range p.Steps {
		outcome := "-"
		if o, ok := done[s.Partition]; ok && o.Peer == s.Peer {
			outcome = "asked " + millis(o.AskedMS)
			if o.EndedMS > 0 {
				outcome = "repaired " + millis(o.EndedMS)
			}
			if o.Failures > 0 {
				outcome += fmt.Sprintf(", broke off %d times", o.Failures)
			}
		}
		rate := "default"
		if s.RateKiBps > 0 {
			rate = node.FormatSize(int64(s.RateKiBps)<<10) + "/s"
		}
		most := "all"
		if s.MaxBytes > 0 {
			most = node.FormatSize(int64(min(s.MaxBytes, math.MaxInt64)))
		}
		t.row(strconv.Itoa(i+1), strconv.FormatUint(s.Partition, 10), orDash(s.Peer), s.Strategy, strconv.Itoa(int(s.Priority)), rate, most, millis(int64(s.DelayMS)),
			orDash(strings.Join(s.First, " ")), orDash(strings.Join(s.Last, " ")), s.Fate, outcome, orDash(s.Why))
	}
	if p.MoreDropped > 0 {
		t.line("... and %d more steps that were dropped", p.MoreDropped)
	}
}

func nameOf(i uint16, names ...string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return strconv.Itoa(int(i))
}

func permilleText(p uint32) string { return strconv.FormatFloat(float64(p)/10, 'f', 1, 64) + "%" }

func millis(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }
