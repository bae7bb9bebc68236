package resp_test

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/resp"
)

// TestRepliesAreThoseOfRedis plays testdata/*.txt: "> COMMAND" and "< reply",
// each reply as a Redis server gave it.
func TestRepliesAreThoseOfRedis(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.Len(t, files, 4)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			var change []func(*resp.Config)
			if filepath.Base(file) == "auth.txt" {
				change = append(change, protected)
			}
			f := start(t, change...)
			c := f.dial()
			for n, line := range strings.Split(string(raw), "\n") {
				where := file + ":" + strconv.Itoa(n+1)
				switch {
				case strings.HasPrefix(line, "> "):
					c.send(command(words(t, line[2:])...))
				case strings.HasPrefix(line, "< "):
					want, err := strconv.Unquote(line[2:])
					require.NoError(t, err, where)
					got := make([]byte, len(want))
					n, err := io.ReadFull(c.r, got) // a shorter reply ends by the client's deadline
					require.NoError(t, err, "%s: got %q", where, got[:n])
					require.Equal(t, want, string(got), where)
					require.Zero(t, c.r.Buffered(), where)
				}
			}
		})
	}
}

// words splits a line at spaces; a word may be a quoted string.
func words(t *testing.T, line string) []string {
	t.Helper()
	var out []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeftFunc(line, unicode.IsSpace) {
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			require.NoError(t, err)
			word, err := strconv.Unquote(quoted)
			require.NoError(t, err)
			out, line = append(out, word), line[len(quoted):]
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		out, line = append(out, word), rest
	}
	return out
}
