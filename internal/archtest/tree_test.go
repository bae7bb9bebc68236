package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the module's root, as seen from this package's directory.
const root = "../.."

// source is one parsed Go file of the project.
type source struct {
	path  string // from the root, with slashes
	dir   string
	lines int
	test  bool // a _test.go file
	set   *token.FileSet
	file  *ast.File
}

// walk calls fn for each file of the project's own source, with its path from
// the root. Test data and what tools put beside the source are left out.
func walk(t *testing.T, fn func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDir(rel, d.Name())
		}
		fn(filepath.ToSlash(rel))
		return nil
	})
	require.NoError(t, err)
}

func skipDir(rel, name string) error {
	switch {
	case rel == ".", rel == ".ci":
		return nil
	case strings.HasPrefix(name, "."), name == "testdata", name == "node_modules", rel == "bin":
		return fs.SkipDir
	}
	return nil
}

// sources parses every Go file of the project. The files are read here, not
// by a child process: the test cache follows what this process opens, and
// would miss an import that was added behind a child's back.
func sources(t *testing.T, mode parser.Mode) []source {
	t.Helper()
	var out []source
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		require.NoError(t, err)
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, text, mode|parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		out = append(out, source{
			path:  path,
			dir:   filepath.ToSlash(filepath.Dir(path)),
			lines: strings.Count(string(text), "\n"),
			test:  strings.HasSuffix(path, "_test.go"),
			set:   set,
			file:  file,
		})
	})
	require.NotEmpty(t, out, "no Go files below %s", root)
	return out
}
