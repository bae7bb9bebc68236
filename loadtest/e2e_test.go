package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/testcluster"
	_ "edged.dev/edged/node" // what the binary is made of: a change there runs these tests again
)

// built is the edged binary of this tree, made once for all tests here, if one
// wants it.
var built = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(testcluster.BinaryEnv); path != "" {
		return path, nil
	}
	return testcluster.Build(context.Background(), builtDir)
})

// builtDir is removed when the tests have run.
var builtDir string

// TestMain builds for the tests, or stands in for a node that returns: a run starts
// its own program for that.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == burnName {
		os.Exit(run(context.Background(), os.Args[1:], system{out: os.Stdout, err: os.Stderr, env: os.Getenv}))
	}
	dir, err := os.MkdirTemp("", "edged-built-")
	if err != nil {
		panic(err)
	}
	builtDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func edgedBinary(t *testing.T) string {
	t.Helper()
	// Reading its sources here makes a change of them a reason to run again.
	files, err := filepath.Glob("../cmd/edged/*.go")
	require.NoError(t, err)
	for _, file := range files {
		_, err := os.ReadFile(file)
		require.NoError(t, err)
	}
	path, err := built()
	require.NoError(t, err)
	return path
}

// The story of the problem, on three real processes: keys 1-100 are there, a
// node goes, keys 101-150 come, the node returns, and key 125 is asked of it.
func TestT0toT5(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"--outage kill", "--outage kill --disk wiped", "--outage pause"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			// How fast it is on a machine that does nothing else, the demo itself says.
			code, out, talk := runLine(t, "demo --exit --within 30s --edged "+edgedBinary(t)+" "+how)
			require.Zero(t, code, "%s\n%s", out, talk)
			require.Contains(t, out, `key-125 is "value 125": the very first answer that n3 gave`)
			require.Contains(t, out, "through n3: 145 of 145 keys right, 0 of 5 deleted ones back")
			require.Contains(t, out, `after, at n3: "apples\nbread\ncherries"`)
			require.Contains(t, out, "All of it held.")
			require.NotContains(t, out, "✗")
		})
	}
}

func TestRejoinMeasuresAndJudges(t *testing.T) {
	t.Parallel()
	for how, most := range map[string]int{
		"--outage kill":                120,  // 100 changed, 10 deleted, 5 conflicts of two
		"--outage kill --disk wiped":   1020, // all of it, the deletes as tombstones
		"--disk rolledback":            120,  // also what it acknowledged itself after the copy
		"--outage pause --down 2500ms": 120,
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			line := "rejoin --keys 1000 --changed 100 --deleted 10 --conflicts 5 --quiet-before 0s --down 0s --measure 300ms --timeout 60s -o json " + how
			page := filepath.Join(t.TempDir(), "new", "page.html")
			code, out, talk := runLine(t, line+" --report "+page+" --edged "+edgedBinary(t))
			require.Zero(t, code, "%s\n%s", out, talk)
			requirePage(t, page)
			var r Report
			require.NoError(t, json.Unmarshal([]byte(out), &r))
			require.True(t, r.ok(), out)
			require.Zero(t, r.Leftovers, out)
			require.Zero(t, r.UnknownVersions, out)
			missed := most
			if r.Disk == diskRolledBack {
				missed -= r.Deleted // these every owner held, and so all may have forgotten them
			}
			require.GreaterOrEqual(t, r.MissedVersions, missed)
			require.LessOrEqual(t, r.MissedVersions, most+trafficKeys, "the traffic's keys beside it")
			require.Positive(t, r.NeededBytes)
			require.Positive(t, r.FirstAnswerMS)
			require.LessOrEqual(t, r.CaughtUpMS, r.VerifiedMS)
			require.Less(t, r.CaughtUpMS, 10_000.0)
			require.Positive(t, r.WireBytesIn)
			require.Positive(t, r.WireBytesOut)
			require.Positive(t, r.ReadsDuring)
			require.Positive(t, r.ClientP99MS)
			if r.Outage == outageKill {
				require.Positive(t, r.SyncBytes)
				require.Positive(t, r.Path["L1"])
				steps := 0
				for _, n := range r.Path {
					steps += n
				}
				require.Equal(t, 256, steps, "each partition took a step")
			}
		})
	}
}

