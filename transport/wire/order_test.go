package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

func drawOrders(t *rapid.T) []wire.Order {
	sets := [][]wire.OrderRule{
		nil, {{Prefix: "hot/"}}, {{Prefix: "hot/"}, {Last: true, Prefix: "cold/"}}, {{Prefix: rapid.StringN(0, 8, 20).Draw(t, "prefix")}},
	}
	orders := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) wire.Order {
		return wire.Order{
			Partition: drawPartition(t), Reads: rapid.Uint32().Draw(t, "reads"), RateKiBps: rapid.Uint32().Draw(t, "rate"),
			Rules: rapid.SampledFrom(sets).Draw(t, "rules"),
		}
	}), 0, 20).Draw(t, "orders")
	if len(orders) == 0 {
		return nil
	}
	return orders
}

// What a donor is asked to heed is bounded: at the limit it is taken, one over it
// is malformed.
func TestOrdersHoldAtTheLimitAndRefuseOneOver(t *testing.T) {
	c := newCodec(t)
	rule := func(n int) []wire.OrderRule { return []wire.OrderRule{{Prefix: fmt.Sprint(n)}} }
	for name, x := range map[string]struct {
		limit  int
		orders func(n int) []wire.Order
	}{
		"orders": {wire.MaxCopies, func(n int) []wire.Order { return make([]wire.Order, n) }},
		"sets of rules": {wire.MaxRuleSets, func(n int) (out []wire.Order) {
			for i := range n {
				out = append(out, wire.Order{Partition: kv.Partition(i), Rules: rule(i)})
			}
			return out
		}},
		"rules": {wire.MaxOrderRules, func(n int) []wire.Order { return []wire.Order{{Rules: make([]wire.OrderRule, n)}} }},
		"prefix": {wire.MaxRulePrefixBytes, func(n int) []wire.Order {
			return []wire.Order{{Rules: []wire.OrderRule{{Prefix: strings.Repeat("p", n)}}}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			try := func(n int) (wire.Hello, error) {
				return wire.ParseHello(wire.Hello{Orders: x.orders(n)}.Append(nil, c, nil), c, nil)
			}
			h, err := try(x.limit)
			require.NoError(t, err)
			require.Equal(t, x.orders(x.limit), h.Orders)
			_, err = try(x.limit + 1)
			require.ErrorIs(t, err, wire.ErrMalformed)
		})
	}
}

// Partitions that share their rules tell them once.
func TestSharedRulesAreToldOnce(t *testing.T) {
	c := newCodec(t)
	rules := []wire.OrderRule{{Prefix: strings.Repeat("p", 200)}}
	size := func(n int) int {
		var orders []wire.Order
		for i := range n {
			orders = append(orders, wire.Order{Partition: kv.Partition(i), Rules: rules})
		}
		return len(wire.Hello{Orders: orders}.Append(nil, c, nil))
	}
	require.Less(t, size(100)-size(1), 100*5)
}
