package wasmrt

// Rewrite scans and rewrites a module, for tests that compile the result with
// the engine directly.
func Rewrite(wasm []byte) ([]byte, error) {
	m, err := scan(wasm)
	if err != nil {
		return nil, err
	}
	return m.rewrite(DefaultMemoryPages), nil
}

// Weight returns the depth units that a frame of each function costs.
func Weight(wasm []byte) []uint32 {
	m, err := scan(wasm)
	if err != nil {
		return nil
	}
	var w []uint32
	for _, p := range m.plans {
		w = append(w, p.weight)
	}
	return w
}
