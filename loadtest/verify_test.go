package main

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/transport/wire"
)

const testPartitions = 4

// testActor issues the dots of planted versions.
func testActor(node uint64) kv.Actor { return kv.Actor{Node: kv.NodeID(node), Boot: 1, Rand: 2} }

// versionOf is write n on a key as a dump shows it.
func versionOf(l *ledger, key string, n uint32) version {
	return version{
		key: key, dot: kv.Dot{Actor: testActor(1), Seq: uint64(n)}, hlc: uint64(n) << 16,
		sum: xxh3.Hash(l.values.of(n)), bytes: len(l.values.of(n)),
	}
}

// dumpOf is a copy of all that the ledger wants, tombstones among it.
func dumpOf(l *ledger, node string) nodeDump {
	out := nodeDump{node: node, partitions: map[uint32]*partitionDump{}}
	for id := range uint32(testPartitions) {
		out.partitions[id] = &partitionDump{root: "00", clock: []admin.ClockEntry{{Actor: "a", Base: 7}}}
	}
	for i, e := range l.want {
		for _, n := range []uint32{e.a, e.b} {
			if n == 0 {
				continue
			}
			v := versionOf(l, l.key(i), n)
			if e.gone {
				v = version{key: v.key, dot: v.dot, hlc: v.hlc, tombstone: true}
			}
			p := out.of(v.key)
			p.versions = append(p.versions, v)
		}
	}
	for _, p := range out.partitions {
		slices.SortFunc(p.versions, order)
	}
	return out
}

// of returns the partition of a key.
func (d nodeDump) of(key string) *partitionDump {
	return d.partitions[uint32(kv.PartitionOf(kv.Hash([]byte(key)), testPartitions))]
}

// drop removes what a copy holds of a key.
func (d nodeDump) drop(key string) {
	p := d.of(key)
	p.versions = slices.DeleteFunc(p.versions, func(v version) bool { return v.key == key })
}

// put adds a version to a copy.
func (d nodeDump) put(v version) {
	p := d.of(v.key)
	p.versions = append(p.versions, v)
	slices.SortFunc(p.versions, order)
}

// storyLedger has 40 keys: key 0 is overwritten, 1 deleted, 2 a conflict.
func storyLedger() *ledger {
	l := testLedger(40)
	for i := range l.want {
		l.want[i] = expectation{a: l.number()}
	}
	l.want[0] = expectation{a: l.number()}
	l.want[1].gone = true
	l.want[2] = expectation{a: l.number(), b: l.number()}
	return l
}

func everywhere() placement {
	out := placement{partitions: testPartitions, owners: map[uint32][]string{}}
	for id := range uint32(testPartitions) {
		out.owners[id] = []string{"n1", "n2", "n3"}
	}
	return out
}

func copies(l *ledger) []nodeDump {
	return []nodeDump{dumpOf(l, "n1"), dumpOf(l, "n2"), dumpOf(l, "n3")}
}

func TestVerifyPassesWhatIsRight(t *testing.T) {
	t.Parallel()
	l := storyLedger()
	require.Equal(t, verification{rootsEqual: true}, verify(l.wanted(), everywhere(), copies(l)))
}

