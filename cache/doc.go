// Package cache is the local store: entries in bounded memory over a durable
// engine, expiry, eviction, the dot index, atomic batches.
//
// It has two floors. Store is an ordered map of bytes to bytes on disk (the
// engine is Pebble), written only by atomic batches; what its keys mean stands
// in the record encoders of this package. Tier is a bounded memory of encoded
// objects over it, free of pointers, so that a million entries cost the garbage
// collector nothing.
package cache
