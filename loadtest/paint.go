package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// painter colours text, or does not (no-color.org).
type painter struct{ colour bool }

func (p painter) paint(code, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p painter) bold(s string) string  { return p.paint("1", s) }
func (p painter) dim(s string) string   { return p.paint("2", s) }
func (p painter) red(s string) string   { return p.paint("31", s) }
func (p painter) green(s string) string { return p.paint("32", s) }
func (p painter) cyan(s string) string  { return p.paint("36", s) }

// count is green where there is none of something bad.
func (p painter) count(n int) string {
	if n == 0 {
		return p.green("0")
	}
	return p.red(strconv.Itoa(n))
}

func (p painter) yes(ok bool) string {
	if ok {
		return p.green("yes")
	}
	return p.red("no")
}

// terminal reports whether a stream goes to a terminal.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

const (
	barWidth = 28
	// barEvery bounds how often the bar is drawn.
	barEvery = 50 * time.Millisecond
)

// progress tells what a run is at: as a bar on a terminal, else as one line a
// stage. It is safe for concurrent use.
type progress struct {
	w     io.Writer
	bar   bool
	paint painter

	mu          sync.Mutex
	stage       string
	done, total int
	drawn       time.Time
}

// begin starts a stage of so many steps; 0 is a stage that cannot be counted.
func (p *progress) begin(stage string, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finishLocked()
	p.stage, p.done, p.total = stage, 0, total
	if p.bar {
		p.drawLocked()
	} else {
		fmt.Fprintln(p.w, stage)
	}
}

// step adds n steps to the stage.
func (p *progress) step(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.bar && time.Since(p.drawn) >= barEvery {
		p.drawLocked()
	}
}

// end finishes the last stage.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finishLocked()
}

func (p *progress) finishLocked() {
	if p.stage != "" && p.bar {
		p.done = p.total
		p.drawLocked()
		fmt.Fprintln(p.w)
	}
	p.stage = ""
}

func (p *progress) drawLocked() {
	p.drawn = time.Now()
	fmt.Fprintf(p.w, "\r\x1b[K%s", p.line())
}

// line is the bar as it stands.
func (p *progress) line() string {
	if p.total == 0 {
		return p.stage
	}
	full := barWidth * min(p.done, p.total) / p.total
	return fmt.Sprintf("%-34s %s%s %3d %%", p.stage, p.paint.cyan(strings.Repeat("█", full)), p.paint.dim(strings.Repeat("░", barWidth-full)), 100*min(p.done, p.total)/p.total)
}
