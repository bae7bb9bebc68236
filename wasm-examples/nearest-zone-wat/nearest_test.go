package nearestzonewat_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/repair"
	"edged.dev/edged/wasm-examples/exampletest"
)

func TestNearestZoneFirst(t *testing.T) {
	exampletest.Example{Module: "nearest.wasm", Fuel: []int64{79, 147, 4623, 389426}, Tools: []string{"wat2wasm"}}.RunRepair(t, nearest)
}

func nearest(t *testing.T, p *exampletest.Planner) {
	in := exampletest.Away(2)
	in.Ranges = append(in.Ranges[:0:0], in.Ranges[0], in.Ranges[2], in.Ranges[3]) // partition 0 from n3 alone
	orders := p.Plan(t, in).Orders()
	require.Equal(t, []repair.Order{
		{Partition: 1, Peers: []string{"n2", "n3"}}, {Partition: 0, Wave: 1, Peers: []string{"n3"}},
	}, orders, "what is in the zone, from the zone; then the rest")

	in.Peers[0].Zone, in.Peers[1].Zone, in.Peers[2].Zone = 0, 0, 0 // no zones: by the link
	require.Equal(t, orders, p.Plan(t, in).Orders())
	in.Peers[2].Link = repair.LinkNear
	require.Equal(t, orders, p.Plan(t, in).Orders())
	in.Peers[2].Link = repair.LinkUnknown
	require.Equal(t, []repair.Order{{Partition: 0, Peers: []string{"n3"}}, {Partition: 1, Peers: []string{"n3", "n2"}}}, p.Plan(t, in).Orders())
	require.Len(t, p.Plan(t, exampletest.Away(repair.MaxRanges/2)).Orders(), repair.MaxRanges/2)
}
