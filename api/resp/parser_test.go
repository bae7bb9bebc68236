package resp

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzParser feeds any bytes whole and cut in two. The parser must find the
// same commands, stay within its limits, and take no byte twice.
func FuzzParser(f *testing.F) {
	for _, seed := range []string{
		"*1\r\n$4\r\nPING\r\n", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n", "SET k \"a\\x00b\" 'c'\r\n", "*0\r\n*-1\r\n\r\n",
		"*1\r\n$-1\r\n", "*1025\r\n", "*1\r\n$1048577\r\n", "$4\r\nPING\r\n", "*1\r\n:1\r\n", "*2147483648\r\n", "\"", "*",
		"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$2\r\n\r\n\r\n",
	} {
		f.Add([]byte(seed), uint16(len(seed)/2), false)
		f.Add([]byte(seed), uint16(1), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, cut uint16, early bool) {
		whole, wholeErr := commands(t, early, data, len(data))
		pieces, piecesErr := commands(t, early, data, min(int(cut), len(data)))
		require.Equal(t, whole, pieces)
		require.Equal(t, wholeErr == nil, piecesErr == nil)
		if wholeErr != nil {
			require.Equal(t, wholeErr.Error(), piecesErr.Error())
		}
	})
}

// commands parses data[:cut], then data, as a connection would.
func commands(t *testing.T, early bool, data []byte, cut int) ([][]string, error) {
	p := parser{early: early}
	var found [][]string
	at := 0
	for _, end := range []int{cut, len(data)} {
		for at < end {
			n, err := p.next(data[at:end])
			if err != nil {
				var pe *protocolError
				require.True(t, errors.As(err, &pe))
				require.NotContains(t, err.Error(), "\n")
				return found, err
			}
			if n == 0 {
				break
			}
			require.LessOrEqual(t, n, end-at)
			require.LessOrEqual(t, len(p.args), maxArgs)
			var args []string
			for _, a := range p.args {
				require.LessOrEqual(t, len(a), maxBulkBytes)
				args = append(args, string(a))
			}
			found = append(found, args)
			at += n
		}
	}
	return found, nil
}

// FuzzGlob holds the matcher to one that tries everything.
func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{{"a*b?c", "axxbyc"}, {"[a-c]*", "b"}, {"[^a]", "a"}, {`\*`, "*"}, {"[", "x"}, {"**a", "ba"}, {`\`, `\`}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, key string) {
		if len(pattern) > 12 || len(key) > 12 {
			return
		}
		got := glob([]byte(pattern), []byte(key))
		require.Equal(t, globSlow([]byte(pattern), []byte(key)), got)
		if got {
			require.True(t, bytes.HasPrefix([]byte(key), literalPrefix([]byte(pattern))))
		}
	})
}

func globSlow(pattern, key []byte) bool {
	if len(pattern) == 0 {
		return len(key) == 0
	}
	if pattern[0] == '*' {
		return globSlow(pattern[1:], key) || len(key) > 0 && globSlow(pattern, key[1:])
	}
	if len(key) == 0 {
		return false
	}
	n, ok := matchOne(pattern, key[0])
	return ok && globSlow(pattern[n:], key[1:])
}

// TestGlobOfManyStarsIsFast would not end if every star were gone back to.
func TestGlobOfManyStarsIsFast(t *testing.T) {
	t.Parallel()
	require.False(t, glob([]byte(strings.Repeat("a*", 500)+"b"), bytes.Repeat([]byte("a"), 1024)))
}

func TestLiteralPrefix(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{"user:*": "user:", "a?b": "a", "[ab]": "", `a\*b*`: "a*b", `ab\`: "ab", "plain": "plain", "": ""} {
		require.Equal(t, want, string(literalPrefix([]byte(pattern))), pattern)
	}
}
