package archtest_test

import (
	"bufio"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// texts calls fn for each line of each text file of the project with one of
// the extensions.
func texts(t *testing.T, extensions []string, fn func(file string, number int, line string)) {
	t.Helper()
	walk(t, func(file string) {
		for _, ext := range extensions {
			if strings.HasSuffix(file, ext) {
				eachLine(t, file, fn)
			}
		}
	})
}

func eachLine(t *testing.T, file string, fn func(file string, number int, line string)) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	require.NoError(t, err)
	scan := bufio.NewScanner(strings.NewReader(string(text)))
	scan.Buffer(nil, len(text)+1)
	for number := 1; scan.Scan(); number++ {
		fn(file, number, scan.Text())
	}
	require.NoError(t, scan.Err())
}

// A link in a document leads to a file of the project, or out to the web.
func TestLinksInDocumentsLead(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	texts(t, []string{".md"}, func(file string, number int, line string) {
		for _, match := range link.FindAllStringSubmatch(line, -1) {
			to, _, _ := strings.Cut(match[1], "#")
			if to == "" || strings.Contains(to, "://") {
				continue
			}
			to = path.Join(path.Dir(file), to)
			_, err := os.Stat(filepath.Join(root, to))
			assert.NoError(t, err, "%s:%d links to %s", file, number, match[1])
			assert.False(t, strings.HasPrefix(to, ".."), "%s:%d leads out of the project", file, number)
		}
	})
}

// What is still to do carries the number of the issue that says so.
func TestTodosCarryAnIssue(t *testing.T) {
	t.Parallel()
	word := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	numbered := regexp.MustCompile(`\bTO` + `DO\(#\d+\)`)
	texts(t, []string{".go", ".md", "Makefile", ".sh", ".ci/run", ".yml"}, func(file string, number int, line string) {
		if word.MatchString(line) {
			assert.Regexp(t, numbered, line, "%s:%d", file, number)
		}
	})
}

// The project stands on its own: no text names a folder of somebody's machine.
func TestNoTextNamesSomebodysMachine(t *testing.T) {
	t.Parallel()
	home := regexp.MustCompile(`(^|[\s"'=(` + "`" + `])/(home|root|Users|work)/`)
	texts(t, []string{".go", ".md", "Makefile", ".sh", ".ci/run", ".yml", ".txtar", ".service"}, func(file string, number int, line string) {
		assert.NotRegexp(t, home, line, "%s:%d", file, number)
	})
}

// readmeRuns says which test or step runs a command of the README: its lines
// are COMMAND => NAME, where a NAME is a test's or a heading of the check.
const readmeRuns = "internal/archtest/testdata/readme.txt"

// Every command that the README shows is run by a test or by the check. Until
// there is a README there is nothing to hold.
func TestReadmeCommandsAreRun(t *testing.T) {
	t.Parallel()
	runs := map[string]string{}
	eachLine(t, readmeRuns, func(file string, number int, line string) {
		if line == "" || strings.HasPrefix(line, "#") {
			return
		}
		command, name, ok := strings.Cut(line, " => ")
		require.True(t, ok, "%s:%d", file, number)
		runs[strings.TrimSpace(command)] = strings.TrimSpace(name)
	})
	for command, name := range runs {
		assert.True(t, exists(t, name), "%s says that %q is run by %s, which is nowhere", readmeRuns, command, name)
	}
	if _, err := os.Stat(filepath.Join(root, "README.md")); os.IsNotExist(err) {
		return
	}
	for _, command := range commands(t, "README.md") {
		assert.Contains(t, runs, command, "no test runs this command of the README; see %s", readmeRuns)
	}
}

// commands returns the lines of a document's sh blocks, without comments.
func commands(t *testing.T, file string) []string {
	t.Helper()
	var out []string
	inside := false
	eachLine(t, file, func(_ string, _ int, line string) {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh"
		case inside:
			line, _, _ = strings.Cut(line, " #")
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				out = append(out, line)
			}
		}
	})
	return out
}

// exists says whether a test of that name, or a heading of the check, is there.
func exists(t *testing.T, name string) bool {
	t.Helper()
	found := false
	test := "func " + name + "(t *testing.T)"
	texts(t, []string{"_test.go", ".ci/run"}, func(file string, _ int, line string) {
		found = found || strings.HasPrefix(line, test) || file == ".ci/run" && strings.Contains(line, "step \""+name+"\"")
	})
	return found
}
