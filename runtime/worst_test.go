package wasmrt_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// worst lists admitted modules that press against one limit each.
var worst = map[string]func(p *parts){
	"nested loops":      func(p *parts) { p.with(repeat(630, "\x03\x40") + repeat(630, end)) },
	"nested blocks":     func(p *parts) { p.with(repeat(630, "\x02\x40") + repeat(630, end)) },
	"chain of ifs":      func(p *parts) { p.with(repeat(2490, "\x41\x00\x04\x40\x0b")) },
	"branch tables":     func(p *parts) { p.with("\x02\x40" + repeat(8, "\x41\x00\x0e"+u(300)+repeat(301, "\x00")) + end) },
	"chain of calls":    func(p *parts) { p.with(repeat(2490, "\x10\x02")) },
	"chain of fills":    func(p *parts) { p.with(repeat(830, "\x41\x00\x41\x00\x41\x00\xfc\x0b\x00")) },
	"loops over locals": func(p *parts) { p.withBody(loopsOverLocals(34, 630)) },
	"ifs over locals": func(p *parts) {
		code := ""
		for i := range uint64(2400) {
			code += "\x41\x00\x04\x40\x42\x01\x21" + u(i%13) + end
		}
		p.withBody(str(u(1) + u(13) + tI64 + code + end))
	},
	"plain code": func(p *parts) { p.with(repeat(13_000, "\x41\x00\x45\x1a\x01")) },
	"divisions":  func(p *parts) { p.with("\x43\x00\x00\x00\x00" + repeat(10_000, "\x43\x00\x00\x80\x3f\x95") + "\x1a") },
}

// loopsOverLocals is a function in which each of the nested loops may see each
// local changed.
func loopsOverLocals(locals uint64, loops int) string {
	bump := ""
	for i := range locals {
		bump += "\x20" + u(i) + "\x42\x01\x7c\x21" + u(i)
	}
	return str(u(1) + u(locals) + tI64 + repeat(loops, "\x03\x40") + bump + repeat(loops, "\x41\x00\x0d\x00"+end) + end)
}

// BenchmarkWorstAdmittedModules tells what the admission limits are for: how long
// the dearest modules that they let through take to compile.
func BenchmarkWorstAdmittedModules(b *testing.B) {
	for name, f := range worst {
		b.Run(name, func(b *testing.B) {
			h, wasm := newHost(b, nil), change(f)
			for b.Loop() {
				m := compile(b, h, wasm)
				require.NoError(b, m.Close(b.Context()))
			}
		})
	}
}
