//go:build !linux

package node

// hugePagesFor does nothing: the kernel decides by itself.
func hugePagesFor(int) error { return nil }
