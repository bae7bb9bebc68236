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
	"github.com/spf13/pflag"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
)

// maxModuleBytes is the limit of a policy's module; the server has its own.
const maxModuleBytes = 4 << 20

func policyCommand(sys system) *cobra.Command {
	cmd := group(&cobra.Command{Use: "policy", Short: "Deploy and show policies"})
	cmd.AddCommand(policyDeployCommand(sys), policyListCommand(sys), policyShowCommand(sys), policyRollbackCommand(sys), policyDeleteCommand(sys))
	return cmd
}

// kindFlag is the --kind of a policy.
type kindFlag struct{ name string }

func (k *kindFlag) add(flags *pflag.FlagSet) {
	flags.StringVar(&k.name, "kind", kindMerge, "what the policy decides: merge (what a read shows of siblings) or repair (what is fetched first)")
}

const kindMerge = "merge"

// repair reports whether the policy plans repair.
func (k *kindFlag) repair() (bool, error) {
	if k.name != kindMerge && k.name != admin.KindRepair {
		return false, fmt.Errorf("%w: --kind %s: want %s or %s", errUsage, k.name, kindMerge, admin.KindRepair)
	}
	return k.name == admin.KindRepair, nil
}

// deployment is what the command line says of a policy to deploy.
type deployment struct {
	file, name, prefix string
	bound              bool // --bind is there
	kind               kindFlag
}

// module reads the module, nil for a built-in policy, and settles the name.
func (d *deployment) module() (wasm []byte, repair bool, err error) {
	if repair, err = d.kind.repair(); err != nil {
		return nil, false, err
	}
	builtin := admin.Builtin(d.file)
	switch {
	case repair && d.bound:
		return nil, false, fmt.Errorf("%w: --bind: a repair policy is of the whole cluster", errUsage)
	case repair:
		builtin = d.file == admin.BuiltinPlan
	case !d.bound:
		return nil, false, fmt.Errorf("%w: --bind PREFIX is missing; --bind \"\" binds every key", errUsage)
	}
	switch {
	case !builtin:
		if wasm, err = readModule(d.file); err != nil {
			return nil, false, err
		}
	case d.name != "":
		return nil, false, fmt.Errorf("%w: --name %s: a built-in policy keeps its name", errUsage, d.name)
	default:
		d.name = d.file
	}
	if d.name == "" {
		d.name = strings.TrimSuffix(filepath.Base(d.file), filepath.Ext(d.file))
	}
	return wasm, repair, nil
}

func policyDeployCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	var d deployment
	cmd := &cobra.Command{
		Use:   "deploy FILE|lww|siblings --bind PREFIX, or FILE|built-in --kind repair",
		Short: "Upload a WebAssembly module, or take a built-in policy, and put it in force",
		Args:  exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.file, d.bound = args[0], cmd.Flags().Changed("bind")
			wasm, repair, err := d.module()
			if err != nil {
				return err
			}
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				deploy := func() (admin.Deployed, error) { return client.DeployPolicy(ctx, wasm, d.name, d.prefix) }
				decides := fmt.Sprintf("decides keys that begin with %q", d.prefix)
				if repair {
					deploy = func() (admin.Deployed, error) { return client.DeployRepair(ctx, wasm, d.name) }
					decides = "plans repair"
				}
				done, err := deploy()
				if err != nil {
					return fmt.Errorf("deploy %s: %w", d.name, err)
				}
				return form.print(sys, done, func(t *table) {
					t.line("%s (%s) %s from epoch %d on; written to %s copies", done.Name, short(done.ID), decides, done.Epoch, done.Copies)
				})
			})
		},
	}
	cmd.Flags().StringVar(&d.prefix, "bind", "", "prefix of the keys that the policy decides")
	cmd.Flags().StringVar(&d.name, "name", "", "name of the policy (default: the file's)")
	d.kind.add(cmd.Flags())
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
		t.row(p.Name, short(p.ID), p.Kind, sizeText(p.Size), dateText(p.CreatedMS), yesNo(p.Ready), bindingsText(p))
	}
}

func bindingsText(p admin.Policy) string {
	var parts []string
	for _, b := range p.Bindings {
		text := fmt.Sprintf("%q@%d", b.Prefix, b.Epoch)
		if p.Kind == admin.KindRepair {
			text = fmt.Sprintf("repair@%d", b.Epoch)
		}
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
	t.row("BOUND TO", bindingsText(p))
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
	var kind kindFlag
	cmd := &cobra.Command{
		Use:   "rollback PREFIX, or --kind repair",
		Short: "Put the policy before the present one in force again",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			repair, err := kind.repair()
			if err != nil {
				return err
			}
			want := exactly("PREFIX")
			if repair {
				want = exactly()
			}
			if err := want(cmd, args); err != nil {
				return err
			}
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				if repair {
					return rollbackRepair(ctx, sys, client, &form)
				}
				return rollbackMerge(ctx, sys, client, &form, args[0])
			})
		},
	}
	kind.add(cmd.Flags())
	form.add(cmd.Flags())
	to.add(cmd.Flags(), askTimeout)
	return cmd
}

func policyDeleteCommand(sys system) *cobra.Command {
	var form outputForm
	var to target
	cmd := &cobra.Command{
		Use:   "delete NAME|ID",
		Short: "Delete a policy that is bound to nothing, with its module",
		Args:  exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return to.call(cmd, sys, func(ctx context.Context, client *admin.Client) error {
				done, err := client.DeletePolicy(ctx, args[0])
				if err != nil {
					return fmt.Errorf("delete policy %s: %w", args[0], err)
				}
				return form.print(sys, done, func(t *table) { t.line("%s (%s) is deleted", done.Name, short(done.ID)) })
			})
		},
	}
	form.add(cmd.Flags())
	to.add(cmd.Flags(), deployTimeout)
	return cmd
}

func rollbackMerge(ctx context.Context, sys system, client *admin.Client, form *outputForm, prefix string) error {
	done, err := client.RollbackPolicy(ctx, prefix)
	if err != nil {
		return fmt.Errorf("roll back %q: %w", prefix, err)
	}
	return form.print(sys, done, func(t *table) {
		name := done.Name
		if name == "" {
			name = "the default policy"
		}
		t.line("%s decides keys that begin with %q again, from epoch %d on", name, done.Prefix, done.Epoch)
	})
}

func rollbackRepair(ctx context.Context, sys system, client *admin.Client, form *outputForm) error {
	done, err := client.RollbackRepair(ctx)
	if err != nil {
		return fmt.Errorf("roll back the repair policy: %w", err)
	}
	return form.print(sys, done, func(t *table) {
		name := done.Name
		if name == "" {
			name = "the built-in plan"
		}
		t.line("%s plans repair again, from epoch %d on", name, done.Epoch)
	})
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
