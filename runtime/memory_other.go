//go:build !unix

package wasmrt

// linearMemory is ordinary memory where the system has no mmap.
type linearMemory struct{ region []byte }

func newLinearMemory(maxBytes int64) (*linearMemory, error) {
	return &linearMemory{region: make([]byte, maxBytes)}, nil
}

// Reallocate returns the first size bytes, always at the same address.
func (m *linearMemory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.region)) {
		return nil
	}
	return m.region[:size:len(m.region)]
}

// Free gives the memory back.
func (m *linearMemory) Free() { m.region = nil }
