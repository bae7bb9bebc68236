// Package sim runs the copies of one cluster in one goroutine, from one seed: a
// store whose unsynced tail a crash takes, nodes of real partition.Sets, a
// network that drops, doubles and reorders, sessions stepped frame by frame, and
// an oracle that knows the causal history of every write.
//
// World steps the copies alone, so that orders and losses are as bad as can be; Cluster
// runs the machines of replica/core over them in virtual time: who may serve, who leads,
// who stands in. Either can be broken on purpose, a Bug or a Lie, and must notice.
//
// It is for tests alone. The same seed gives the same run, event by event.
package sim
