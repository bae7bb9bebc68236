package archtest_test

import (
	"go/parser"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "edged.dev/edged/"

// rules is the whole import policy: each line names a package and, after the
// colon, all the project packages it may import. A line names only packages
// from the lines above it, so no cycle can be written down. It is not to be
// changed to make a build pass.
const rules = `
internal/kv:
internal/layout:
internal/fault:
internal/repair:
internal/simnet:
merkle:
runtime:
transport/wire: internal/kv merkle
cache: internal/kv internal/fault
partition/state: internal/kv merkle
cluster: internal/kv internal/layout
policies: internal/kv internal/repair runtime
partition: internal/kv internal/layout merkle cache internal/fault partition/state
replica/core: internal/kv internal/layout merkle transport/wire partition/state
replica: internal/kv internal/layout internal/repair merkle partition partition/state transport/wire replica/core internal/fault
transport: internal/kv transport/wire internal/fault
api: internal/kv
api/admin: internal/kv
api/resp: internal/kv api
api/httpapi: internal/kv api api/admin
api/console: internal/kv api
node: internal/kv internal/layout internal/fault internal/repair merkle runtime transport/wire cache cluster policies partition partition/state replica replica/core transport api api/admin api/resp api/httpapi api/console
cmd/edged: internal/kv policies transport node api/admin
internal/testcluster: internal/kv api/admin
internal/sim: internal/kv internal/layout merkle cache partition partition/state policies transport/wire replica/core replica
loadtest: internal/kv transport/wire api/admin internal/testcluster
examples/*: node
`

// table reads rules: a package to what it may import.
func table(t *testing.T) map[string][]string {
	t.Helper()
	allowed := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(rules)) {
		pkg, may, ok := strings.Cut(strings.TrimSpace(line), ":")
		require.True(t, ok, "no colon in %q", line)
		require.NotContains(t, allowed, pkg, "two rules for %s", pkg)
		for _, m := range strings.Fields(may) {
			require.Contains(t, allowed, m, "the rule for %s names %s, which has no line above it", pkg, m)
		}
		allowed[pkg] = strings.Fields(may)
	}
	return allowed
}

// mayImport returns what a directory's package may import, and whether the
// table speaks of it at all. A package such as cache/storetest has the
// conformance test of an interface: it may import what its parent may, and its
// parent, and as no line names it, only test files import it.
func mayImport(allowed map[string][]string, dir string) (may []string, held, known bool) {
	first, _, _ := strings.Cut(dir, "/")
	if dir == "internal/archtest" || first == "wasm-examples" {
		return nil, false, true
	}
	if first == "examples" {
		dir = "examples/*"
	}
	if may, known = allowed[dir]; known {
		return may, true, true
	}
	parent := path.Dir(dir)
	if may, known = allowed[parent]; known && strings.HasSuffix(dir, "test") {
		return append(slices.Clone(may), parent), true, true
	}
	return nil, true, false
}

func TestImportsKeepTheTable(t *testing.T) {
	t.Parallel()
	allowed := table(t)
	for _, src := range sources(t, parser.ImportsOnly) {
		may, held, known := mayImport(allowed, src.dir)
		if src.test || !held {
			continue
		}
		if !assert.True(t, known, "%s has no rule: give it a place in the picture", src.dir) {
			continue
		}
		for _, to := range projectImports(t, src) {
			assert.True(t, slices.Contains(may, to), "%s: %s must not import %s", src.path, src.dir, to)
		}
	}
}

func TestTableSpeaksOfTestPackages(t *testing.T) {
	t.Parallel()
	allowed := map[string][]string{"a": {"b"}, "examples/*": {"node"}}
	for dir, want := range map[string]struct {
		may         []string
		held, known bool
	}{
		"a":                   {[]string{"b"}, true, true},
		"a/stest":             {[]string{"b", "a"}, true, true},
		"a/s":                 {nil, true, false},
		"c":                   {nil, true, false},
		"examples/hooks":      {[]string{"node"}, true, true},
		"wasm-examples/union": {nil, false, true},
	} {
		may, held, known := mayImport(allowed, dir)
		require.Equal(t, want.may, may, dir)
		require.Equal(t, want.held, held, dir)
		require.Equal(t, want.known, known, dir)
	}
}

func TestRuntimeIsImportedAsWasmrt(t *testing.T) {
	t.Parallel()
	for _, src := range sources(t, parser.ImportsOnly) {
		for _, spec := range src.file.Imports {
			if spec.Path.Value == strconv.Quote(module+"runtime") {
				assert.True(t, spec.Name != nil && spec.Name.Name == "wasmrt",
					"%s: import %s as wasmrt, so that a bare runtime is always Go's own", src.path, spec.Path.Value)
			}
		}
	}
}

// soleImporters names the outside modules that one package alone may know, so
// that they can be replaced in one place.
func soleImporters() map[string]string {
	return map[string]string{
		"github.com/hashicorp/memberlist": "cluster",
		"github.com/tetratelabs/wazero":   "runtime",
		"github.com/cockroachdb/pebble":   "cache",
		"github.com/knadh/koanf":          "cmd/edged",
	}
}

func TestOutsideModulesHaveOneImporter(t *testing.T) {
	t.Parallel()
	for _, src := range sources(t, parser.ImportsOnly) {
		if src.test {
			continue
		}
		for _, spec := range src.file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			for prefix, only := range soleImporters() {
				if strings.HasPrefix(imported, prefix) {
					assert.Equal(t, only, src.dir, "%s imports %s", src.path, imported)
				}
			}
		}
	}
}

func projectImports(t *testing.T, src source) []string {
	t.Helper()
	var out []string
	for _, spec := range src.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		if to, ok := strings.CutPrefix(imported, module); ok {
			out = append(out, to)
		}
	}
	return out
}

// The table in the architecture text is what people read, this file's is what
// holds: they are one text.
func TestArchitectureShowsTheTable(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join(root, "docs", "ARCHITECTURE.md"))
	require.NoError(t, err)
	_, after, ok := strings.Cut(string(doc), "```imports\n")
	require.True(t, ok, "no block that begins with ```imports")
	shown, _, ok := strings.Cut(after, "```")
	require.True(t, ok)
	require.Equal(t, strings.TrimSpace(rules), strings.TrimSpace(shown))
}
