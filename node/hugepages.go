package node

import "sync"

// hugeHeap is how much of the heap is asked for in huge pages: what a node takes within
// its first seconds, while it opens its store, catches up and warms its memory tier, with the
// cache of the store's blocks and what of them is garbage until the next collection. A
// page that is touched once costs the whole page, so that a small node holds more than
// it needs, by as much as this at most.
const hugeHeap = 192 << 20

// hugePages asks for huge pages, once in a process.
var hugePages = sync.OnceValue(func() error { return hugePagesFor(hugeHeap) })
