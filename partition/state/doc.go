// Package state is one copy of a partition as a value: what is planned, what is
// published, and how a planned change becomes records and then effects. It has
// no clock, goroutine, lock or I/O: package partition locks and commits, the
// simulator steps it.
//
// There are two states of the causality. Planners work on the planned one, which
// has every change that was accepted; readers, peers and sessions see the
// published one, which has every change whose batch was committed. A Change goes
// from the one to the other exactly once, in the order it was planned in.
package state
