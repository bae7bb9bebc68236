package layout

import (
	"errors"
	"fmt"
	"math"
)

const (
	// MaxPartitions bounds P: each node keeps a clock a partition it owns and
	// compares them with every peer, so more partitions cost every tick.
	MaxPartitions = 4096
	// MaxMembers bounds the layout, whose every change is one entry that all
	// members hold, and whose owners are computed by all of them: at both
	// limits that takes a second.
	MaxMembers = 1024
	// MaxCopies bounds N: each write is sent to this many nodes.
	MaxCopies = 16
	// MaxNameBytes bounds a name, which is a certificate's common name.
	MaxNameBytes = 64
	// MaxZoneBytes bounds a zone's name: as much as a node's.
	MaxZoneBytes = 64
	// MaxWeight bounds a weight: a member that should have a thousand times
	// another's share is a mistake.
	MaxWeight = 1000
)

// validate says what is wrong with a layout. The members are sorted by name.
func validate(partitions, copies int, members []Member) error {
	if partitions < 1 || partitions > MaxPartitions || partitions&(partitions-1) != 0 {
		return fmt.Errorf("%d partitions: want a power of two from 1 to %d", partitions, MaxPartitions)
	}
	if copies < 1 || copies > MaxCopies {
		return fmt.Errorf("%d copies: want 1 to %d", copies, MaxCopies)
	}
	if len(members) > MaxMembers {
		return fmt.Errorf("%d members: want at most %d", len(members), MaxMembers)
	}
	for i, m := range members {
		if err := validateMember(m); err != nil {
			return fmt.Errorf("member %q: %w", m.Name, err)
		}
		if i > 0 && members[i-1].Name == m.Name {
			return fmt.Errorf("member %q: named twice", m.Name)
		}
	}
	return nil
}

func validateMember(m Member) error {
	switch {
	case m.Name == "":
		return errors.New("no name")
	case len(m.Name) > MaxNameBytes:
		return fmt.Errorf("name of %d bytes: want at most %d", len(m.Name), MaxNameBytes)
	case len(m.Zone) > MaxZoneBytes:
		return fmt.Errorf("zone of %d bytes: want at most %d", len(m.Zone), MaxZoneBytes)
	case math.IsNaN(m.Weight) || m.Weight <= 0 || m.Weight > MaxWeight:
		return fmt.Errorf("weight %v: want above 0, at most %d", m.Weight, MaxWeight)
	case m.Status > Forgotten:
		return fmt.Errorf("unknown status %d", m.Status)
	}
	return nil
}
