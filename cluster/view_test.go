package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

func life(boot uint32, alive bool, addrs ...string) Member {
	return Member{Name: "n2", Node: 2, Boot: boot, Alive: alive, Addresses: addrs}
}

func drain(v *view) (events []Event) {
	for e, ok := v.next(); ok; e, ok = v.next() {
		events = append(events, e)
	}
	return events
}

func TestHighestBootWins(t *testing.T) {
	t.Parallel()
	v := newView(1)
	v.set(life(5, true))
	v.set(life(4, true))
	require.Equal(t, []Event{{Joined, life(5, true)}}, drain(v))
	v.set(life(4, false))
	require.Empty(t, drain(v), "the end of an earlier life is no news")
	v.set(life(6, true))
	v.set(life(5, false))
	require.Equal(t, []Event{{Joined, life(6, true)}}, drain(v), "a restart is one event")
	v.set(life(6, false))
	v.set(life(5, true))
	require.Equal(t, []Event{{Left, life(6, false)}}, drain(v), "an earlier life does not come back")
}

func TestChangesNotToldAreFolded(t *testing.T) {
	t.Parallel()
	v := newView(1)
	v.set(life(1, true, "a:1"))
	v.set(life(1, true, "a:1", "b:1"))
	require.Equal(t, []Event{{Joined, life(1, true, "a:1", "b:1")}}, drain(v))
	v.set(life(1, false))
	v.set(life(1, true, "a:1", "b:1"))
	require.Empty(t, drain(v), "gone and back before anyone was told")
	v.set(life(1, true, "c:1"))
	require.Equal(t, []Event{{Updated, life(1, true, "c:1")}}, drain(v))
	v.set(Member{Name: "n3", Node: 3})
	require.Empty(t, drain(v), "the end of a life never seen")
}

func TestNotificationsOfSelfAndOfRubbishAreDropped(t *testing.T) {
	t.Parallel()
	v := newView(1)
	meta, err := encodeMeta("n2", []string{"host:7383"})
	require.NoError(t, err)
	for _, n := range []*memberlist.Node{
		{Name: memberName(1, 9), Meta: meta},
		{Name: "stranger", Meta: meta},
		{Name: memberName(2, 1), Meta: []byte("rubbish")},
		{Name: memberName(2, 1)},
	} {
		v.NotifyJoin(n)
	}
	require.Empty(t, v.members())
	v.NotifyJoin(&memberlist.Node{Name: memberName(2, 1), Meta: meta, Addr: []byte{10, 0, 0, 2}, Port: 7})
	require.Equal(t, []Member{life(1, true, "host:7383", "10.0.0.2:7")}, v.members())
}

func TestMembersAreBounded(t *testing.T) {
	t.Parallel()
	v := newView(1)
	for node := range uint64(maxMembers + 1) {
		v.set(Member{Node: 2 + node, Alive: true})
	}
	require.Len(t, v.members(), maxMembers)
	drain(v)
	v.set(Member{Node: 2})
	require.Len(t, drain(v), 1)
	v.set(Member{Node: 1 << 40, Alive: true})
	require.Len(t, v.members(), maxMembers)
	require.Equal(t, uint64(1<<40), drain(v)[0].Member.Node, "a dead one made room")
}

func TestDeliveryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newView(1)
		ctx, stop := context.WithCancel(t.Context())
		done, told := make(chan error, 1), make(chan Event, 2)
		go func() { done <- v.deliver(ctx, func(e Event) { told <- e }) }()
		v.set(life(1, true))
		require.Equal(t, Joined, (<-told).Kind)
		stop()
		require.NoError(t, <-done)
	})
}

func TestMemberNameRoundTrips(t *testing.T) {
	t.Parallel()
	node, boot, err := parseMemberName(memberName(1<<63+5, 1<<32-1))
	require.NoError(t, err)
	require.Equal(t, uint64(1<<63+5), node)
	require.Equal(t, uint32(1<<32-1), boot)
	for _, bad := range []string{"", "@", "n1", "00@1", memberName(1, 1) + "x", "zzzzzzzzzzzzzzzz@1", "0000000000000001@4294967296"} {
		_, _, err := parseMemberName(bad)
		require.Error(t, err, bad)
	}
}

