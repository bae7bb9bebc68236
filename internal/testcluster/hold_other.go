//go:build !linux

package testcluster

// hold keeps nothing where a bound port cannot be shared with a listener.
func hold(string) (release func(), err error) { return func() {}, nil }
