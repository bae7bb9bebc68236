package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStageCountsWhatDidNotHold(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newStage(&out, painter{})
	s.headline("a story")
	s.begin("T0", "the first step")
	s.check(true, "%d of %d", 3, 3)
	s.finishAfter(1500*time.Microsecond, "3 keys")
	s.begin("T1", "the second step")
	s.note("a note")
	s.check(false, "2 of 3")
	s.begin("T2", "the third step")
	s.summary()
	require.Equal(t, 1, s.failed)
	text := out.String()
	require.Contains(t, text, " T0  the first step")
	require.Contains(t, text, "✓ 3 of 3\n")
	require.Contains(t, text, "✗ 2 of 3\n")
	require.Contains(t, text, "1 checks did not hold.")
	require.NotContains(t, text, "All of it held.")
	require.NotContains(t, text, "\x1b")
	_, short, _ := strings.Cut(text, "In short\n")
	lines := strings.Split(short, "\n")
	require.True(t, strings.HasPrefix(lines[0], "  ✓  T0  the first step"), lines[0])
	require.True(t, strings.HasSuffix(lines[0], "    1.5 ms  3 keys"), lines[0])
	require.True(t, strings.HasPrefix(lines[1], "  ✗  T1"), lines[1])
	require.True(t, strings.HasPrefix(lines[2], "  ✓  T2"), lines[2])
	require.Equal(t, strings.Index(lines[0], " ms"), strings.Index(lines[2], " ms"), "aligned")
}

func TestStageShowsWhatWasFoundBeforeAnError(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newStage(&out, painter{colour: true})
	s.begin("T0", "a step")
	s.note("found so far")
	s.abort()
	s.abort()
	require.Equal(t, 1, strings.Count(out.String(), "found so far"))
	require.Contains(t, out.String(), "\x1b[1ma step\x1b[0m")
}

func TestFiguresForPeople(t *testing.T) {
	t.Parallel()
	require.Equal(t, "999 B", bytesText(999))
	require.Equal(t, "9999 B", bytesText(9999))
	require.Equal(t, "20.0 KiB", bytesText(20<<10))
	require.Equal(t, "12.5 MiB", bytesText(25<<19))
	require.Equal(t, "    1.5 ms", tookText(1500*time.Microsecond))
	require.Equal(t, "   61.0 s ", tookText(61*time.Second))
}

func TestDemoRefusesNonsense(t *testing.T) {
	t.Parallel()
	for line, says := range map[string]string{
		"demo now":                         `unexpected argument "now"`,
		"demo --outage flood":              "want kill or pause",
		"demo --outage pause --disk wiped": "a process that lives keeps its disk",
		"demo --policy nowhere.wasm":       "read policy",
	} {
		code, out, talk := runLine(t, line)
		require.NotZero(t, code, line)
		require.Empty(t, out, line)
		require.Contains(t, talk, says, line)
	}
}
