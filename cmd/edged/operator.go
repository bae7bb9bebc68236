package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
)

// errNotAsked ends a command that gives something up, and was not told --yes.
var errNotAsked = errors.New("nothing was done; say --yes to give it up")

func acceptLossCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	var allNew, yes bool
	partition := admin.AllPartitions
	cmd := &cobra.Command{
		Use:   "accept-loss",
		Short: "Serve partitions of which every copy was lost, as empty ones",
		Long: `Serve partitions of which every copy was lost, as empty ones.

A partition whose copies in reach are all new is served by nobody: its answers
would be "not found" for what its earlier copies held. This command accepts that,
at a node that owns the partition. Without --yes it only shows what is given up. A
copy that is out of reach now is not destroyed: should its node come back, what it
holds is there again.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if allNew == cmd.Flags().Changed("partition") {
				return fmt.Errorf("%w: want one of --partition P and --all-new", errUsage)
			}
			if !allNew && partition < 0 {
				return fmt.Errorf("%w: --partition %d: want a partition's number", errUsage, partition)
			}
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				if yes {
					done, err := client.AcceptLoss(ctx, partition)
					if err != nil {
						return fmt.Errorf("accept loss: %w", err)
					}
					return form.print(sys, done, func(t *table) { lossesTable(t, done, "GIVEN UP") })
				}
				losses, err := client.Losses(ctx, partition)
				if err != nil {
					return err
				}
				if partition != admin.AllPartitions && losses.Partitions[0].Refused != "" {
					return fmt.Errorf("accept loss: %w", &admin.Problem{Title: "nothing to accept", Status: http.StatusConflict, Detail: losses.Partitions[0].Refused})
				}
				if err := form.print(sys, losses, func(t *table) { lossesTable(t, losses, "TO GIVE UP") }); err != nil {
					return err
				}
				return errNotAsked
			})
		},
	}
	cmd.Flags().IntVar(&partition, "partition", admin.AllPartitions, "the partition to serve")
	cmd.Flags().BoolVar(&allNew, "all-new", false, "every partition that the node owns and whose copies are all new")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it; without, only show what is given up")
	form.add(cmd.Flags())
	to.add(cmd.Flags(), deployTimeout)
	return cmd
}

func lossesTable(t *table, l admin.Losses, head string) {
	if len(l.Partitions) == 0 {
		t.line("No partition of this node is without a copy that may serve.")
	} else {
		t.row(head, "COPIES", "NOTE")
	}
	for _, p := range l.Partitions {
		var copies []string
		for _, c := range p.Copies {
			copies = append(copies, copyText(c))
		}
		note := p.Refused
		if note != "" {
			note = "refused: " + note
		}
		t.row("partition "+strconv.FormatUint(uint64(p.Partition), 10), orDash(strings.Join(copies, ", ")), orDash(note))
	}
	for _, a := range l.Accepted {
		t.line("Accepted before: partition %d, at %s, by %s's copy", a.Partition, dateText(a.TimeMS), a.Node)
	}
}

func copyText(c admin.LossCopy) string {
	text := c.Node + " out of reach"
	if c.Reached {
		text = c.Node + " " + c.Trust
	}
	if c.Damaged {
		text += ", damaged: what it holds stays with it"
	}
	if c.Known > 0 {
		text += fmt.Sprintf(" (was known to have seen %d writes)", c.Known)
	}
	return text
}

func forgetCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	var yes bool
	cmd := &cobra.Command{
		Use:   "forget NODE",
		Short: "Give a member up, with what only it held",
		Long: `Give a member up, with what only it held.

Others own its partitions from then on. Its data directory may not return: a
process on it is told so and ends. The name may, with an empty directory. Without
--yes the command only shows what is given up.`,
		Args: exactly("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				ask, head := client.Forgetting, "TO GIVE UP"
				if yes {
					ask, head = client.Forget, "GIVEN UP"
				}
				f, err := ask(ctx, args[0])
				if err != nil {
					return fmt.Errorf("forget %s: %w", args[0], err)
				}
				if err := form.print(sys, f, func(t *table) { forgetTable(t, f, head) }); err != nil || yes {
					return err
				}
				return errNotAsked
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it; without, only show what is given up")
	form.add(cmd.Flags())
	to.add(cmd.Flags(), askTimeout)
	return cmd
}

func forgetTable(t *table, f admin.Forgetting, head string) {
	t.row(head, f.Name)
	t.row("DATA DIRECTORY", "of node ID "+f.ID)
	state := "not connected"
	if f.Alive {
		state = "running"
	}
	t.row("STATE", state)
	t.row("PARTITIONS", fmt.Sprintf("%d owned, %d served by no other owner", f.Owned, f.Alone))
	if f.Refused != "" {
		t.row("REFUSED", f.Refused)
	}
}

func syncCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	var rate, guard string
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Show or change what holds a node's syncs back",
		Long: `Show or change what holds a node's syncs back: the settings sync.rate and
sync.guard. A change takes effect at once, on syncs under way too, and holds until
the node's next start or reload (SIGHUP), which bring what its settings say.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			changes := cmd.Flags().Changed("rate") || cmd.Flags().Changed("guard")
			if changes && rate == "" && guard == "" {
				return fmt.Errorf("%w: want a value for --rate or --guard", errUsage)
			}
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				ask := client.SyncLimits
				if changes {
					ask = func(ctx context.Context) (admin.SyncLimits, error) { return client.SetSync(ctx, rate, guard) }
				}
				limits, err := ask(ctx)
				if err != nil {
					return err
				}
				return form.print(sys, limits, func(t *table) { syncTable(t, limits) })
			})
		},
	}
	cmd.Flags().StringVar(&rate, "rate", "", "bytes a second that the node streams to others, such as 20MiB; 0 for no limit")
	cmd.Flags().StringVar(&guard, "guard", "", "how many times longer the slowest 1 % of requests may take meanwhile; 0 for no limit")
	form.add(cmd.Flags())
	to.add(cmd.Flags(), askTimeout)
	return cmd
}

func syncTable(t *table, l admin.SyncLimits) {
	rate, guard := "no limit", "off"
	if l.RateBytes != 0 {
		rate = node.FormatSize(l.RateBytes) + " a second"
	}
	if l.Guard != 0 {
		guard = strconv.FormatFloat(l.Guard, 'g', -1, 64) + " times"
	}
	t.row("RATE", rate)
	t.row("GUARD", guard)
}
