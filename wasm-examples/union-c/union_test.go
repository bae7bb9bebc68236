package unionc_test

import (
	"testing"

	"edged.dev/edged/wasm-examples/exampletest"
)

func TestUnion(t *testing.T) {
	exampletest.Example{Module: "union.wasm", Fuel: []int64{1185, 2281, 45876}, Tools: []string{"clang", "wasm-ld"}}.Run(t, exampletest.Union)
}
