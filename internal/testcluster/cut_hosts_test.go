package testcluster_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// A host whose cable is pulled goes on for its own side, and so do the others;
// with the cable back, each side has what the other wrote.
func TestBothSidesOfACutServeAndHeal(t *testing.T) {
	t.Parallel()
	l := newLab(t, threeHosts())
	if l.lan == "" {
		t.Log("loopback addresses have no cable to pull; processes that are paused stand for it in other tests")
		return
	}
	me, n1, n3 := l.hosts["me"], l.hosts["n1"], l.hosts["n3"]
	me.must("CGO_ENABLED=0 go install ./cmd/edged && edged ca init")
	join := " --cluster-found"
	for _, name := range []string{"n1", "n2", "n3"} {
		h := l.hosts[name]
		me.must(fmt.Sprintf("edged ca issue %s && scp -r %s %s:tls", name, name, h.addr))
		h.serve(fmt.Sprintf("edged serve --tls-dir tls --node-listen %[1]s:7383 --resp-listen %[1]s:7379 --http-listen 127.0.0.1:0%[2]s", h.addr, join))
		h.waitFor("edged status")
		join = " --cluster-join 10.0.0.1:7383"
	}
	keys := func(h *labHost, verb, suffix string) string {
		return fmt.Sprintf("for i in $(seq 20); do redis-cli -h %s -p 7379 %s key-$i %s; done", h.addr, verb, suffix)
	}
	n1.must(keys(n1, "set", "before"))
	n3.waitFor("redis-cli -h 10.0.0.3 -p 7379 get key-20 | grep -x before")

	l.ip("-n", l.lan, "link", "set", "n3", "down")
	n1.waitFor("redis-cli -h 10.0.0.1 -p 7379 set probe 1 | grep -x OK") // a write to an owner that is gone is unknown
	n1.must(keys(n1, "set", "meanwhile") + "; redis-cli -h 10.0.0.1 -p 7379 del key-7")
	n3.waitFor("edged status | grep 'partitions are isolated'")
	require.Equal(t, "before\n", n3.must("redis-cli -h 10.0.0.3 -p 7379 get key-20"), "its side, as it was")
	require.Equal(t, "OK\n", n3.must("redis-cli -h 10.0.0.3 -p 7379 set lonely here"))

	l.ip("-n", l.lan, "link", "set", "n3", "up")
	n3.waitFor("edged status | grep 'PARTITIONS HERE  256 live'")
	require.Equal(t, "meanwhile\n", n3.must("redis-cli -h 10.0.0.3 -p 7379 get key-20"), "from its first answer as a live copy")
	require.Equal(t, "\n", n3.must("redis-cli -h 10.0.0.3 -p 7379 get key-7"), "deleted meanwhile")
	n1.waitFor("redis-cli -h 10.0.0.1 -p 7379 get lonely | grep -x here")
	for _, name := range []string{"n1", "n2", "n3"} {
		l.hosts[name].stop()
	}
}
