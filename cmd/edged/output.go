package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"
)

// outputForm is the -o flag.
type outputForm struct{ name string }

func (f *outputForm) add(flags *pflag.FlagSet) {
	flags.StringVarP(&f.name, "output", "o", "table", "form of the answer: table or json")
}

// print writes value as JSON, or as the table that fill fills.
func (f *outputForm) print(sys system, value any, fill func(*table)) error {
	switch f.name {
	case "json":
		enc := json.NewEncoder(sys.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(value); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
		return nil
	case "table":
		t := table{colour: colours(sys)}
		fill(&t)
		if _, err := io.WriteString(sys.out, t.String()); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
		return nil
	}
	return fmt.Errorf("%w: -o %s: want table or json", errUsage, f.name)
}

// colours says whether the answer goes to a terminal of someone who has not
// asked for none (no-color.org).
func colours(sys system) bool {
	if sys.env("NO_COLOR") != "" {
		return false
	}
	file, ok := sys.out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// table is text in columns. A blank line or a line of prose ends one set of
// columns and begins the next.
type table struct {
	colour bool
	done   strings.Builder
	rows   [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// line adds a line of prose.
func (t *table) line(format string, args ...any) {
	t.flush()
	fmt.Fprintf(&t.done, format+"\n", args...)
}

// flush writes the columns so far, each as wide as its widest cell.
func (t *table) flush() {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		for i, cell := range row {
			t.done.WriteString(t.paint(cell))
			if i < len(row)-1 {
				t.done.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		t.done.WriteByte('\n')
	}
	t.rows = nil
}

// paint colours the words of a state: the rest stays as it is.
func (t *table) paint(cell string) string {
	const green, yellow, red, plain = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
	if !t.colour {
		return cell
	}
	switch cell {
	case "ready", "live":
		return green + cell + plain
	case "catching_up", "isolated", "degraded", "draining", "starting":
		return yellow + cell + plain
	case "down", "not_ready", "cold", "CONFLICT":
		return red + cell + plain
	}
	return cell
}

// String returns the whole text.
func (t *table) String() string {
	t.flush()
	return t.done.String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
