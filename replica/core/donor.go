package core

import (
	"cmp"
	"slices"

	"edged.dev/edged/transport/wire"
)

// Donor is a peer that has what a copy lacks, and what the choice between such
// peers goes by.
type Donor struct {
	Live bool   // it serves the partition as LIVE
	Has  uint64 // versions it is known to have and the copy lacks; 0 where it is LIVE
	Far  bool   // it is in another zone
	Load wire.Load
}

// loadStep is how many hundredths of a session make a difference between donors:
// with less, two that are equally busy would take turns by chance.
const loadStep = 50

// Compare orders donors, the better first: a LIVE holder, for what others have it
// has too; of those that are not, the one with more of what is missing; one in the
// same zone; the one with less to do. It is 0 for donors that are as good.
func (d Donor) Compare(o Donor) int {
	no := func(b bool) int {
		if b {
			return 0
		}
		return 1
	}
	// A session takes a processor's time, or nearly.
	load := func(l wire.Load) int { return (100*int(l.Sessions) + int(l.Busy)) / loadStep }
	return cmp.Or(
		cmp.Compare(no(d.Live), no(o.Live)),
		cmp.Compare(o.Has, d.Has),
		cmp.Compare(no(!d.Far), no(!o.Far)),
		cmp.Compare(load(d.Load), load(o.Load)),
	)
}

func (m *Machine) donor(x *part, p *peer) Donor {
	d := Donor{Live: p.serving(x.Partition) == wire.ServingLive, Far: m.far(p.name), Load: p.load}
	if r, ok := x.reports[p.name]; ok && !d.Live {
		d.Has = missing(m.cfg.Copies.Copy(x.Partition).Clock, r.copy.Clock)
	}
	return d
}

// far reports whether a member is in another zone than this node.
func (m *Machine) far(name string) bool {
	mine, here := m.zones[m.cfg.Self]
	theirs, there := m.zones[name]
	return here && there && mine != theirs
}

// bestDonor reports whether no other peer that can be asked now is the better
// donor. One that is as good, or cannot be asked now, holds nothing up.
func (m *Machine) bestDonor(x *part, p *peer) bool {
	if p.serving(x.Partition) != wire.ServingLive && !p.hello && m.awaitsLive(x, p) {
		return false
	}
	var mine Donor
	known := false
	for _, name := range m.names {
		q := m.peers[name]
		if q == p || !m.askable(q) || !slices.Contains(x.others, name) && !reported(x, q) || !m.lacks(x, q) || !m.mayAsk(x, q) {
			continue
		}
		if !known {
			mine, known = m.donor(x, p), true
		}
		if m.donor(x, q).Compare(mine) < 0 {
			return false
		}
	}
	return true
}

// awaitsLive reports whether a LIVE holder is connected, for which one whose clock
// is not known yet can wait.
func (m *Machine) awaitsLive(x *part, p *peer) bool {
	for _, name := range x.others {
		q := m.peers[name]
		if q != nil && q != p && q.up && m.now >= q.busyTill && q.serving(x.Partition) == wire.ServingLive {
			return true
		}
	}
	return false
}

// askable reports whether a peer is asked in this very step for what it has.
func (m *Machine) askable(p *peer) bool {
	return p.up && m.now >= p.busyTill && p.asking == 0 && m.now >= p.askedAt+retryEvery
}