func TestMetaRoundTripsWithinMemberlistsLimit(t *testing.T) {
	t.Parallel()
	addrs := []string{"10.0.0.1:7383", "[2001:db8::1]:7383", "n1.example:7383"}
	b, err := encodeMeta("n1", addrs)
	require.NoError(t, err)
	name, got, err := parseMeta(append(b, "of a later version"...))
	require.NoError(t, err)
	require.Equal(t, "n1", name)
	require.Equal(t, addrs, got)
	for n := range b {
		_, _, err := parseMeta(b[:n])
		require.ErrorIs(t, err, errMeta, "prefix of %d bytes", n)
	}
	long := strings.Repeat("a", 200)
	_, err = encodeMeta("n1", []string{long, long, long})
	require.Error(t, err, "memberlist would panic")
	_, err = encodeMeta("n1", make([]string, maxAddresses+1))
	require.Error(t, err)
	_, err = encodeMeta("n1", []string{strings.Repeat("a", maxAddressBytes+1)})
	require.Error(t, err)
}

// FuzzMeta: whatever parses is within the limits and says the same again.
func FuzzMeta(f *testing.F) {
	b, err := encodeMeta("n1", []string{"10.0.0.1:7383"})
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		name, addrs, err := parseMeta(b)
		if err != nil || len(b) > memberlist.MetaMaxSize {
			return
		}
		again, err := encodeMeta(name, addrs)
		require.NoError(t, err)
		require.Equal(t, b[:len(again)], again)
	})
}

func TestFileStoreKeepsPeersAndRefusesRubbish(t *testing.T) {
	t.Parallel()
	file := FileStore(filepath.Join(t.TempDir(), "peers.json"))
	peers, err := file.Load()
	require.NoError(t, err)
	require.Empty(t, peers)
	want := []Peer{{Name: "n2", Node: 1<<64 - 1, Boot: 3, Addresses: []string{"a:1"}}}
	require.NoError(t, file.Save(want))
	peers, err = file.Load()
	require.NoError(t, err)
	require.Equal(t, want, peers)
	left, err := os.ReadDir(filepath.Dir(string(file)))
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing is left beside it")
	require.NoError(t, os.WriteFile(string(file), []byte("{"), 0o600))
	_, err = file.Load()
	require.Error(t, err)
}

// failing is a store whose saves fail until told otherwise.
type failing struct {
	err   error
	saved []Peer
}

func (f *failing) Load() ([]Peer, error) { return nil, nil }

func (f *failing) Save(p []Peer) error {
	if f.err == nil {
		f.saved = p
	}
	return f.err
}

func TestMemoryHoldsOneDirectoryAName(t *testing.T) {
	t.Parallel()
	store := &failing{}
	m, err := newMemory(store, 1)
	require.NoError(t, err)
	require.NoError(t, m.note(life(1, true, "a:1")))
	wiped := life(1, true, "a:1")
	wiped.Node = 77
	require.NoError(t, m.note(wiped))
	require.Equal(t, []Peer{{Name: "n2", Node: 77, Boot: 1, Addresses: []string{"a:1"}}}, store.saved)

	store.err = errors.New("disk full")
	require.Error(t, m.note(life(2, true, "b:1")))
	store.err = nil
	require.NoError(t, m.forget(99))
	require.Equal(t, []string{"b:1"}, store.saved[0].Addresses, "the next save has what the failed one had")
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Cluster: "c", Name: "n1", Addresses: []string{"a:1"}})
	require.ErrorContains(t, err, "no link")
	_, err = New(Config{Cluster: strings.Repeat("c", 300), Name: "n1"})
	require.ErrorContains(t, err, "cluster ID")
	_, err = New(Config{Cluster: "c"})
	require.ErrorContains(t, err, "name")
}
