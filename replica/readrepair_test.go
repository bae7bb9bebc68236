package replica_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
)

// A read of three copies that finds them apart mends them behind its answer, long
// before the tick would: the reader's own as well as another's.
func TestAReadMendsTheCopiesThatItFoundApart(t *testing.T) {
	for lacking, writer := range map[string]string{"n1": "n2", "n2": "n1"} {
		t.Run(lacking+" lacks it", func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(t, "n1", "n2", "n3")
				c.up()
				key := c.keyFirstAt(writer)
				c.set(writer, key, "old")
				c.equal(c.names...)
				c.wires.with(func(w *wires) {
					w.live = func(_, to string) liveFate {
						if to == lacking {
							return swallow
						}
						return deliver
					}
				})
				c.set(writer, key, "new")
				c.wires.with(func(w *wires) { w.live = nil })
				require.Equal(t, "old", c.nodes[lacking].holds(key))
				resp, err := c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte(key), R: 3})
				require.NoError(t, err)
				require.Equal(t, "new", string(resp.Value))
				time.Sleep(100 * time.Millisecond) // virtual
				require.Equal(t, "new", c.nodes[lacking].holds(key))
				require.EqualValues(t, 1, c.nodes["n1"].replica.Stats().ReadRepairs.Load())
				c.equal(c.names...)
				_, err = c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte(key), R: 3})
				require.NoError(t, err)
				require.EqualValues(t, 1, c.nodes["n1"].replica.Stats().ReadRepairs.Load(), "nothing was left to mend")
			})
		})
	}
}

// A front door uses a request's memory again for the next one as soon as it has the
// answer: what is mended behind the answer must not go by it.
func TestARepairGoesByNoMemoryOfTheRequest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		key := c.keyFirstAt("n2")
		c.wires.with(func(w *wires) {
			w.live = func(_, to string) liveFate {
				if to == "n1" {
					return swallow
				}
				return deliver
			}
		})
		c.set("n2", key, "new")
		c.wires.with(func(w *wires) { w.live = nil })
		req := kv.Request{Op: kv.OpGet, Key: []byte(key), R: 3}
		buffer := req.Key
		answered := make(chan struct{})
		c.nodes["n1"].replica.Start(t.Context(), &req, func(*kv.Response, error) {
			copy(buffer, "another's memory")
			req = kv.Request{Op: kv.OpGet, Key: []byte("another")}
			close(answered)
		})
		<-answered
		time.Sleep(100 * time.Millisecond) // virtual
		require.Equal(t, "new", c.nodes["n1"].holds(key))
		require.Equal(t, 1, c.nodes["n1"].values(), "and nothing else")
		c.equal(c.names...)
	})
}

// A node that stops asks nobody any more, and one copy is not what was asked for.
func TestANodeThatStopsAnswersNoReadOfSeveralCopiesByItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		c.up()
		c.set("n1", "k", "v")
		r := c.nodes["n1"].replica
		c.nodes["n1"].kill()
		for _, copies := range []int{1, 2} {
			answered := make(chan error, 1)
			r.Start(t.Context(), &kv.Request{Op: kv.OpGet, Key: []byte("k"), R: copies}, func(_ *kv.Response, err error) { answered <- err })
			if err := <-answered; copies == 1 {
				require.NoError(t, err)
			} else {
				require.Equal(t, kv.CodeUnavailable, kv.CodeOf(err), "%v", err)
			}
		}
	})
}
