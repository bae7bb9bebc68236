package main

import (
	"runtime"

	"github.com/spf13/cobra"
)

// version is this source's, until a release names another.
const version = "0.1.0-dev"

func versionCommand(sys system) *cobra.Command {
	var form outputForm
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return form.print(sys, v, func(t *table) { t.line("edged %s, %s, %s", v.Version, v.Go, v.Platform) })
		},
	}
	form.add(cmd.Flags())
	return cmd
}