// The page is one file that asks for nothing else, with a plot for each question.
func requirePage(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 4, strings.Count(string(text), "<svg "))
	for _, part := range []string{"Partitions that serve", "Bytes against the bound", ">during</text>", "the least: ", "all right", "prefers-color-scheme: dark"} {
		require.Contains(t, string(text), part)
	}
	require.Greater(t, strings.Count(string(text), "<circle "), 256, "a dot for each partition")
	for _, part := range []string{"http:", "https:", "src=", "@import", "NaN", "Inf", "ZgotmplZ"} {
		require.NotContains(t, string(text), part)
	}
}

// Both sides of a partition take writes, and both sides' writes are there after it
// has healed; from its first answer on the node that was cut off is right about what
// the others acknowledged.
func TestRejoinAfterAPartition(t *testing.T) {
	t.Parallel()
	line := "rejoin --keys 1000 --changed 100 --deleted 10 --conflicts 5 --quiet-before 0s --down 3s --measure 300ms --outage partition --net rtt=4ms,rate=1Gbit -o json"
	code, out, talk := runLine(t, line+" --edged "+edgedBinary(t))
	var r Report
	require.NoError(t, json.Unmarshal([]byte(out), &r), talk)
	require.Zero(t, code, "%s\n%s", out, talk)
	require.True(t, r.ok(), out)
	require.Equal(t, "rtt=4ms,rate=1000Mbit", r.Net)
	require.GreaterOrEqual(t, r.MissedVersions, 60, "half of 110, and one of each conflict")
	require.GreaterOrEqual(t, r.OthersMissed, 120, "and so the two others, each")
	require.Greater(t, r.OthersNeeded, r.OthersMissed)
	require.InDelta(t, float64(r.SyncBytes)/float64(r.NeededBytes+r.OthersNeeded), r.Ratio, 1e-9)
	require.Positive(t, r.WireBytesIn)
	require.Positive(t, r.WireBytesOut)
}

// Of two live nodes with one name and copies of one disk one stands back, and
// nothing is lost.
func TestRejoinBesideAClone(t *testing.T) {
	t.Parallel()
	line := "rejoin --keys 1000 --changed 100 --deleted 10 --conflicts 5 --quiet-before 0s --down 0s --measure 300ms --disk cloned -o json"
	code, out, talk := runLine(t, line+" --edged "+edgedBinary(t))
	var r Report
	require.NoError(t, json.Unmarshal([]byte(out), &r), talk)
	require.Positive(t, r.Cloned.FencedMS)
	require.Contains(t, []string{fencedClone, fencedOriginal}, r.Cloned.Fenced)
	require.Zero(t, code, "%s\n%s", out, talk)
	require.True(t, r.ok(), out)
}

// A return that is cut ends as one that is not, and the report says what it cost.
func TestRejoinInterrupted(t *testing.T) {
	t.Parallel()
	line := "rejoin --keys 2000 --changed 800 --deleted 10 --conflicts 2 --quiet-before 0s --down 0s --measure 300ms --interrupt 2 -o json"
	code, out, talk := runLine(t, line+" --edged "+edgedBinary(t))
	require.Zero(t, code, "%s\n%s", out, talk)
	var r Report
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.True(t, r.ok(), out)
	require.Equal(t, 2, r.Interruptions)
	i := r.Interrupted
	require.Equal(t, 2, i.Asked)
	require.Positive(t, i.Session.One)
	require.Less(t, i.Session.One, i.Relay.One, "what is in sessions is in datagrams")
	require.Less(t, i.Session.All, i.Relay.All)
	require.Greater(t, i.Relay.All, i.Relay.One, "at the least it connected three times")
	require.Greater(t, i.Session.All, i.Session.One, "at the least it asked three times")
	require.Greater(t, i.AllCaughtUpMS, i.LastCaughtUpMS)
}

