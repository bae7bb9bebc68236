package quietnightas_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/repair"
	"edged.dev/edged/wasm-examples/exampletest"
)

func TestQuietLinksByDayAndFullSpeedAtNight(t *testing.T) {
	exampletest.Example{Module: "quietnight.wasm", Fuel: []int64{147, 178, 2131, 209503}, Tools: []string{"node", "asc"}}.RunRepair(t, quietNight)
}

// at is an input of a local time in a zone one hour ahead of UTC.
func at(hour, minute int) repair.Input {
	in := exampletest.Away(2)
	in.UTCOffsetS = 3600
	in.TickS = uint64(time.Date(2026, 11, 25, hour, minute, 0, 0, time.FixedZone("", 3600)).Unix())
	return in
}

func quietNight(t *testing.T, p *exampletest.Planner) {
	for _, clock := range [][2]int{{22, 0}, {23, 59}, {0, 0}, {5, 59}} {
		for _, o := range p.Plan(t, at(clock[0], clock[1])).Orders() {
			require.Zero(t, o.DelayMS, clock)
			require.Zero(t, o.RateKiBps, "full speed at %v", clock)
			require.Equal(t, []string{"n3", "n2"}, o.Peers, "from anybody")
		}
	}
	for _, clock := range [][2]int{{6, 0}, {12, 30}, {21, 59}} {
		orders := p.Plan(t, at(clock[0], clock[1])).Orders()
		require.Len(t, orders, 2)
		for _, o := range orders {
			require.Zero(t, o.DelayMS, clock)
			require.Equal(t, uint32(2048), o.RateKiBps, clock)
			require.Equal(t, []string{"n2"}, o.Peers, "the quiet link alone")
		}
	}
	delays := func(in repair.Input) (out []int64) {
		for _, o := range p.Plan(t, in).Orders() {
			out = append(out, o.DelayMS)
		}
		return out
	}
	in := at(12, 0)
	in.Peers[2].Link = repair.LinkFar
	require.Equal(t, []int64{60_000, 60_000}, delays(in), "no link is quiet")
	in = at(12, 0)
	in.ForegroundP99US = 20_001
	require.Equal(t, []int64{60_000, 60_000}, delays(in), "clients wait already")
	in.ForegroundP99US = 20_000
	require.Equal(t, []int64{0, 0}, delays(in))
	in = at(12, 0)
	in.Peers[2].EgressKiBps = 4096
	require.Equal(t, []int64{0, 0}, delays(in))
	in.Peers[2].EgressKiBps = 4097
	require.Equal(t, []int64{60_000, 60_000}, delays(in), "the near link is busy, and the other is far")
	in = at(2, 0)
	in.Peers[2].EgressKiBps = 1 << 30
	in.ForegroundP99US = 1 << 30
	require.Equal(t, []int64{0, 0}, delays(in), "at night it does not ask")

	in = at(12, 0) // by day, with no quiet link, in the end the host has its way
	in.Peers[2].Link = repair.LinkFar
	for i := range in.Ranges {
		in.Ranges[i].AgeMS = repair.MaxIntervalMS
	}
	plan := p.Table.PlanRepair(t.Context(), in).Plan
	require.Equal(t, len(in.Ranges), plan.Count(repair.Overdue))
	require.Zero(t, plan.Orders()[0].DelayMS)
}
