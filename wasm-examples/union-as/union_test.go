package unionas_test

import (
	"testing"

	"edged.dev/edged/wasm-examples/exampletest"
)

func TestUnion(t *testing.T) {
	exampletest.Example{Module: "union.wasm", Fuel: []int64{1164, 2170, 42474}, Tools: []string{"node", "asc"}}.Run(t, exampletest.Union)
}
