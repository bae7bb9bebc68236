package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// netProfile is what a network between nodes does to each datagram. The zero
// value only passes it on.
type netProfile struct {
	rtt  time.Duration // half of it each way
	rate float64       // bits a second of each direction of each pair of nodes; 0 is no limit
	loss float64       // of datagrams, 0 to 1
}

const (
	// maxRTT is a link by satellite, with room: what is under way is held in
	// memory.
	maxRTT = 2 * time.Second
	// minRate lets a connection between nodes stand at all.
	minRate = 64e3
	maxRate = 100e9
	// maxLoss: with more, connections end before they have begun.
	maxLoss = 0.5
)

// String writes it as Set reads it.
func (p *netProfile) String() string {
	var parts []string
	if p.rtt > 0 {
		parts = append(parts, "rtt="+p.rtt.String())
	}
	if p.rate > 0 {
		parts = append(parts, "rate="+strconv.FormatFloat(p.rate/1e6, 'f', -1, 64)+"Mbit")
	}
	if p.loss > 0 {
		parts = append(parts, "loss="+strconv.FormatFloat(p.loss*100, 'f', -1, 64)+"%")
	}
	return strings.Join(parts, ",")
}

// Set reads a profile such as rtt=40ms,rate=100Mbit,loss=1%.
func (p *netProfile) Set(text string) error {
	var out netProfile
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		var err error
		switch name {
		case "rtt":
			if out.rtt, err = time.ParseDuration(value); err == nil && (out.rtt < 0 || out.rtt > maxRTT) {
				err = fmt.Errorf("want 0s to %s", maxRTT)
			}
		case "rate":
			out.rate, err = parseRate(value)
		case "loss":
			out.loss, err = parseLoss(value)
		default:
			err = fmt.Errorf("want rtt, rate or loss")
		}
		if err != nil {
			return fmt.Errorf("%q: %w", part, err)
		}
	}
	*p = out
	return nil
}

// Type is the name of the form in the help.
func (p *netProfile) Type() string { return "rtt=T,rate=R,loss=P%" }

func parseRate(text string) (float64, error) {
	for _, unit := range []struct {
		name string
		bits float64
	}{{"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}} {
		number, ok := strings.CutSuffix(text, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || !(n*unit.bits >= minRate && n*unit.bits <= maxRate) {
			break
		}
		return n * unit.bits, nil
	}
	return 0, fmt.Errorf("want 64kbit to 100Gbit a second, such as 100Mbit")
}

func parseLoss(text string) (float64, error) {
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !strings.HasSuffix(text, "%") || !(n >= 0 && n <= maxLoss*100) {
		return 0, fmt.Errorf("want 0%% to %g%%", maxLoss*100)
	}
	return n / 100, nil
}

// queueBytes is how much may wait where a direction of a pair begins: what the
// rate carries in queueTime, as the buffer of a router does, and some datagrams
// in any case. What finds it full is dropped.
func (p netProfile) queueBytes() float64 {
	return max(minQueueBytes, p.rate/8*queueTime.Seconds())
}

const (
	queueTime     = 50 * time.Millisecond
	minQueueBytes = 64 << 10
)
