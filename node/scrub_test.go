package node_test

import (
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/cache"
)

// A real node reads its own copies whole, by Pebble, and finds them sound.
func TestScrubOfANodeReadsAllThatItHolds(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1")
	n := l.start(l.config("n1")).ready()
	for i := range 40 {
		status, _ := n.do(http.MethodPut, "k"+strconv.Itoa(i), "value")
		require.Less(t, status, 300)
	}
	found, err := n.admin.Scrub(t.Context(), admin.AllPartitions)
	require.NoError(t, err)
	require.Equal(t, 40, found.Objects)
	require.Greater(t, found.Bytes, int64(40*5))
	require.Empty(t, found.Damaged)
	_, err = n.admin.Scrub(t.Context(), 999)
	require.ErrorContains(t, err, "no copy of partition 999")
	text, err := n.admin.Metrics(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(text), "edged_scrubs_total 16")
	require.Contains(t, string(text), "edged_scrubs_damaged_total 0")
}

// loseFromDisk opens a stopped node's store and deletes what it holds of a key.
func (l *lab) loseFromDisk(name, key string) {
	l.t.Helper()
	store, err := cache.Open(cache.Default(filepath.Join(l.data(name), "store")))
	require.NoError(l.t, err)
	var b cache.Batch
	for _, kind := range []byte{'e', 'd'} {
		lower, upper := cache.PrefixRange(kind)
		require.NoError(l.t, store.Scan(lower, upper, func(rec, value []byte) (bool, error) {
			about, _, _ := cache.KeyOf(rec)
			if kind == 'd' {
				about, _, _ = cache.ParseVersion(value)
			}
			if string(about) == key {
				b.Delete(rec)
			}
			return true, nil
		}))
	}
	require.Equal(l.t, 2, b.Len())
	require.NoError(l.t, store.Commit(&b, true))
	require.NoError(l.t, store.Close())
}

// holds reports whether a node's own copies have a value of a key.
func (f *life) holds(key string) bool {
	f.lab.t.Helper()
	found := false
	require.NoError(f.lab.t, f.admin.Dump(f.lab.t.Context(), admin.AllPartitions, func(line admin.DumpLine) error {
		found = found || line.Version != nil && string(line.Version.Key) == key && !line.Version.Tombstone
		return nil
	}))
	return found
}

// Three nodes over QUIC and Pebble: one loses an object from its disk. Its record
// says nothing of it, so that it comes back LIVE; the scrub finds it, and the other
// two give it back.
func TestWhatADiskLostIsFoundAndHealed(t *testing.T) {
	t.Parallel()
	l := newLab(t, "n1", "n2", "n3")
	n1 := l.start(l.config("n1")).ready()
	n2 := l.start(l.config("n2", n1.ports.Node)).ready()
	start := func() *life { return l.start(l.config("n3", n1.ports.Node, n2.ports.Node)).ready() }
	n3 := start()
	for i := range 20 {
		status, _ := n1.do(http.MethodPut, "k"+strconv.Itoa(i), "value "+strconv.Itoa(i))
		require.Less(t, status, 300)
	}
	require.Eventually(t, func() bool { return n3.holds("k7") && n3.holds("k19") }, time.Minute, 5*time.Millisecond)
	n3.stop()
	l.loseFromDisk("n3", "k7")
	n3 = start()
	require.False(t, n3.holds("k7"))
	found, err := n3.admin.Scrub(t.Context(), admin.AllPartitions)
	require.NoError(t, err)
	require.Len(t, found.Damaged, 1)
	require.Eventually(t, func() bool {
		r, err := n3.admin.Rejoin(t.Context())
		return err == nil && len(r.Healed) == 1 && r.Healed[0].Partition == found.Damaged[0].Partition &&
			r.PerStep["L4"] == 1 && r.Partitions.Verified == r.Partitions.Owned
	}, time.Minute, 5*time.Millisecond)
	require.True(t, n3.holds("k7"))
	status, body := n3.do(http.MethodGet, "k7", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "value 7", body)
	metrics, err := n3.admin.Metrics(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(metrics), "edged_corruption_total 1")
	require.Contains(t, string(metrics), `edged_sync_steps_total{step="L4"} 1`)
	r, err := n3.admin.Rejoin(t.Context())
	require.NoError(t, err)
	last := r.Steps[len(r.Steps)-1]
	require.Equal(t, admin.RejoinStep{Step: "L4", Reason: r.Healed[0].Reason, Count: 1, Partitions: strconv.Itoa(int(r.Healed[0].Partition))}, last)
}
