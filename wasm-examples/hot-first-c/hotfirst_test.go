package hotfirstc_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/repair"
	"edged.dev/edged/wasm-examples/exampletest"
)

func TestHotPrefixesFirst(t *testing.T) {
	exampletest.Example{Module: "hotfirst.wasm", Fuel: []int64{237, 320, 4478, 352986}, Tools: []string{"clang", "wasm-ld"}}.RunRepair(t, hotFirst)
}

func hotFirst(t *testing.T, p *exampletest.Planner) {
	in := exampletest.Away(4)
	for i := range in.Ranges { // partition 2 is read most, then 0; 1 and 3 not at all
		in.Ranges[i].Reads = []uint32{100, 0, 5000, 0}[in.Ranges[i].Partition]
	}
	in.Hot = []repair.Hot{{Prefix: "session:", Reads: 4000}, {Prefix: "cart:", Reads: 900}}
	plan := p.Plan(t, in)
	orders := plan.Orders()
	var got []uint64
	for _, o := range orders {
		got = append(got, o.Partition)
		require.Zero(t, o.DelayMS)
		require.Zero(t, o.RateKiBps)
		require.Equal(t, []repair.Rule{{Prefix: "session:"}, {Prefix: "cart:"}}, o.Rules)
	}
	require.Equal(t, []uint64{2, 0, 1, 3}, got)
	require.Equal(t, []int{0, 1, 2, 2}, []int{orders[0].Wave, orders[1].Wave, orders[2].Wave, orders[3].Wave})

	in.Hot = nil
	for _, o := range p.Plan(t, in).Orders() {
		require.Empty(t, o.Rules)
	}
	for i := range repair.MaxHot { // more than a filter holds
		in.Hot = append(in.Hot, repair.Hot{Prefix: fmt.Sprintf("%02d", i) + strings.Repeat("x", 200), Reads: 1})
	}
	require.Len(t, p.Plan(t, in).Orders()[0].Rules, 4)
	in.Hot = nil
	for i := range repair.MaxHot {
		in.Hot = append(in.Hot, repair.Hot{Prefix: fmt.Sprintf("%02d:", i), Reads: 1})
	}
	require.Len(t, p.Plan(t, in).Orders()[0].Rules, repair.MaxRules)
	require.Empty(t, p.Plan(t, exampletest.Away(0)).Steps)
}
