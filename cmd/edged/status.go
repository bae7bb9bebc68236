package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
)

func statusCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster as a node sees it",
		Long: `Show the cluster as a node sees it. The exit code is 3 when that node is not
ready or cannot be reached.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				status, err := client.Status(ctx)
				if err != nil {
					return err
				}
				if err := form.print(sys, status, func(t *table) { statusTable(t, status) }); err != nil {
					return err
				}
				if status.State != "ready" {
					return fmt.Errorf("%w: %s is %s", errNotReady, status.Name, status.State)
				}
				return nil
			})
		},
	}
	form.add(cmd.Flags())
	to.add(cmd.Flags(), askTimeout)
	return cmd
}

func statusTable(t *table, s admin.Status) {
	t.line("Cluster %s: %d members, %d partitions, N=%d W=%d R=%d",
		short(s.Cluster), len(s.Layout.Members), s.Layout.Partitions, s.Layout.Copies, s.Layout.WriteQuorum, s.Layout.ReadQuorum)
	for _, why := range s.Degraded {
		t.line("Degraded: %s", why)
	}
	t.line("")
	t.row("NODE", "STATE", "ADDRESS", "OWNED", "LIVE", "VERIFIED", "RTT")
	for _, n := range s.Nodes {
		name, verified, rtt := n.Name, "-", "-"
		if n.Self {
			name, verified = n.Name+" (this)", strconv.Itoa(n.Verified)
		} else if n.Alive {
			rtt = strconv.FormatFloat(n.RTTMS, 'f', 1, 64) + "ms"
		}
		t.row(name, n.State, orDash(n.Address), strconv.Itoa(n.Owned), strconv.Itoa(n.Live), verified, rtt)
	}
	t.line("")
	t.row("PARTITIONS HERE", countsText(s.Partitions))
	t.row("VERIFIED", fmt.Sprintf("%d of %d", s.Partitions.Verified, s.Partitions.Owned))
	if n := s.Partitions.StandIn; n > 0 {
		t.row("STANDING IN", fmt.Sprintf("%d partitions, %d versions held for their owners", n, s.Partitions.StandInKeys))
	}
	t.row("BYTES BEHIND", node.FormatSize(int64(s.BytesBehind)))
	t.row("KEYS", strconv.FormatUint(s.Keys, 10))
	bound := false
	for _, p := range s.Policies {
		for _, b := range p.Bindings {
			bound = bound || p.Kind != admin.KindRepair
			t.row("POLICY", policyText(p, b))
		}
	}
	if !bound {
		t.row("POLICY", "lww for every key")
	}
}

// countsText says the states that partitions are in, and leaves out the rest.
func countsText(c admin.PartitionCounts) string {
	var parts []string
	for _, state := range []struct {
		n    int
		name string
	}{
		{c.Live, admin.StateLive},
		{c.CatchingUp, admin.StateCatchingUp},
		{c.Isolated, admin.StateIsolated},
		{c.Degraded, admin.StateDegraded},
		{c.Cold, admin.StateCold},
	} {
		if state.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", state.n, state.name))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func policyText(p admin.Policy, b admin.Binding) string {
	text := fmt.Sprintf("%s for %q at epoch %d", p.Name, b.Prefix, b.Epoch)
	if p.Kind == admin.KindRepair {
		text = fmt.Sprintf("%s plans repair at epoch %d", p.Name, b.Epoch)
	}
	if b.Conflict {
		text += ", CONFLICT"
	}
	if !p.Ready {
		text += ", not ready here"
	}
	return text
}

// short is enough of an ID to tell it from its neighbours.
func short(id string) string { return id[:min(len(id), 12)] }
