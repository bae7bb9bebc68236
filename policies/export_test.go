package policies

// MaxMemo is how many merges a table remembers.
const MaxMemo = maxMemo

// MaxMemoValue bounds the value of one.
const MaxMemoValue = maxMemoValue

// WorthKeeping reports whether a merge with that value and fuel, of so much, is
// remembered.
func WorthKeeping(value []byte, fuel, of int64) bool {
	return worthKeeping(decision{reason: reasonValue, verdict: Verdict{Value: value}, fuel: fuel}, Limits{Fuel: of})
}
