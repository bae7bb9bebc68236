// Package sim runs the copies of one cluster in one goroutine, from one seed: a
// store whose unsynced tail a crash takes, nodes of real partition.Sets, a
// network that drops, doubles and reorders, sessions stepped frame by frame, and
// an oracle that knows the causal history of every write.
//
// It is for tests alone. The same seed gives the same run, event by event.
package sim
