package replica_test

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/cache"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica"
)

// What tests of damaged copies, and of those that are cut off, are set up with.

// filled is a cluster of nodes with sixty keys, equal everywhere.
func filled(t *testing.T, names ...string) *cluster {
	c := newCluster(t, names...)
	c.up()
	c.fill()
	return c
}

// fill writes the sixty keys, and waits until they are everywhere.
func (c *cluster) fill() {
	c.t.Helper()
	for i := range 60 {
		c.set("n1", fmt.Sprintf("k%d", i), fmt.Sprintf("v%d", i))
	}
	c.equal(c.names...)
}

// whole holds every node to the sixty keys.
func (c *cluster) whole() {
	c.t.Helper()
	c.equal(c.names...)
	for _, n := range c.names {
		for i := range 60 {
			require.Equal(c.t, fmt.Sprintf("v%d", i), c.nodes[n].holds(fmt.Sprintf("k%d", i)), n)
		}
	}
}

// crowd puts so many keys beside another in its partition that their tree has levels.
func (c *cluster) crowd(key string) {
	c.t.Helper()
	for i, n := 0, 0; n < 40; i++ {
		if k := "crowd" + strconv.Itoa(i); partOf(k) == partOf(key) {
			c.set("n1", k, "v")
			n++
		}
	}
	c.equal(c.names...)
}

// keyIn returns a key of a partition that begins with prefix.
func (c *cluster) keyIn(p kv.Partition, prefix string) string {
	for i := range 10_000 {
		if key := fmt.Sprint(prefix, "-", i); partOf(key) == p {
			return key
		}
	}
	require.FailNow(c.t, "no key")
	return ""
}

// isolate cuts a node off, and waits until its copy of a partition knows.
func (c *cluster) isolate(name string, p kv.Partition) {
	c.t.Helper()
	for _, other := range c.names {
		if other != name {
			c.wires.disconnect(name, other)
		}
	}
	c.isolated(name, p)
}

// isolated waits until a node's copy of a partition knows that it is alone.
func (c *cluster) isolated(name string, p kv.Partition) {
	c.t.Helper()
	c.wait("isolated", func() bool { return c.part(name, p).State == kv.Isolated })
}

// ackedWithout has n1 and n3 acknowledge a value of a key, "acked", that the third, which
// is cut off, has not seen.
func (c *cluster) ackedWithout(third, key string) {
	c.t.Helper()
	c.isolate(third, partOf(key))
	c.set("n1", key, "acked")
	c.wait("n3 has it", func() bool { return c.nodes["n3"].holds(key) == "acked" })
}

// rot changes the records of a store behind its copy's back: fn gets each record of
// the kinds given that is about a key, and returns what becomes of it, nil: it goes.
func (m *member) rot(key string, kinds string, fn func(kind byte, value []byte) []byte) {
	m.c.t.Helper()
	p := partOf(key)
	var b cache.Batch
	for _, kind := range []byte(kinds) {
		lower, upper := cache.Range(kind, p, 0)
		require.NoError(m.c.t, m.store.Scan(lower, upper, func(rec, value []byte) (bool, error) {
			about := ""
			if kind == 'd' {
				k, _, err := cache.ParseVersion(value)
				require.NoError(m.c.t, err)
				about = string(k)
			} else {
				k, _, _ := cache.KeyOf(rec)
				about = string(k)
			}
			if about != key {
				return true, nil
			}
			if out := fn(kind, append([]byte(nil), value...)); out != nil {
				b.Set(rec, out)
			} else {
				b.Delete(rec)
			}
			return true, nil
		}))
	}
	require.Positive(m.c.t, b.Len(), "nothing to rot")
	require.NoError(m.c.t, m.store.Commit(&b, true))
}

// lose is for records that go.
func lose(byte, []byte) []byte { return nil }

// flip changes the last byte: of a version, that is its value's.
func flip(_ byte, value []byte) []byte {
	value[len(value)-1] ^= 1
	return value
}

// records are those of a key, to be put back.
func (m *member) records(key string) *cache.Batch {
	m.c.t.Helper()
	var b cache.Batch
	for _, kind := range []byte("de") {
		lower, upper := cache.Range(kind, partOf(key), 0)
		require.NoError(m.c.t, m.store.Scan(lower, upper, func(rec, value []byte) (bool, error) {
			about, _, _ := cache.KeyOf(rec)
			if kind == 'd' {
				k, _, err := cache.ParseVersion(value)
				require.NoError(m.c.t, err)
				about = k
			}
			if string(about) == key {
				b.Set(bytes.Clone(rec), bytes.Clone(value))
			}
			return true, nil
		}))
	}
	require.Positive(m.c.t, b.Len(), "no records")
	return &b
}

