package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edged.dev/edged/node"
)

func configCommand(sys system) *cobra.Command {
	cmd := group(&cobra.Command{Use: "config", Short: "Show and check settings"})
	cmd.AddCommand(configPrintCommand(sys), configCheckCommand(sys))
	return cmd
}

// printedSetting is a line of `config print`.
type printedSetting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

func configPrintCommand(sys system) *cobra.Command {
	var form outputForm
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Show each setting, its value, and where that came from",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := load(cmd.Flags(), sys)
			if err != nil {
				return err
			}
			var rows []printedSetting
			for _, s := range node.Settings() {
				rows = append(rows, printedSetting{s.Key, s.Get(&settings.cfg), settings.source[s.Key]})
			}
			if err := form.print(sys, rows, func(t *table) {
				t.row("SETTING", "VALUE", "FROM")
				for _, r := range rows {
					t.row(r.Key, orDash(r.Value), r.Source)
				}
			}); err != nil {
				return err
			}
			return settings.cfg.Validate()
		},
	}
	addSettings(cmd.Flags())
	form.add(cmd.Flags())
	return cmd
}

func configCheckCommand(sys system) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Say whether a node would start with a file's settings",
		Args:  exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			flags := pflag.NewFlagSet("check", pflag.ContinueOnError)
			addSettings(flags)
			if err := flags.Set(configFlag, args[0]); err != nil {
				return err
			}
			// The file is judged by itself, whatever the environment says.
			settings, err := load(flags, system{})
			if err != nil {
				return err
			}
			if err := settings.cfg.Validate(); err != nil {
				return err
			}
			for _, warning := range settings.cfg.Warnings() {
				sys.talk("warning: %s", warning)
			}
			sys.talk("%s: ok", args[0])
			return nil
		},
	}
}
