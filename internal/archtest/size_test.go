package archtest_test

import (
	"go/ast"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The sizes past which code is split by duty. They are for reading: what fits
// a screen and a sitting.
const (
	maxFunctionLines = 70
	maxFileLines     = 500
	maxTestFileLines = 800
	// Past so many parameters a call is read with a finger on the declaration:
	// take a struct. Past so many methods an interface has few implementers.
	maxParameters = 5
	maxMethods    = 5
)

func TestFilesAndFunctionsAreShort(t *testing.T) {
	t.Parallel()
	for _, src := range sources(t, 0) {
		if ast.IsGenerated(src.file) {
			continue
		}
		limit := maxFileLines
		if src.test {
			limit = maxTestFileLines
		}
		assert.LessOrEqual(t, src.lines, limit, "%s: lines", src.path)
		for _, decl := range src.file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || src.test { // a table of cases is as long as it is
				continue
			}
			assert.LessOrEqual(t, fn.Type.Params.NumFields(), maxParameters, "%s: parameters of %s", src.path, fn.Name.Name)
			lines := src.set.Position(fn.End()).Line - src.set.Position(fn.Pos()).Line + 1
			assert.LessOrEqual(t, lines, maxFunctionLines, "%s: lines of %s", src.path, fn.Name.Name)
		}
	}
}

// Every exported name says what it is.
func TestExportedNamesHaveComments(t *testing.T) {
	t.Parallel()
	for _, src := range sources(t, 0) {
		if src.test || ast.IsGenerated(src.file) || src.dir == "internal/archtest" {
			continue
		}
		for _, decl := range src.file.Decls {
			checkDocumented(t, src, decl)
		}
	}
}

func checkDocumented(t *testing.T, src source, decl ast.Decl) {
	t.Helper()
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && receiverExported(d) {
			assert.NotNil(t, d.Doc, "%s: %s has no comment", src.path, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			checkSpec(t, src, d, spec)
		}
	}
}

// checkSpec wants a comment above a name, beside it, or above its group.
func checkSpec(t *testing.T, src source, group *ast.GenDecl, spec ast.Spec) {
	t.Helper()
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() {
			assert.True(t, s.Doc != nil || group.Doc != nil, "%s: type %s has no comment", src.path, s.Name.Name)
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() {
				assert.True(t, s.Doc != nil || s.Comment != nil || group.Doc != nil, "%s: %s has no comment", src.path, name.Name)
			}
		}
	}
}

// receiverExported says whether a function can be reached from outside: it
// has no receiver or one of an exported type.
func receiverExported(fn *ast.FuncDecl) bool {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return true
	}
	typ := fn.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

func TestInterfacesAreSmall(t *testing.T) {
	t.Parallel()
	for _, src := range sources(t, 0) {
		if src.test {
			continue
		}
		ast.Inspect(src.file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if iface, ok := spec.Type.(*ast.InterfaceType); ok {
				assert.LessOrEqual(t, iface.Methods.NumFields(), maxMethods, "%s: methods of %s", src.path, spec.Name.Name)
			}
			return true
		})
	}
}

// A sleep hides what it waits for.
func TestTestsDoNotSleep(t *testing.T) {
	t.Parallel()
	for _, src := range sources(t, 0) {
		if !src.test {
			continue
		}
		ast.Inspect(src.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" && !inSynctest(src) {
					assert.Fail(t, "a test sleeps", "%s:%d", src.path, src.set.Position(sel.Pos()).Line)
				}
			}
			return true
		})
	}
}

// inSynctest says whether a test file runs in virtual time, where a sleep
// costs nothing and is exact.
func inSynctest(src source) bool {
	for _, spec := range src.file.Imports {
		if spec.Path.Value == `"testing/synctest"` {
			return true
		}
	}
	inside := false // of a bubble that a helper of the package opens
	ast.Inspect(src.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name, ok := call.Fun.(*ast.Ident)
		inside = inside || ok && name.Name == "inBubble"
		return true
	})
	return inside
}