// Each fault that copies can have is planted here, and must be counted.
func TestVerifyCountsPlantedFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		plant func(l *ledger, d []nodeDump)
		want  verification
	}{
		"one copy lost a key": {
			func(l *ledger, d []nodeDump) { d[1].drop(l.key(7)) },
			verification{lost: 1, diverged: 1, rootsEqual: true},
		},
		"all copies lost a key": {
			func(l *ledger, d []nodeDump) {
				for i := range d {
					d[i].drop(l.key(7))
				}
			},
			verification{lost: 1, rootsEqual: true},
		},
		"a node lost a partition": {
			func(l *ledger, d []nodeDump) {
				delete(d[2].partitions, uint32(kv.PartitionOf(kv.Hash([]byte(l.key(7))), testPartitions)))
			},
			verification{lost: 11, diverged: 11, rootsEqual: false},
		},
		"an overwrite is undone": {
			func(l *ledger, d []nodeDump) {
				for i := range d {
					d[i].drop(l.key(0))
					d[i].put(versionOf(l, l.key(0), 1))
				}
			},
			verification{lost: 1, rootsEqual: true},
		},
		"a deleted key is back at one node": {
			func(l *ledger, d []nodeDump) { d[2].drop(l.key(1)); d[2].put(versionOf(l, l.key(1), 2)) },
			verification{resurrected: 1, diverged: 1, rootsEqual: true},
		},
		"half of a conflict is gone": {
			func(l *ledger, d []nodeDump) {
				for i := range d {
					d[i].drop(l.key(2))
					d[i].put(versionOf(l, l.key(2), l.want[2].b))
				}
			},
			verification{lost: 1, rootsEqual: true},
		},
		"a write left what it should have covered": {
			func(l *ledger, d []nodeDump) {
				for i := range d {
					d[i].put(versionOf(l, l.key(0), 1))
				}
			},
			verification{leftovers: 1, rootsEqual: true},
		},
		"a write that was sent again took effect twice": {
			func(l *ledger, d []nodeDump) {
				for i := range d {
					v := versionOf(l, l.key(0), l.want[0].a)
					v.dot.Seq += 1000
					d[i].put(v)
				}
			},
			verification{rootsEqual: true},
		},
		"the same dot with another value": {
			func(l *ledger, d []nodeDump) {
				p := d[1].of(l.key(9))
				for i := range p.versions {
					if p.versions[i].key == l.key(9) {
						p.versions[i].sum++
					}
				}
			},
			verification{lost: 1, diverged: 1, rootsEqual: true},
		},
		"clocks apart": {
			func(_ *ledger, d []nodeDump) { d[1].partitions[3].clock[0].Base = 8 },
			verification{diverged: 1, rootsEqual: true},
		},
		"runs apart": {
			func(_ *ledger, d []nodeDump) {
				d[1].partitions[3].clock[0].Runs = []admin.ClockRun{{First: 9, Last: 9}}
			},
			verification{diverged: 1, rootsEqual: true},
		},
		"roots apart": {
			func(_ *ledger, d []nodeDump) { d[2].partitions[0].root = "01" },
			verification{rootsEqual: false},
		},
		"the system partition apart": {
			func(l *ledger, d []nodeDump) {
				for i := range d {
					d[i].partitions[uint32(kv.System)] = &partitionDump{}
				}
				d[1].partitions[uint32(kv.System)].versions = []version{versionOf(l, "member/n1", 1)}
			},
			verification{diverged: 1, rootsEqual: true},
		},
		"a stranger's key in one copy alone": {
			func(l *ledger, d []nodeDump) { d[0].put(versionOf(l, "elsewhere", 1)) },
			verification{diverged: 1, rootsEqual: true},
		},
		"tombstones in one copy alone": {
			func(_ *ledger, d []nodeDump) { d[0].put(version{key: "collected", tombstone: true}) },
			verification{rootsEqual: true},
		},
		"a traffic write lost": {
			func(l *ledger, _ []nodeDump) {
				l.begun[3].Store(firstTraffic + 1)
				l.traffic[3].Store(firstTraffic + 1)
			},
			verification{lost: 1, rootsEqual: true},
		},
		"a traffic write that nobody acknowledged": {
			func(l *ledger, d []nodeDump) {
				l.traffic[3].Store(firstTraffic + 1)
				l.begun[3].Store(firstTraffic + 2)
				for i := range d {
					d[i].put(versionOf(l, l.trafficKey(3), firstTraffic+2))
				}
			},
			verification{rootsEqual: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := storyLedger()
			d := copies(l)
			tc.plant(l, d)
			got := verify(l.wanted(), everywhere(), d)
			wrong := tc.want.lost+tc.want.resurrected+tc.want.diverged > 0 || !tc.want.rootsEqual
			require.Equal(t, wrong || tc.want.leftovers > 0, len(got.faults) > 0, "what is wrong is told")
			got.faults = nil
			if name == "a node lost a partition" {
				require.Equal(t, got.lost, got.diverged)
				require.Positive(t, got.lost)
				got.lost, got.diverged = tc.want.lost, tc.want.diverged
			}
			require.Equal(t, tc.want, got)
			r := Report{}
			r.found(got)
			require.Equal(t, !wrong, r.ok())
		})
	}
}

func TestOnlyOwnersAreHeldToAKey(t *testing.T) {
	t.Parallel()
	l := storyLedger()
	where := everywhere()
	for id := range where.owners {
		where.owners[id] = []string{"n1", "n3"}
	}
	d := copies(l)
	d[1] = nodeDump{node: "n2"}
	require.Equal(t, verification{rootsEqual: true}, verify(l.wanted(), where, d))
	require.Positive(t, verify(l.wanted(), everywhere(), d).lost)
}

// neededOf is the yardstick over some keys' versions, made by hand.
func neededOf(t *testing.T, l *ledger, keys ...int) int {
	t.Helper()
	var entries []wire.Needed
	for _, i := range keys {
		key := l.key(i)
		entry := wire.Needed{Partition: kv.PartitionOf(kv.Hash([]byte(key)), testPartitions)}
		entry.Key = []byte(key)
		for _, n := range []uint32{l.want[i].a, l.want[i].b} {
			if n == 0 {
				continue
			}
			v := kv.Version{Dot: kv.Dot{Actor: testActor(1), Seq: uint64(n)}, HLC: kv.HLC(uint64(n) << 16)}
			if l.want[i].gone {
				v.Flags = kv.Tombstone
			} else {
				v.Value = l.values.of(n)
			}
			entry.Object.Versions = append(entry.Object.Versions, v)
		}
		entries = append(entries, entry)
	}
	n, err := wire.NeededBytes(entries)
	require.NoError(t, err)
	return n
}

