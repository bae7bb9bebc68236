package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDeployedSettingsAreGood(t *testing.T) {
	t.Parallel()
	code, _, talk := at(t, nil, "config", "check", "../../deploy/edged.yaml")
	require.Zero(t, code, talk)
	require.Equal(t, "../../deploy/edged.yaml: ok\n", talk, "and warn of nothing")
}

// The unit's command line is one that this command takes.
func TestUnitStartsWhatThereIs(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("../../deploy/edged.service")
	require.NoError(t, err)
	_, line, ok := strings.Cut(string(unit), "\nExecStart=/usr/local/bin/edged serve ")
	require.True(t, ok)
	line, _, _ = strings.Cut(line, "\n")
	args := strings.Fields(strings.ReplaceAll(line, "/etc/edged/edged.yaml", "../../deploy/edged.yaml"))
	code, out, talk := at(t, nil, append([]string{"config", "print"}, args...)...)
	require.Zero(t, code, talk)
	require.Regexp(t, `(?m)^data-dir +/var/lib/edged +--data-dir$`, out)
	require.Regexp(t, `(?m)^tls.dir +/etc/edged/tls +../../deploy/edged.yaml$`, out)
}
