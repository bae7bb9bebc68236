package unionc_test

import (
	"testing"

	"edged.dev/edged/wasm-examples/exampletest"
)

func TestUnion(t *testing.T) {
	exampletest.Example{Module: "union.wasm", Tools: []string{"clang", "wasm-ld"}}.Run(t, exampletest.Union)
}