// What somebody else does to the keys of a run behind its back is a fault that
// it must find: a key deleted, some set back, and a deleted one set again.
func TestPlantedFaultsReachTheReport(t *testing.T) {
	t.Parallel()
	c := testcluster.ForTest(t.Context(), t, testcluster.Options{Binary: edgedBinary(t)})
	o := defaultRejoin()
	o.keys, o.changed, o.deleted, o.conflicts = 500, amount{number: 50}, amount{number: 5}, 0
	o.down, o.quietBefore, o.measure = 0, 0, 500*time.Millisecond
	r := &rejoinRun{opts: o, kv: newKVClient(), progress: &progress{w: io.Discard}, fleet: fleetOf(c, outageKill, diskKept)}
	defer r.kv.close()
	require.NoError(t, r.draw())
	untouched := 0
	for slices.Contains(slices.Concat(r.plan.overwritten, r.plan.deleted), untouched) {
		untouched++
	}
	back := r.fleet.back
	r.fleet.back = func(ctx context.Context) (time.Time, error) {
		conn, err := dialRESP(ctx, r.fleet.doors[0].resp)
		if err != nil {
			return time.Time{}, err
		}
		defer conn.close()
		first := func(i int) []string {
			return []string{"SET", r.ledger.key(i), string(r.ledger.values.of(uint32(i) + 1))}
		}
		commands := [][]string{{"DEL", r.ledger.key(untouched)}, first(r.plan.deleted[0])}
		for _, i := range setBack(r) {
			commands = append(commands, first(i))
		}
		for _, command := range commands {
			if _, err := conn.do(command...); err != nil {
				return time.Time{}, err
			}
		}
		return back(ctx)
	}
	require.NoError(t, r.story(t.Context()))
	require.False(t, r.report.ok())
	require.Equal(t, 1+len(setBack(r)), r.report.Lost, r.report.Faults)
	require.Equal(t, 1, r.report.Resurrected-r.report.ResurrectedReads, r.report.Faults)
	require.Zero(t, r.report.Diverged)
	require.True(t, r.report.RootsEqual)
	require.Positive(t, r.report.StaleReads, "readers see those that were set back")
}

// setBack names the overwritten keys that are set back: half of them, for readers
// who choose at random to come upon one.
func setBack(r *rejoinRun) []int { return r.plan.overwritten[1 : len(r.plan.overwritten)/2] }

// An attached cluster is measured without being started here: commands take
// its node away and bring it back.
func TestRejoinAttaches(t *testing.T) {
	t.Parallel()
	c := testcluster.ForTest(t.Context(), t, testcluster.Options{Binary: edgedBinary(t)})
	var urls []string
	for _, n := range c.Nodes() {
		urls = append(urls, "http://"+n.Ports().Admin)
	}
	code, _, refusal := runLine(t, "rejoin --attach "+strings.Join(urls, ",")+" --target n9 --outage-cmd true --return-cmd true")
	require.Equal(t, exitUsage, code)
	require.Contains(t, refusal, "no node of --attach has that name")

	var out, talk bytes.Buffer
	pid := c.Node(1).PID()
	code = run(t.Context(), []string{
		"rejoin", "--attach", strings.Join(urls, ","), "--target", "n2", "--outage", "pause",
		"--outage-cmd", fmt.Sprintf("kill -STOP %d", pid), "--return-cmd", fmt.Sprintf("kill -CONT %d", pid),
		"--keys", "1000", "--changed", "50", "--deleted", "5", "--conflicts", "2",
		"--quiet-before", "0s", "--down", "2500ms", "--measure", "200ms", "-o", "json",
	}, system{out: &out, err: &talk, env: func(string) string { return "" }})
	require.Zero(t, code, "%s\n%s", &out, &talk)
	var r Report
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))
	require.True(t, r.ok())
	require.Equal(t, "as attached", r.Durability)
	require.GreaterOrEqual(t, r.MissedVersions, 59)
}