func TestNeededIsWhatTheNodeLacked(t *testing.T) {
	t.Parallel()
	l := storyLedger()
	own := dumpOf(l, "n3")
	for _, i := range []int{0, 1, 2} {
		own.drop(l.key(i))
	}
	own.put(versionOf(l, l.key(0), 1)) // it has the older write, which nobody else has any more
	donors := copies(l)[:2]
	got, err := neededBy(l.value, everywhere(), donors, own)
	require.NoError(t, err)
	require.Equal(t, lack{versions: 4, bytes: neededOf(t, l, 0, 1, 2)}, got, "two donors count once")

	all := make([]int, len(l.want))
	for i := range all {
		all[i] = i
	}
	got, err = neededBy(l.value, everywhere(), donors, nodeDump{node: "n3"})
	require.NoError(t, err)
	require.Equal(t, lack{versions: 41, bytes: neededOf(t, l, all...)}, got, "a wiped disk lacks everything")

	got, err = neededBy(l.value, everywhere(), donors, dumpOf(l, "n3"))
	require.NoError(t, err)
	require.Zero(t, got)
	require.Zero(t, ratio(100, 0))
}

func TestNeededIsOfThePartitionsThatTheNodeOwns(t *testing.T) {
	t.Parallel()
	l := storyLedger()
	where := everywhere()
	where.owners[2] = []string{"n1", "n2"}
	got, err := neededBy(l.value, where, copies(l)[:2], nodeDump{node: "n3"})
	require.NoError(t, err)
	elsewhere := len(copies(l)[0].partitions[2].versions)
	require.Positive(t, elsewhere)
	require.Equal(t, 41-elsewhere, got.versions)
}

func TestNeededCountsWhatItCannotKnow(t *testing.T) {
	t.Parallel()
	l := storyLedger()
	donor := dumpOf(l, "n1")
	stranger := version{key: "elsewhere", dot: kv.Dot{Actor: testActor(5), Seq: 1}, sum: 77, bytes: 500}
	donor.put(stranger)
	got, err := neededBy(l.value, everywhere(), []nodeDump{donor}, dumpOf(l, "n3"))
	require.NoError(t, err)
	require.Equal(t, 1, got.unknown)
	require.Equal(t, 1, got.versions)
	require.Greater(t, got.bytes, 500, "its value counts as noise")
	require.Equal(t, noise(stranger), noise(stranger))
}

func TestPlanTouchesNoKeyTwice(t *testing.T) {
	t.Parallel()
	plans, err := makePlans(rand.New(rand.NewPCG(1, 1)), planSize{keys: 1000, changed: 100, deleted: 50, conflicts: 20, outages: 2})
	require.NoError(t, err)
	require.Len(t, plans, 2)
	p := plans[0]
	require.Len(t, p.overwritten, 80)
	require.Len(t, p.inserted, 20)
	require.Len(t, p.deleted, 50)
	require.Len(t, p.conflicting, 20)
	require.Equal(t, 100, p.changes())
	seen := map[int]bool{}
	for _, p := range plans {
		for _, list := range [][]int{p.overwritten, p.inserted, p.deleted, p.conflicting} {
			for _, i := range list {
				require.False(t, seen[i])
				seen[i] = true
			}
		}
	}
	require.Equal(t, 1000, p.inserted[0])
	require.Equal(t, 1020, plans[1].inserted[0])
	// 8 overwritten, 1 deleted and 1 conflict of 10 keys: once, and no more.
	_, err = makePlans(rand.New(rand.NewPCG(1, 1)), planSize{keys: 10, changed: 10, deleted: 1, conflicts: 1, outages: 1})
	require.NoError(t, err)
	for _, s := range []planSize{{keys: 10, changed: 10, deleted: 2, conflicts: 1, outages: 1}, {keys: 19, changed: 10, deleted: 1, conflicts: 1, outages: 2}} {
		_, err = makePlans(rand.New(rand.NewPCG(1, 1)), s)
		require.ErrorIs(t, err, errUsage)
	}
}

func TestLedgerKnowsItsKeys(t *testing.T) {
	t.Parallel()
	l := newLedger("run:", values{}, 3)
	l.want[2] = expectation{a: 5, b: 6}
	writes, known := l.find(l.key(2))
	require.True(t, known)
	require.Equal(t, []uint32{6, 5}, writes)
	l.begun[4].Store(firstTraffic + 2)
	l.traffic[4].Store(firstTraffic + 1)
	writes, known = l.find(l.trafficKey(4))
	require.True(t, known)
	require.Equal(t, []uint32{firstTraffic + 2, firstTraffic + 1}, writes)
	for _, name := range []string{"key-00000001", "run:key-00000003", "run:key--1", "run:key-x", "run:traffic-16", "run:", ""} {
		_, known := l.find(name)
		require.False(t, known, name)
	}
}
