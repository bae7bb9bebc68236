package main

// verdict is what an answer of the returning node was worth (I18).
type verdict int

const (
	fresh       verdict = iota
	lagging             // older than a write that was acknowledged after the node's start
	stale               // older than one acknowledged before it, or no write of this run at all
	notFound            // nothing, where there was something before the start
	resurrected         // something, where it had been deleted
)

// judge holds an answer about a key that nobody writes while the node comes
// back against what the key must hold.
func judge(want expectation, answer kvAnswer) verdict {
	switch {
	case want.gone && answer.found:
		return resurrected
	case want.gone:
		return fresh
	case !answer.found:
		return notFound
	}
	if write, ok := writeOf(answer.value); !ok || !want.allows(write) {
		return stale
	}
	return fresh
}

// judgeTraffic holds an answer about a key that a background client writes:
// before is its last write acknowledged when the node was started, since the
// last one acknowledged when the read began. Numbers of writes only grow.
func judgeTraffic(before, since uint32, answer kvAnswer) verdict {
	if !answer.found {
		if before != 0 {
			return notFound
		}
		if since != 0 {
			return lagging
		}
		return fresh
	}
	write, ok := writeOf(answer.value)
	switch {
	case !ok || write < before:
		return stale
	case write < since:
		return lagging
	}
	return fresh
}

// readCounts counts what readers were told.
type readCounts struct {
	reads       int // answers, exempt ones not among them
	lagging     int
	stale       int
	notFound    int
	resurrected int
	// exempt answers said themselves that they may be old: isolated or degraded.
	exempt int
	errors int // no answer: refused, or the node was not there yet
}

// add counts one answer.
func (c *readCounts) add(v verdict, answer kvAnswer) {
	if answer.state != "" {
		c.exempt++
		return
	}
	c.reads++
	switch v {
	case fresh:
	case lagging:
		c.lagging++
	case stale:
		c.stale++
	case notFound:
		c.notFound++
	case resurrected:
		c.resurrected++
	}
}

func (c *readCounts) join(o readCounts) {
	c.reads += o.reads
	c.lagging += o.lagging
	c.stale += o.stale
	c.notFound += o.notFound
	c.resurrected += o.resurrected
	c.exempt += o.exempt
	c.errors += o.errors
}
