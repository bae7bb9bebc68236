// Package merkle is an incremental hash tree over a partition and the diff of
// two trees; it knows nothing of entries or nodes.
//
// Everything in it is a sum: an item has a keyed 128-bit digest, a leaf is the
// sum of its items, a partition the sum of its leaves. Sums are taken mod 2^64
// in two lanes, beside a count, and not by XOR, under which an item added twice
// would vanish. So an item is put in or taken out in constant time, the order of
// changes does not matter, and trees of different depth compare at the smaller.
package merkle
