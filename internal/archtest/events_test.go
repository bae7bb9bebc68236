package archtest_test

import (
	"go/ast"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What an event's documentation names is what is emitted, and all of it.
func TestEventKindsAreDocumented(t *testing.T) {
	t.Parallel()
	var emitted, documented []string
	for _, src := range sources(t, 0) {
		switch {
		case src.test:
		case slices.Contains([]string{"node", "replica", "replica/core"}, src.dir):
			ast.Inspect(src.file, func(n ast.Node) bool {
				emitted = append(emitted, kindsIn(n)...)
				return true
			})
		case src.path == "api/admin/types.go":
			documented = kindsOfDoc(src.file)
		}
	}
	slices.Sort(emitted)
	require.Equal(t, slices.Compact(emitted), documented)
	require.Greater(t, len(documented), 10)
}

// kindsIn returns the kinds of events that a node of the tree makes: in a literal of an
// event or note, or in a variable of that name.
func kindsIn(n ast.Node) (kinds []string) {
	add := func(name string, e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && strings.EqualFold(name, "kind") {
			kind, err := strconv.Unquote(lit.Value)
			if err == nil {
				kinds = append(kinds, kind)
			}
		}
	}
	switch n := n.(type) {
	case *ast.CompositeLit:
		if !slices.Contains([]string{"Note", "Event"}, typeName(n.Type)) {
			return nil
		}
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				add(typeName(kv.Key), kv.Value)
			}
		}
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			if i < len(n.Rhs) {
				add(typeName(to), n.Rhs[i])
			}
		}
	}
	return kinds
}

// typeName is the last name of a plain or qualified identifier.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// kindsOfDoc reads the sorted list that stands above Event.Kind, what is said of one in
// brackets left out.
func kindsOfDoc(file *ast.File) (kinds []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Event" {
			return true
		}
		for _, f := range spec.Type.(*ast.StructType).Fields.List {
			if f.Names[0].Name != "Kind" {
				continue
			}
			_, list, _ := strings.Cut(strings.ReplaceAll(f.Doc.Text(), "\n", " "), ": ")
			list = regexp.MustCompile(`\([^)]*\)|[ .]*$`).ReplaceAllString(list, "")
			for kind := range strings.SplitSeq(list, ",") {
				kinds = append(kinds, strings.TrimSpace(kind))
			}
		}
		return false
	})
	slices.Sort(kinds)
	return kinds
}
