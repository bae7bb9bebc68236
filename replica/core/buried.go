package core

import (
	"fmt"

	"edged.dev/edged/internal/kv"
)

// grave is what a donor's session found of versions held here that would have come back.
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
	g := m.graves[e.Name]
	m.graves[e.Name] = grave{g.versions + e.Buried, g.parts + 1}
}

// mourn raises one alarm for what sessions with a donor dropped, once one is over, or its
// connection is, or the next begins: a node that was away past the horizon has some in
// most of its partitions.
func (m *Machine) mourn(donor string) {
	g, ok := m.graves[donor]
	if !ok {
		return
	}
	delete(m.graves, donor)
	m.emit(Note{Kind: "alarm", Peer: donor, Partition: kv.System, Text: fmt.Sprintf(
		"%d versions in %d partitions held here had been deleted meanwhile, and would have come back; they were dropped", g.versions, g.parts,
	)})
}
