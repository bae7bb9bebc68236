package resp_test

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A page in a browser must not be able to run commands by way of a request.
func TestHTTPRequestsRunNothing(t *testing.T) {
	t.Parallel()
	const refused = "-ERR Protocol error: this is a Redis port, and this is HTTP\r\n"
	for name, in := range map[string]string{
		"POST": "POST / HTTP/1.1\r\nHost: 127.0.0.1:7379\r\n\r\nSET k stolen\r\n",
		"Host": "GET / HTTP/1.1\r\nhost: 127.0.0.1:7379\r\n\r\nSET k stolen\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			owner := f.dial()
			owner.do("+OK\r\n", "SET", "k", "mine")
			page := f.dial()
			page.send(in)
			got, err := io.ReadAll(page.r)
			require.NoError(t, err)
			require.True(t, strings.HasSuffix(string(got), refused), string(got))
			require.EqualValues(t, 1, f.server.Stats().Rejected["cross-protocol"])
			owner.do(bulk("mine"), "GET", "k")
		})
	}
}
