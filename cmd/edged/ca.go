package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"edged.dev/edged/transport"
)

// defaultValidity is how long a node's certificate lasts: an operator passes
// by once a year.
const defaultValidity = 365 * 24 * time.Hour

func caCommand(sys system) *cobra.Command {
	cmd := group(&cobra.Command{Use: "ca", Short: "Make a cluster's certificates"})
	cmd.AddCommand(caInitCommand(sys), caIssueCommand(sys))
	return cmd
}

func caInitCommand(sys system) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a new cluster's authority: its ID, its key, its certificate",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			if err := transport.InitCA(dir); err != nil {
				return err
			}
			sys.talk("Made the cluster's authority in %s. Keep its ca.key off the nodes; `edged ca issue NAME` makes what they need.", dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "ca", "directory of the authority")
	return cmd
}

func caIssueCommand(sys system) *cobra.Command {
	var dir, out string
	var validity time.Duration
	var renew bool
	cmd := &cobra.Command{
		Use:   "issue NAME",
		Short: "Make a node's certificate, and put what the node needs into a directory",
		Args:  exactly("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if out == "" {
				out = name
			}
			if validity <= 0 {
				return fmt.Errorf("%w: --validity %s: want more than nothing", errUsage, validity)
			}
			until := time.Now().Add(validity)
			mint := transport.Issue
			if renew {
				mint = transport.Renew
			}
			if err := mint(dir, name, out, validity); err != nil {
				return err
			}
			sys.talk("Made %s's certificate, valid until %s. Copy %s to the node and start it with --tls-dir.", name, until.UTC().Format(time.DateOnly), out)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "ca", "directory of the authority")
	cmd.Flags().StringVar(&out, "out", "", "directory to write to (default: NAME)")
	cmd.Flags().BoolVar(&renew, "renew", false, "replace the certificate and key that the directory holds of this node")
	cmd.Flags().DurationVar(&validity, "validity", defaultValidity, "how long the certificate lasts")
	return cmd
}
