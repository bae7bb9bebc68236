package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// oneOf refuses a flag's value that is none of the words.
func oneOf(flag, value string, words ...string) error {
	if slices.Contains(words, value) {
		return nil
	}
	last := len(words) - 1
	want := words[last]
	if last > 0 {
		want = strings.Join(words[:last], ", ") + " or " + want
	}
	return fmt.Errorf("%w: --%s %s: want %s", errUsage, flag, value, want)
}

// inRange refuses a flag's number outside its limits.
func inRange(flag string, value, least, most int) error {
	if value < least || value > most {
		return fmt.Errorf("%w: --%s %d: want %d to %d", errUsage, flag, value, least, most)
	}
	return nil
}

// validOutput checks the word of --output.
func validOutput(value string) error { return oneOf("output", value, "table", "json") }

// redisHere refuses programs of Redis that are not installed.
func redisHere(programs ...string) error {
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w: %s is not here; Debian has it in the packages redis-server and redis-tools", errUsage, name)
		}
	}
	return nil
}

// writeJSON writes a report for scripts.
func writeJSON(w io.Writer, report any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(report); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
