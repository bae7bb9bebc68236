package core

import (
	"fmt"

	"edged.dev/edged/internal/kv"
)

// grave is what a session found of versions held here that would have come back.
type grave struct{ versions, parts int }

// bury tells of versions that a partition's end dropped, and that nothing but the donor's
// live dots told to be dead.
func (m *Machine) bury(e PartEnded, why string) {
	if e.Buried == 0 {
		return
	}
	m.emit(Note{
		Kind: "partition.buried", Peer: e.Name, Partition: e.Partition, Versions: e.Buried,
		Text: fmt.Sprintf("%d versions %s; they would have come back", e.Buried, why),
	})
	g := m.graves[e.Session]
	m.graves[e.Session] = grave{g.versions + e.Buried, g.parts + 1}
}

// mourn raises one alarm for a session's: a node that was away past the horizon has some
// in most of its partitions.
func (m *Machine) mourn(e SessionEnded) {
	g, ok := m.graves[e.Session]
	if !ok {
		return
	}
	delete(m.graves, e.Session)
	m.emit(Note{Kind: "alarm", Peer: e.Name, Partition: kv.System, Text: fmt.Sprintf(
		"%d versions in %d partitions held here had been deleted meanwhile, and would have come back; they were dropped", g.versions, g.parts,
	)})
}
