package replica_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/partition/state"
	"edged.dev/edged/replica"
)

// slow is a policy that shows the newest version, after a while.
type slow struct {
	wait  func(nth int)
	asked int
}

func (s *slow) View(ctx context.Context, key []byte, live []kv.Version) (replica.View, error) {
	s.asked++
	s.wait(s.asked)
	return newest{}.View(ctx, key, live)
}

// inConflict returns a node with a key of which it holds two versions, and what adds one.
func inConflict(t *testing.T, s *slow) (c *cluster, add func(value string)) {
	t.Helper()
	c = newCluster(t, "n1")
	n1 := c.nodes["n1"]
	n1.cfg = func(cfg *replica.Config) { cfg.Merger = s }
	n1.start()
	c.live("n1")
	c.set("n1", "k", "v")
	seq := uint64(0)
	add = func(value string) {
		seq++
		v := kv.Version{Dot: kv.Dot{Actor: kv.Actor{Node: 9, Boot: 1, Rand: 1}, Seq: seq}, HLC: kv.HLC(1<<62 + seq), Value: []byte(value)}
		done := make(chan struct{})
		got := state.Received{Key: []byte("k"), Object: kv.Object{Versions: []kv.Version{v}}, From: 9}
		require.NoError(t, n1.set.Shard(partOf("k")).Apply(got, func() { close(done) }))
		<-done
	}
	add("sibling 0")
	return c, add
}

// While the policy of a conflict takes its time for a conditional write, others of the same
// lock go on.
func TestASlowPolicyHoldsUpNoOtherWrite(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		release, s := make(chan struct{}), &slow{}
		s.wait = func(int) { <-release }
		c, _ := inConflict(t, s)
		answers := make(chan *kv.Response, 1)
		req := kv.Request{Op: kv.OpSet, Key: []byte("k"), Value: []byte("w"), XX: true, ReturnOld: true}
		c.nodes["n1"].replica.Start(t.Context(), &req, func(resp *kv.Response, err error) {
			require.NoError(t, err)
			answers <- resp
		})
		synctest.Wait()
		require.Equal(t, 1, s.asked)
		other := ""
		for i := 0; other == ""; i++ { // the same partition and lock
			h, k := kv.Hash([]byte("k")), fmt.Sprint("other", i)
			if x := kv.Hash([]byte(k)); partOf(k) == partOf("k") && x%64 == h%64 {
				other = k
			}
		}
		c.set("n1", other, "x")
		require.Empty(t, answers)
		close(release)
		resp := <-answers
		require.Equal(t, "sibling 0", string(resp.Value))
		require.True(t, resp.Changed)
		require.Equal(t, 1, s.asked, "once is enough where nothing else was written")
		require.Equal(t, "w", c.nodes["n1"].holds("k"))
	})
}

// What the policy was asked about and is no more what is there is asked anew. A write that
// was overtaken so as often as it may be asks under the lock, where it is not.
func TestAWriteThatIsOvertakenAsksAgain(t *testing.T) {
	for overtaken := range replica.MaxAsks + 1 {
		t.Run(fmt.Sprint(overtaken, " times"), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := &slow{wait: func(int) {}}
				c, add := inConflict(t, s)
				s.wait = func(nth int) {
					if nth <= overtaken {
						add(fmt.Sprint("sibling ", nth))
					}
				}
				resp, err := c.do("n1", kv.Request{Op: kv.OpSet, Key: []byte("k"), Value: []byte("w"), XX: true, ReturnOld: true})
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint("sibling ", overtaken), string(resp.Value), "decided by what it supersedes")
				require.Equal(t, overtaken+1, s.asked)
				o, _, err := c.nodes["n1"].set.Shard(partOf("k")).Read([]byte("k"))
				require.NoError(t, err)
				require.Len(t, o.Live(nil, 0), 1)
				require.Equal(t, "w", c.nodes["n1"].holds("k"))
			})
		})
	}
}

// Nor does one that is asked for the entity tag of what a write left side by side: who
// publishes writes, and who takes acknowledgements, does not wait for it.
func TestTheTagOfAConflictHoldsUpNoOtherWrite(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		release, s := make(chan struct{}), &slow{}
		s.wait = func(int) {}
		c, add := inConflict(t, s)
		read, err := c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte("k"), Meta: true})
		require.NoError(t, err)
		add("unseen") // by who writes
		s.wait, s.asked = func(int) { <-release }, 0
		answers := make(chan *kv.Response, 1)
		req := kv.Request{Op: kv.OpSet, Key: []byte("k"), Value: []byte("w"), Token: read.Token, Meta: true}
		c.nodes["n1"].replica.Start(t.Context(), &req, func(resp *kv.Response, err error) {
			require.NoError(t, err)
			answers <- resp
		})
		synctest.Wait()
		require.Equal(t, 1, s.asked)
		c.set("n1", "other", "x")
		require.Empty(t, answers)
		close(release)
		resp := <-answers
		read, err = c.do("n1", kv.Request{Op: kv.OpGet, Key: []byte("k"), Meta: true})
		require.NoError(t, err)
		require.Equal(t, read.ETag, resp.ETag)
		require.NotEmpty(t, resp.ETag)
	})
}
