package testcluster_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/testcluster"
)

// busyKiBps is the example's bound: who sends more is not fetched from by day.
const busyKiBps = 4096

// localHour returns the setting of a time zone in which it is that hour now.
func localHour(t *testing.T, hour int) string {
	t.Helper()
	const version, types, abbreviation = '2', 1, "HERE\x00"
	block := func(b *bytes.Buffer) { // RFC 8536: a header, one local time type and its name
		b.WriteString("TZif")
		b.WriteByte(version)
		b.Write(make([]byte, 15))
		for _, n := range []uint32{0, 0, 0, 0, types, uint32(len(abbreviation))} {
			_ = binary.Write(b, binary.BigEndian, n) // into memory
		}
		_ = binary.Write(b, binary.BigEndian, int32((hour-time.Now().UTC().Hour())*3600))
		b.WriteString("\x00\x00" + abbreviation)
	}
	var file bytes.Buffer
	block(&file) // for readers of 32 bits, and again for the others
	block(&file)
	file.WriteString("\n\n")
	path := filepath.Join(t.TempDir(), "zone")
	require.NoError(t, os.WriteFile(path, file.Bytes(), 0o600))
	return "TZ=:" + path
}

// busy has clients write large values by way of a node, which keeps its link and that of
// another owner busy, until the returned function is called.
func busy(t *testing.T, n *testcluster.Node) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			client := redis.NewClient(&redis.Options{Addr: n.Ports().RESP})
			defer client.Close()
			value := strings.Repeat("v", 1<<20)
			for i := 0; ctx.Err() == nil; i++ {
				_ = client.Set(ctx, fmt.Sprintf("large:%d:%d", w, i%8), value, 0).Err() // what it sends is what counts
			}
		})
	}
	return func() { cancel(); writers.Wait() }
}

// newestPlan returns the newest plan that the policy made for a node, nil while there is none.
func newestPlan(ctx context.Context, n *testcluster.Node) *admin.RepairPlan {
	plans, err := n.Admin().RepairPlan(ctx, 0, false)
	if err != nil || plans.Plan == nil || !plans.Plan.Enforced || plans.Plan.Fallback != "" {
		return nil
	}
	return plans.Plan
}

// plansOf returns the plans that a node has made since its start, as far as it has kept
// them, the newest first.
func plansOf(ctx context.Context, n *testcluster.Node) (out []*admin.RepairPlan) {
	for p := newestPlan(ctx, n); p != nil; {
		out = append(out, p)
		if p.Seq <= 1 {
			break
		}
		before, err := n.Admin().RepairPlan(ctx, p.Seq-1, false)
		if err != nil {
			break
		}
		p = before.Plan
	}
	return out
}

// sends returns what each peer of a plan's input sends.
func sends(p *admin.RepairPlan) map[string]uint32 {
	out := map[string]uint32{}
	for _, peer := range p.Input.Peers[1:] {
		out[peer.Name] = peer.EgressKiBps
	}
	return out
}

// steps returns how many of a plan's steps do that with a partition of a busy peer, or
// of one that is not.
func steps(p *admin.RepairPlan, strategy string, ofBusy bool) (n int) {
	sent := sends(p)
	for _, s := range p.Steps {
		if s.Fate == "kept" && s.Strategy == strategy && (sent[s.Peer] > busyKiBps) == ofBusy {
			n++
		}
	}
	return n
}

// TestABusyLinkHoldsASyncBackByDay deploys the example "quiet links only, full speed at
// night". A node that returns by day waits while its donors send much, and comes back
// when they do not; by night it does not ask.
func TestABusyLinkHoldsASyncBackByDay(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	binary, err := testcluster.Build(ctx, t.TempDir())
	require.NoError(t, err)
	c := testcluster.ForTest(ctx, t, testcluster.Options{Binary: binary})
	for _, n := range c.Nodes() {
		require.NoError(t, n.WaitVerified(ctx))
	}
	n1, n3 := c.Node(0), c.Node(2)
	module, err := filepath.Abs("../../wasm-examples/quiet-night-as/quietnight.wasm")
	require.NoError(t, err)
	out, err := exec.CommandContext(ctx, binary, "policy", "deploy", module, "--kind", "repair", "--admin", n1.Ports().Admin).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Eventually(t, func() bool {
		p, err := n3.Admin().Policy(ctx, "quietnight")
		return err == nil && p.Ready && len(p.Bindings) == 1
	}, time.Minute, 10*time.Millisecond)

	// comesBack has n3 return while the others are busy, until a plan is seen: a link is
	// quiet for a moment on a machine that has other things to do.
	client := redis.NewClient(&redis.Options{Addr: n1.Ports().RESP})
	defer client.Close()
	comesBack := func(zone, what string, seen func(*admin.RepairPlan) bool) {
		n3.SetEnv(zone)
		for found := false; !found; {
			require.NoError(t, ctx.Err(), "no plan was seen that %s", what)
			require.NoError(t, n3.Stop(ctx))
			for i := range 50 { // and what the others write
				require.NoError(t, client.Set(ctx, fmt.Sprint("missed:", i), zone, 0).Err())
			}
			_, err := n3.Start(ctx)
			require.NoError(t, err)
			require.NoError(t, n3.WaitPorts(ctx))
			require.Eventually(t, func() bool {
				if p := newestPlan(ctx, n3); p != nil && seen(p) {
					found = true
					return true
				}
				r, err := n3.Admin().Readyz(ctx)
				return err == nil && r.Ready // it got through: again
			}, 2*time.Minute, 20*time.Millisecond, "neither held back nor ready: %s", what)
		}
	}

	quiet := busy(t, n1)
	comesBack(localHour(t, 12), "holds everything back", func(p *admin.RepairPlan) bool {
		assert.Zero(t, steps(p, "sync", true), "by day nothing is fetched from a busy peer: %+v", p.Input.Peers)
		return steps(p, "defer", true) > 0 && steps(p, "sync", false) == 0
	})
	quiet()
	require.NoError(t, n3.WaitReady(ctx))
	fetched := 0
	for _, plan := range plansOf(ctx, n3) { // the last one may find that nothing is missing any more
		require.Zero(t, steps(plan, "sync", true), "%+v", plan.Input.Peers)
		fetched += steps(plan, "sync", false)
	}
	require.Positive(t, fetched)

	defer busy(t, n1)()
	comesBack(localHour(t, 2), "fetches from a busy peer", func(p *admin.RepairPlan) bool { return steps(p, "sync", true) > 0 })
	require.NoError(t, n3.WaitReady(ctx))
}
