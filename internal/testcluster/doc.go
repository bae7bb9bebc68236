// Package testcluster starts real nodes for tests and for loadtest: processes of
// the edged binary on loopback, with certificates that the same binary issued,
// each with a data directory and a log of its own. It stops, kills, pauses,
// wipes and restarts them, says when each was executed, and leaves none behind:
// the kernel ends them when the process that started them ends.
package testcluster
