package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// stage shows a story as it is played: a heading a step with the time it took,
// and below it what was found.
type stage struct {
	w      io.Writer
	paint  painter
	began  time.Time
	failed int // checks that did not hold

	mark, title string
	stepAt      time.Time
	lines       []string
	steps       []stageStep
}

// stageStep is a step as the summary shows it.
type stageStep struct {
	mark, title, figure string
	took                time.Duration
	failed              int
}

const (
	stageWidth = 66 // of a step's title
	noteIndent = "      "
)

func newStage(w io.Writer, p painter) *stage {
	now := time.Now()
	return &stage{w: w, paint: p, began: now, stepAt: now}
}

func (s *stage) print(format string, args ...any) {
	fmt.Fprintf(s.w, format+"\n", args...)
}

func (s *stage) headline(text string) {
	s.print("\n%s\n", s.paint.bold(text))
}

// begin starts a step.
func (s *stage) begin(mark, title string) {
	s.finish("")
	s.mark, s.title, s.stepAt = mark, title, time.Now()
	s.steps = append(s.steps, stageStep{mark: mark, title: title})
}

// finish ends the step: its heading with the time it took, then what was
// noted. figure goes into the summary.
func (s *stage) finish(figure string) { s.finishAfter(time.Since(s.stepAt), figure) }

// finishAfter is finish for a step whose time was taken elsewhere.
func (s *stage) finishAfter(took time.Duration, figure string) {
	if s.title == "" {
		return
	}
	last := &s.steps[len(s.steps)-1]
	last.took, last.figure = took, figure
	pad := strings.Repeat(" ", max(1, stageWidth-len([]rune(s.title))))
	s.print("%s  %s%s%s", s.paint.cyan(fmt.Sprintf("%3s", s.mark)), s.paint.bold(s.title), pad, s.paint.dim(tookText(last.took)))
	for _, line := range s.lines {
		s.print("%s%s", noteIndent, line)
	}
	s.title, s.lines = "", nil
}

// abort shows what was found before an error.
func (s *stage) abort() { s.finish("") }

func (s *stage) note(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// check notes whether something holds, and counts it where it does not.
func (s *stage) check(ok bool, format string, args ...any) {
	mark := s.paint.green("✓")
	if !ok {
		mark = s.paint.red("✗")
		s.failed++
		s.steps[len(s.steps)-1].failed++
	}
	s.note("%s %s", mark, fmt.Sprintf(format, args...))
}

// summary shows all steps once more, a line each, and the verdict.
func (s *stage) summary() {
	s.finish("")
	s.print("\n%s", s.paint.bold("In short"))
	for _, step := range s.steps {
		mark := s.paint.green("✓")
		if step.failed > 0 {
			mark = s.paint.red("✗")
		}
		s.print("  %s %3s  %-*s %s  %s", mark, step.mark, stageWidth-2, step.title, tookText(step.took), step.figure)
	}
	verdict := s.paint.green("All of it held.")
	if s.failed > 0 {
		verdict = s.paint.red(fmt.Sprintf("%d checks did not hold.", s.failed))
	}
	s.print("\n%s %s\n", s.paint.bold(verdict), s.paint.dim("Told in "+strings.TrimSpace(tookText(time.Since(s.began)))+"."))
}

// tookText is a duration, aligned to the right.
func tookText(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%7.1f ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%7.1f s ", d.Seconds())
}

// bytesText is a number of bytes for people.
func bytesText(n uint64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
