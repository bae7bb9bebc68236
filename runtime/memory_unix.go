//go:build unix

package wasmrt

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// linearMemory reserves a guest's whole address range at once and lets the kernel
// fill it page by page. Growing costs nothing then, and what guests hold neither
// counts for Go's collector nor is moved by it.
type linearMemory struct{ region []byte }

func newLinearMemory(maxBytes int64) (*linearMemory, error) {
	b, err := unix.Mmap(-1, 0, int(maxBytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("%w: reserve %d bytes: %w", ErrBudget, maxBytes, err)
	}
	return &linearMemory{region: b}, nil
}

// Reallocate returns the first size bytes, always at the same address.
func (m *linearMemory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.region)) {
		return nil
	}
	return m.region[:size:len(m.region)]
}

// Free gives the range back. The engine calls it when the instance is closed.
func (m *linearMemory) Free() {
	if m.region != nil {
		// Unmapping a range that Mmap returned cannot fail.
		_ = unix.Munmap(m.region)
		m.region = nil
	}
}
