// Package kv is the replicated value and its causality: key, entry, sibling,
// dot, partition clock, hybrid time, and the one Merge.
//
// Everything here is a value or a pure function: no clock is read, nothing is
// locked, nothing is sent. The ideas are those of dotted version vectors and of
// concise server-wide causality (Gonçalves, Almeida, Baquero, Fonte: "DottedDB",
// 2017): a write has one identity (its Dot), a copy of a partition has one Clock
// of the dots it has seen, and what the clock has and the data has not is dead.
package kv
