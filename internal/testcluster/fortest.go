package testcluster

import "context"

// TB is what ForTest needs of a test.
type TB interface {
	Helper()
	Cleanup(fn func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// ForTest starts a cluster for a test and waits until it is ready. It ends with
// the test, which shows the end of each node's log if it failed.
func ForTest(ctx context.Context, t TB, opts Options) *Cluster {
	t.Helper()
	c, err := New(ctx, opts)
	if err != nil {
		t.Fatalf("testcluster: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range c.Nodes() {
				t.Logf("%s", n.Tail())
			}
		}
		if err := c.Close(); err != nil {
			t.Logf("testcluster: close: %v", err)
		}
	})
	if err := c.Start(ctx); err != nil {
		t.Fatalf("testcluster: %v", err)
	}
	return c
}
