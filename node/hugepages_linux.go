package node

import (
	"fmt"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePageSize is that of x86-64 and of ARM with pages of 4 KiB. Where huge pages are
// larger the kernel takes what is asked for in part, or not at all.
const hugePageSize = 2 << 20

// hugePagesFor lets the kernel back the next size bytes of the heap with huge pages.
// A node that comes back touches some thousand pages before it has caught up, and each
// costs a fault: under a microsecond on bare metal, 10 to 20 on some virtual machines,
// which is a quarter of all that its return costs there. With huge pages there is one in
// five hundred. The runtime has no setting for it: so an object of that size is made,
// which takes the address range from the kernel and touches none of it, the range is
// marked, and the object dropped, which the next collection finds: none may run while
// the object is held, or it would be kept for as long as the heap needs to double it.
// The heap grows into the range from below, as the allocator prefers low addresses.
func hugePagesFor(size int) error {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	b := make([]byte, size)
	begin := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	skip := int(-begin & (hugePageSize - 1))
	whole := (size - skip) &^ (hugePageSize - 1)
	if err := unix.Madvise(b[skip:skip+whole], unix.MADV_HUGEPAGE); err != nil {
		return fmt.Errorf("ask for huge pages: %w", err)
	}
	return nil
}
