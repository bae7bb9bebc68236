package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
)

func rejoinCommand(sys system) *cobra.Command {
	cmd := group(&cobra.Command{Use: "rejoin", Short: "Show how a node came back"})
	cmd.AddCommand(rejoinStatusCommand(sys))
	return cmd
}

func rejoinStatusCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what a node fetched since its start, and how long that took",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				rejoin, err := client.Rejoin(ctx)
				if err != nil {
					return err
				}
				return form.print(sys, rejoin, func(t *table) { rejoinTable(t, rejoin) })
			})
		},
	}
	form.add(cmd.Flags())
	to.add(cmd.Flags(), askTimeout)
	return cmd
}

func waitCommand(sys system) *cobra.Command {
	var to target
	synced := false
	cmd := &cobra.Command{
		Use:   "wait --synced",
		Short: "Wait until a node's partitions are level on all their owners",
		Long: `Wait until every owner of the node's partitions durably holds all that any of
them held when the command began, and the node's own copies are live. Writes that
come meanwhile do not hold it up. Exit code 3 where that did not come about within
--timeout; what was missing is said.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !synced {
				return fmt.Errorf("%w: say what to wait for: --synced", errUsage)
			}
			wait := to.timeout
			if wait <= 0 || wait > admin.MaxWait {
				return fmt.Errorf("%w: --timeout %s: want up to %s", errUsage, wait, admin.MaxWait)
			}
			to.timeout += askTimeout // for the answer itself
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				rejoin, err := waitSynced(ctx, client, wait)
				switch {
				case err != nil:
					return err
				case rejoin.Synced == nil:
					return fmt.Errorf("%w: it does not know how to wait; is it of an earlier version?", errNotReady)
				case !*rejoin.Synced:
					return fmt.Errorf("%w within %s: %s", errNotReady, wait, rejoin.Unsynced)
				}
				_, err = fmt.Fprintf(sys.out, "synced: %s partitions\n", countsText(rejoin.Partitions))
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&synced, "synced", false, "wait for a sync point")
	to.add(cmd.Flags(), waitTimeout)
	return cmd
}

// joiningEvery spaces the questions to a node that is still joining its cluster.
const joiningEvery = 100 * time.Millisecond

// waitSynced asks for the sync point. A node that has just started says that it is
// joining yet: that is what there is to wait for, and it is asked again. So is one
// that was joining and does not answer, for it may start again on its way in.
func waitSynced(ctx context.Context, client *admin.Client, wait time.Duration) (admin.Rejoin, error) {
	end, joining := time.Now().Add(wait), false
	for {
		rejoin, err := client.WaitSynced(ctx, wait)
		var problem *admin.Problem
		joining = errors.As(err, &problem) && problem.Type == admin.ProblemJoining || joining && errors.Is(err, admin.ErrUnreachable)
		if wait = time.Until(end) - joiningEvery; !joining || wait <= 0 {
			return rejoin, err
		}
		select {
		case <-ctx.Done():
			return rejoin, err
		case <-time.After(joiningEvery):
		}
	}
}

func rejoinTable(t *table, r admin.Rejoin) {
	t.row("STARTED", dateText(r.StartedMS))
	t.row("OFFLINE FOR", (time.Duration(r.OfflineMS) * time.Millisecond).String())
	t.row("PARTITIONS", countsText(r.Partitions))
	t.row("VERIFIED", fmt.Sprintf("%d of %d", r.Partitions.Verified, r.Partitions.Owned))
	var steps []string
	for _, step := range slices.Sorted(maps.Keys(r.PerStep)) {
		steps = append(steps, fmt.Sprintf("%s %d", step, r.PerStep[step]))
	}
	t.row("STEPS", orDash(strings.Join(steps, ", ")))
	for _, s := range r.Steps {
		t.row("  "+s.Step, fmt.Sprintf("%d (%s): %s", s.Count, fewRanges(s.Partitions), s.Reason))
	}
	for _, h := range r.Healed {
		t.row("HEALED", fmt.Sprintf("partition %d: %s", h.Partition, h.Reason))
	}
	t.row("ENTRIES", fmt.Sprintf("%d received, %d sent", r.EntriesReceived, r.EntriesSent))
	t.row("SYNC BYTES", fmt.Sprintf("%s in, %s out", node.FormatSize(int64(r.SyncBytesIn)), node.FormatSize(int64(r.SyncBytesOut))))
	t.row("WIRE BYTES", fmt.Sprintf("%s in, %s out", node.FormatSize(int64(r.WireBytesIn)), node.FormatSize(int64(r.WireBytesOut))))
	t.row("FIRST HELLO", momentText(r.FirstHelloMS))
	t.row("LAST PEND", momentText(r.LastPendMS))
	t.row("CAUGHT UP", momentText(r.CaughtUpMS))
	t.row("ALL VERIFIED", momentText(r.VerifiedMS))
}

// fewRanges shortens a list of partitions to a line's length; -o json has all.
func fewRanges(numbers string) string {
	const most = 8
	ranges := strings.SplitN(numbers, ",", most+1)
	if len(ranges) > most {
		ranges[most] = "..."
	}
	return strings.Join(ranges, ", ")
}

// momentText shows a moment as milliseconds since the process started.
func momentText(ms *float64) string {
	if ms == nil {
		return "not yet"
	}
	return strconv.FormatFloat(*ms, 'f', 1, 64) + "ms"
}

func dumpCommand(sys system) *cobra.Command {
	var to target
	partition := admin.AllPartitions
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Write a node's own copy as JSON lines",
		Long: `Write a node's own copy as JSON lines: a line for each version, in the order of
the keys' hashes, then the partition's clock and root. Values are shown by
their hash.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if partition < admin.AllPartitions {
				return fmt.Errorf("%w: --partition %d: want a partition's number", errUsage, partition)
			}
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				enc := json.NewEncoder(sys.out)
				return client.Dump(ctx, partition, func(line admin.DumpLine) error { return enc.Encode(line) })
			})
		},
	}
	cmd.Flags().IntVar(&partition, "partition", admin.AllPartitions, "partition to write; -1 writes all")
	to.add(cmd.Flags(), dumpTimeout)
	return cmd
}
