package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
)

// maxModuleBytes is the limit of a policy's module; the server has its own.
const maxModuleBytes = 4 << 20

func policyCommand(sys system) *cobra.Command {
	cmd := group(&cobra.Command{Use: "policy", Short: "Deploy and show merge policies"})
	cmd.AddCommand(policyDeployCommand(sys), policyListCommand(sys), policyShowCommand(sys), policyRollbackCommand(sys))
	return cmd
}

func policyDeployCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	var name, prefix string
	cmd := &cobra.Command{
		Use:   "deploy FILE|lww|siblings --bind PREFIX",
		Short: "Upload a WebAssembly module, or take a built-in policy, and bind it to the keys with a prefix",
		Args:  exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("bind") {
				return fmt.Errorf("%w: --bind PREFIX is missing; --bind \"\" binds every key", errUsage)
			}
			var wasm []byte
			switch {
			case !admin.Builtin(args[0]):
				var err error
				if wasm, err = readModule(args[0]); err != nil {
					return err
				}
			case name != "":
				return fmt.Errorf("%w: --name %s: a built-in policy keeps its name", errUsage, name)
			default:
				name = args[0]
			}
			if name == "" {
				name = strings.TrimSuffix(filepath.Base(args[0]), filepath.Ext(args[0]))
			}
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				done, err := client.DeployPolicy(ctx, wasm, name, prefix)
				if err != nil {
					return fmt.Errorf("deploy %s: %w", name, err)
				}
				return form.print(sys, done, func(t *table) {
					t.line("%s (%s) decides keys that begin with %q from epoch %d on; written to %s copies", done.Name, short(done.ID), done.Prefix, done.Epoch, done.Copies)
				})
			})
		},
	}
	cmd.Flags().StringVar(&prefix, "bind", "", "prefix of the keys that the policy decides")
	cmd.Flags().StringVar(&name, "name", "", "name of the policy (default: the file's)")
	form.add(cmd.Flags())
	to.add(cmd.Flags(), deployTimeout)
	return cmd
}

func readModule(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	if info.Size() > maxModuleBytes {
		return nil, fmt.Errorf("read module: %s has %s, want at most %s", path, node.FormatSize(info.Size()), node.FormatSize(maxModuleBytes))
	}
	wasm, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	return wasm, nil
}

func policyListCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the policies that a node holds",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				policies, err := client.Policies(ctx)
				if err != nil {
					return err
				}
				return form.print(sys, policies, func(t *table) { policiesTable(t, policies) })
			})
		},
	}
	form.add(cmd.Flags())
	to.add(cmd.Flags(), askTimeout)
	return cmd
}

func policiesTable(t *table, policies []admin.Policy) {
	t.row("NAME", "ID", "KIND", "SIZE", "CREATED", "READY", "BOUND TO")
	for _, p := range policies {
		t.row(p.Name, short(p.ID), p.Kind, sizeText(p.Size), dateText(p.CreatedMS), yesNo(p.Ready), bindingsText(p.Bindings))
	}
}

func bindingsText(bindings []admin.Binding) string {
	var parts []string
	for _, b := range bindings {
		text := fmt.Sprintf("%q@%d", b.Prefix, b.Epoch)
		if b.Conflict {
			text += " CONFLICT"
		}
		parts = append(parts, text)
	}
	return orDash(strings.Join(parts, ", "))
}

func policyShowCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show one policy, its bindings and its counters",
		Args:  exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				policy, err := client.Policy(ctx, args[0])
				if err != nil {
					return err
				}
				return form.print(sys, policy, func(t *table) { policyTable(t, policy) })
			})
		},
	}
	form.add(cmd.Flags())
	to.add(cmd.Flags(), askTimeout)
	return cmd
}

func policyTable(t *table, p admin.Policy) {
	t.row("NAME", p.Name)
	t.row("ID", p.ID)
	t.row("KIND", p.Kind)
	t.row("SIZE", sizeText(p.Size))
	t.row("CREATED", dateText(p.CreatedMS))
	t.row("READY", yesNo(p.Ready))
	if p.Error != "" {
		t.row("ERROR", p.Error)
	}
	t.row("BOUND TO", bindingsText(p.Bindings))
	names := make([]string, 0, len(p.Counters))
	for name := range p.Counters {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.row(strings.ToUpper(name), strconv.FormatUint(p.Counters[name], 10))
	}
}

func policyRollbackCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	cmd := &cobra.Command{
		Use:   "rollback PREFIX",
		Short: "Bind a prefix to the policy that it had before",
		Args:  exactly("PREFIX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				done, err := client.RollbackPolicy(ctx, args[0])
				if err != nil {
					return fmt.Errorf("roll back %q: %w", args[0], err)
				}
				return form.print(sys, done, func(t *table) {
					name := done.Name
					if name == "" {
						name = "the default policy"
					}
					t.line("%s decides keys that begin with %q again, from epoch %d on", name, done.Prefix, done.Epoch)
				})
			})
		},
	}
	form.add(cmd.Flags())
	to.add(cmd.Flags(), askTimeout)
	return cmd
}

func sizeText(bytes int) string {
	if bytes == 0 {
		return "-"
	}
	return node.FormatSize(int64(bytes))
}

func dateText(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
