package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheProgramRemembersItsStarts(t *testing.T) {
	t.Parallel()
	enough := make(chan struct{})
	close(enough)
	dir := t.TempDir()
	for _, want := range []string{"starts so far: |\n", "starts so far: ||\n"} {
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), dir, &out, enough))
		require.Contains(t, out.String(), want)
		require.Contains(t, out.String(), "redis-cli -p ")
	}
}
