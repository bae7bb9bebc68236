package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc's processor times, the same on every Linux.
const ticksPerSecond = 100

// processorUsed is what a process has used of the processors so far, in user and in
// system mode; 0 where the kernel does not tell.
func processorUsed(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return processorOf(string(text))
}

// processorOf reads the times in user and in system mode from a stat line.
func processorOf(stat string) time.Duration {
	_, rest, ok := strings.Cut(stat, ") ") // the name may hold spaces
	fields := strings.Fields(rest)
	const userTime, systemTime = 14 - 3, 15 - 3 // fields 14 and 15, counted from the one behind the name
	if !ok || len(fields) <= systemTime {
		return 0
	}
	user, userErr := strconv.ParseInt(fields[userTime], 10, 64)
	system, systemErr := strconv.ParseInt(fields[systemTime], 10, 64)
	if errors.Join(userErr, systemErr) != nil {
		return 0
	}
	return time.Duration(user+system) * (time.Second / ticksPerSecond)
}