// apply has a copy take an object, as of another node, and waits until it is published.
func (m *member) apply(from kv.NodeID, key string, o kv.Object) {
	m.c.t.Helper()
	done := make(chan struct{})
	got := state.Received{Key: []byte(key), Object: o, From: from}
	require.NoError(m.c.t, m.set.Shard(partOf(key)).Apply(got, func() { close(done) }))
	<-done
}

// take has a copy take an object as another node's copy has it.
func (m *member) take(from *member, key string) {
	m.c.t.Helper()
	o, base, err := from.set.Shard(partOf(key)).Read([]byte(key))
	require.NoError(m.c.t, err)
	m.apply(from.id, key, o.Filled(base))
}

// rerecord makes the recorded digest of a partition that of what the store holds, as
// if a change had made it so. The process must be down.
func (m *member) rerecord(p kv.Partition, change func(*cache.Copy)) {
	m.c.t.Helper()
	ids := m.actorIDs()
	at := cache.AppendCopyKey(nil, p)
	rec, found, err := m.store.Get(nil, at)
	require.NoError(m.c.t, err)
	require.True(m.c.t, found)
	c, err := cache.ParseCopy(rec, ids)
	require.NoError(m.c.t, err)
	change(&c)
	var b cache.Batch
	b.Set(at, cache.AppendCopy(nil, ids, c))
	require.NoError(m.c.t, m.store.Commit(&b, true))
}

// resurrect puts a version that was written and deleted back into a store, complete
// and with a right checksum.
func (m *member) resurrect(key string, v kv.Version) {
	m.c.t.Helper()
	ids, p := m.actorIDs(), partOf(key)
	m.rot(key, "e", func(_ byte, value []byte) []byte {
		e, checks, err := cache.ParseEntry(value, ids)
		require.NoError(m.c.t, err)
		for i := range e.Object.Versions {
			e.Object.Versions[i].Value = make([]byte, checks[i].Bytes) // of the length alone
		}
		e.Object.Versions = append(e.Object.Versions, v)
		slices.SortFunc(e.Object.Versions, func(v, w kv.Version) int { return v.Dot.Compare(w.Dot) })
		return cache.AppendEntry(nil, ids, e, false)
	})
	var b cache.Batch
	b.Set(cache.AppendVersionKey(nil, p, ids.ID(v.Dot.Actor), v.Dot.Seq), cache.AppendVersion(nil, []byte(key), v))
	require.NoError(m.c.t, m.store.Commit(&b, true))
}

// version returns the one version that a node holds of a key.
func (m *member) version(key string) kv.Version {
	m.c.t.Helper()
	o, _, err := m.set.Shard(partOf(key)).Read([]byte(key))
	require.NoError(m.c.t, err)
	require.Len(m.c.t, o.Versions, 1)
	return o.Versions[0]
}

// actorIDs are the short ids that a store gave to actors.
type actorIDs struct{ list []kv.Actor }

func (m *member) actorIDs() *actorIDs {
	out := &actorIDs{}
	lower, upper := cache.PrefixRange('a')
	require.NoError(m.c.t, m.store.Scan(lower, upper, func(_, value []byte) (bool, error) {
		out.list = append(out.list, kv.ActorFrom(value))
		return true, nil
	}))
	return out
}

func (a *actorIDs) ID(x kv.Actor) uint32 { return uint32(slices.Index(a.list, x)) }

func (a *actorIDs) Actor(id uint32) (kv.Actor, bool) {
	if int(id) >= len(a.list) {
		return kv.Actor{}, false
	}
	return a.list[id], true
}

// finds has a node look at a partition of which something is damaged.
func (c *cluster) finds(name string, p kv.Partition) replica.Scrubbed {
	c.t.Helper()
	out, err := c.nodes[name].replica.Scrub(c.t.Context(), p)
	require.NoError(c.t, err)
	require.False(c.t, out.Fit, "the look finds it")
	return out
}

// scrub has a node look at the partition of a key, and waits until it is healed.
func (c *cluster) scrub(name, key string) {
	c.t.Helper()
	c.finds(name, partOf(key))
	c.healed(name, key)
}

func (c *cluster) healed(name, key string) {
	c.t.Helper()
	c.wait("healed", func() bool {
		p, ok := c.nodes[name].replica.Part(partOf(key))
		return ok && p.Path == "L4" && p.State == kv.Live && p.Verified && p.Trust == kv.Whole
	})
	l, err := c.nodes[name].set.Shard(partOf(key)).Look(nil)
	require.NoError(c.t, err)
	require.True(c.t, l.Fit())
}
