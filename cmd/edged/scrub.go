package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
)

// scrubTimeout is for all copies of a node: some gigabytes.
const scrubTimeout = time.Minute

func scrubCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	partition := admin.AllPartitions
	cmd := &cobra.Command{
		Use:   "scrub",
		Short: "Have a node read its own copies whole and check every value",
		Long: `Have a node read its own copies whole and check every value. A node does so by
itself, slowly, all the time (scrub.every). A copy that does not hold what it has on
record serves no more, and is healed with the copies of the other owners.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if partition < admin.AllPartitions {
				return fmt.Errorf("%w: --partition %d: want a partition's number", errUsage, partition)
			}
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				found, err := client.Scrub(ctx, partition)
				if err != nil {
					return err
				}
				return form.print(sys, found, func(t *table) { scrubTable(t, found) })
			})
		},
	}
	cmd.Flags().IntVar(&partition, "partition", admin.AllPartitions, "partition to read; -1 reads all")
	form.add(cmd.Flags())
	to.add(cmd.Flags(), scrubTimeout)
	return cmd
}

func scrubTable(t *table, s admin.Scrubbed) {
	t.row("OBJECTS", strconv.Itoa(s.Objects))
	t.row("READ", node.FormatSize(s.Bytes))
	t.row("DAMAGED COPIES", strconv.Itoa(len(s.Damaged)))
	for _, c := range s.Damaged {
		var keys []string
		for _, k := range c.Keys {
			keys = append(keys, strconv.Quote(string(k)))
		}
		t.row("PARTITION "+strconv.Itoa(int(c.Partition)), orDash(strings.Join(keys, ", ")))
	}
}
