package sim_test

import "edged.dev/edged/internal/sim"

// withoutMemory has nothing in front of the store that would hide what rotted there.
func withoutMemory() sim.Mix {
	m := sim.RottingApart()
	m.Tier = false
	return m
}

// awaySchedules have a copy rot and be healed while those are away that have what it lost.
func awaySchedules() []schedule {
	return []schedule{
		{sim.BugAwayForgotten, sim.RottingApart, "I7", func(p *play) {
			p.tell(p.put(p.a, sim.Put{Key: 0}), 2)
			p.Crash(p.c, 0)
			p.Spoil(p.a, 0, sim.RotObjectLost)
			p.MendAway(p.a)
		}},
		{sim.BugStandInForgotten, sim.RottingApart, "I7", func(p *play) {
			p.Crash(p.b, 0)
			p.Crash(p.c, 0)
			p.tell(p.put(p.a, sim.Put{Key: 0}), 3)
			p.Crash(p.Node(3), 0)
			p.Spoil(p.a, 0, sim.RotObjectLost)
			p.Boot(p.b)
			p.Boot(p.c)
			p.MendAway(p.a)
		}},
		{sim.BugOpenIsNothing, sim.RottingApart, "I7", func(p *play) {
			op := p.put(p.a, sim.Put{Key: 0})
			p.tell(op, 1)
			p.tell(op, 2)
			p.Spoil(p.a, 0, sim.RotObjectLost)
			p.MendAway(p.a)
		}},
		{sim.BugMoreForgotten, sim.RottingApart, "I7", func(p *play) {
			for key := range 2 {
				op := p.put(p.a, sim.Put{Key: key})
				p.tell(op, 1)
				p.tell(op, 2)
			}
			p.Spoil(p.a, 0, sim.RotObjectLost)
			p.Spoil(p.a, 1, sim.RotObjectLost)
			p.MendAway(p.a)
		}},
		{sim.BugGivePart, withoutMemory, "I7", func(p *play) {
			p.put(p.a, sim.Put{Key: 0})
			p.KeepLevel()
			beside := p.put(p.b, sim.Put{Key: 0})
			p.tell(beside, 0)
			p.tell(beside, 2)
			p.Spoil(p.a, 0, sim.RotDirectoryStale)
			p.MendAway(p.a)
		}},
	}
}
