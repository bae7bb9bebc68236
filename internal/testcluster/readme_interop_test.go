//go:build interop

package testcluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The README's sections for one machine are true, word for word.
func TestInteropReadme(t *testing.T) {
	l := newLab(t, map[string]string{"me": "10.0.0.41"})
	me := l.hosts["me"]
	require.NoError(t, os.Symlink(filepath.Join(l.root, "wasm-examples"), filepath.Join(me.dir, "wasm-examples")))

	printed := walk(t, l, "One node")
	require.Equal(t, "hello\n", printed["redis-cli -p 7379 get greeting"])
	require.Regexp(t, `(?s)200 OK.*X-Edged-Token: \S+.*\r\n\r\nhello$`, printed["curl -i http://127.0.0.1:7380/v1/kv/greeting"])
	require.Regexp(t, `local \(this\) +ready`, printed["edged status"])

	printed = walk(t, l, "Writing and deploying a merge policy")
	require.Contains(t, printed["edged policy list"], `"tags/"@1`)
	require.Contains(t, printed["edged policy show union"], "3215B")
	require.Contains(t, printed["edged policy rollback tags/"], `the default policy decides keys that begin with "tags/" again`)
	require.Equal(t, "green", printed["curl -s http://127.0.0.1:7380/v1/kv/tags/sky"], "the newest, now that no policy is bound")
	found := false
	for script, out := range printed {
		if len(script) > 200 { // the conflict
			found = true
			require.Regexp(t, `^blue\ngreen\{"token":"[^"]+","siblings":\[\{"value_base64":"Z3JlZW4=".*"value_base64":"Ymx1ZQ=="`, out)
		}
	}
	require.True(t, found)

	printed = walk(t, l, "How a node comes back")
	require.Contains(t, printed["edged policy deploy wasm-examples/hot-first-c/hotfirst.wasm --kind repair"], "plans repair from epoch 3 on")
	require.Regexp(t, `(?m)^POLICY +hotfirst `, printed["edged repair plan --explain"])
	require.Contains(t, printed["edged policy rollback --kind repair"], "the built-in plan plans repair again, from epoch 4 on")
	me.stop()

	printed = walk(t, l, "Measuring it")
	for command, out := range printed {
		if strings.HasPrefix(command, "go run ./loadtest soak") {
			require.Regexp(t, `(?m)breaches +0$`, out)
			continue
		}
		require.Regexp(t, `(?m)lost +0$`, out)
		require.Regexp(t, `roots equal +yes`, out)
	}
}
