package wasmrt_test

import (
	"encoding/binary"
	"slices"
)

// parts is a module in the making: a valid one, of which a test changes what it
// is about.
type parts struct {
	types, imports, functions, tables, memories, globals, exports, elements, codes, datas []string
	tail                                                                                  string
}

const (
	tI32, tI64 = "\x7f", "\x7e"
	end        = "\x0b"
)

func u(n uint64) string             { return string(binary.AppendUvarint(nil, n)) }
func str(s string) string           { return u(uint64(len(s))) + s }
func repeat(n int, s string) string { return string(slices.Repeat([]byte(s), n)) }

func vec(items []string) string {
	s := u(uint64(len(items)))
	for _, i := range items {
		s += i
	}
	return s
}

func fn(params, results string) string { return "\x60" + str(params) + str(results) }

// body is a function body without locals; end is added.
func body(code string) string { return str("\x00" + code + end) }

func exported(name string, kind byte, index uint64) string {
	return str(name) + string(kind) + u(index)
}

// minimal is the smallest module that is admitted: types 0 alloc, 1 merge, 2 (),
// functions 0 alloc, 1 merge.
func minimal() *parts {
	return &parts{
		types:     []string{fn(tI32, tI32), fn(tI32+tI32, tI64), fn("", "")},
		functions: []string{u(0), u(1)},
		memories:  []string{"\x00\x02"},
		exports:   []string{exported("memory", 2, 0), exported("edged_v1_alloc", 0, 0), exported("edged_v1_merge", 0, 1)},
		codes:     []string{body("\x41\x80\x08"), body("\x42\x01")},
	}
}

// with adds a function ()->() of that code.
func (p *parts) with(code string) *parts { return p.withBody(body(code)) }

func (p *parts) withBody(b string) *parts {
	p.functions = append(p.functions, u(2))
	p.codes = append(p.codes, b)
	return p
}

func (p *parts) wasm() []byte {
	out := "\x00asm\x01\x00\x00\x00"
	for _, s := range []struct {
		id    byte
		items []string
	}{
		{1, p.types},
		{2, p.imports},
		{3, p.functions},
		{4, p.tables},
		{5, p.memories},
		{6, p.globals},
		{7, p.exports},
		{9, p.elements},
		{10, p.codes},
		{11, p.datas},
	} {
		if s.items != nil {
			out += string(s.id) + str(vec(s.items))
		}
	}
	return []byte(out + p.tail)
}

// raw is a module of one section with this payload, for counts without entries.
func raw(id byte, payload string) []byte {
	return []byte("\x00asm\x01\x00\x00\x00" + string(id) + str(payload))
}
