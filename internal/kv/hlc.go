package kv

// HLC is a hybrid logical time: 48 bits of Unix milliseconds and a 16-bit
// counter (Kulkarni et al., 2014). It orders versions for last-writer-wins and
// is never used for causality.
type HLC uint64

// HLCAt returns the first hybrid time of a millisecond.
func HLCAt(ms int64) HLC { return HLC(ms) << 16 }

// MS returns the physical part in Unix milliseconds.
func (h HLC) MS() int64 { return int64(h >> 16) }

// Next returns a time after h and not before now (Unix milliseconds). When the
// counter runs over, the physical part moves on by itself.
func (h HLC) Next(now int64) HLC { return max(h+1, HLCAt(now)) }