// restartStory writes, restarts a node by restart while more is written, and
// wants every key on every node.
func restartStory(t *testing.T, restart func(n *testcluster.Node) (time.Time, error)) *testcluster.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := testcluster.ForTest(ctx, t, testcluster.Options{Binary: edgedBinary(t)})
	n := c.Node(2)
	l := newLedger("", values{seed: 5, mix: mixJSON, bytes: 200}, 400)
	doors := []door{doorOf(c.Node(0)), doorOf(c.Node(1))}
	load := func(from, to int) error {
		var writes []write
		for i := from; i < to; i++ {
			writes = append(writes, write{key: i, number: l.number()})
		}
		return (&loader{ledger: l, doors: doors, step: func(int) {}}).run(ctx, writes)
	}
	require.NoError(t, load(0, 200))

	// What is tested begins where it is back within 100 ms; a busy machine may need
	// another attempt to start a process so soon.
	for attempt := 0; ; attempt++ {
		killed := time.Now()
		execAt, err := restart(n)
		require.NoError(t, err)
		if execAt.Sub(killed) < 100*time.Millisecond {
			break
		}
		require.Less(t, attempt, 9, "its process started %v after it was killed", execAt.Sub(killed))
		require.NoError(t, n.WaitPorts(ctx))
		require.NoError(t, n.WaitReady(ctx))
	}
	require.NoError(t, load(100, 400), "what is written while it starts")
	require.NoError(t, n.WaitPorts(ctx))
	require.NoError(t, n.WaitReady(ctx))

	all := append(doors, doorOf(n))
	require.NoError(t, waitEqual(ctx, all))
	where, err := readPlacement(ctx, all[0])
	require.NoError(t, err)
	dumps, err := readDumps(ctx, all)
	require.NoError(t, err)
	v := verify(l.wanted(), where, dumps)
	require.Empty(t, v.faults)
	require.True(t, v.rootsEqual)
	return c
}

// members wants three members and as many nodes, one by each name, everywhere.
func requireMembers(t *testing.T, c *testcluster.Cluster) {
	t.Helper()
	for _, n := range c.Nodes() {
		status, err := n.Admin().Status(t.Context())
		require.NoError(t, err)
		names := map[string]bool{}
		for _, m := range status.Layout.Members {
			names[m.Name] = true
		}
		require.Len(t, status.Layout.Members, 3)
		require.Equal(t, map[string]bool{"n1": true, "n2": true, "n3": true}, names)
		nodes, err := n.Admin().Nodes(t.Context())
		require.NoError(t, err)
		require.Len(t, nodes, 3)
	}
}

func TestRestartWithin100msOnTheSameAddress(t *testing.T) {
	c := restartStory(t, func(n *testcluster.Node) (time.Time, error) { return n.Restart(t.Context()) })
	requireMembers(t, c)
}

func TestRestartWithin100msAtANewAddress(t *testing.T) {
	var before, after string
	c := restartStory(t, func(n *testcluster.Node) (time.Time, error) {
		before = n.Ports().Node
		return n.RestartElsewhere(t.Context())
	})
	after = c.Node(2).Ports().Node
	require.NotEqual(t, before, after)
	requireMembers(t, c)
}

// A few faults on three real nodes, and nothing that clients were told turns out untrue.
func TestSoakPlaysFaultsAndJudges(t *testing.T) {
	t.Parallel()
	code, out, talk := runLine(t, "soak --nodes 3 --clients 3 --keys 60 --faults 3 --seed 299 -o json --edged "+edgedBinary(t))
	require.Zero(t, code, "%s\n%s", out, talk)
	require.Contains(t, talk, "seed 299")
	var r SoakReport
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Len(t, r.Faults, 3)
	require.Empty(t, r.Breaches)
	require.Positive(t, r.Results[resultOK])
	require.Positive(t, r.Fenced)
	require.Empty(t, r.Dir, "nothing is kept of a run that found nothing")
}
