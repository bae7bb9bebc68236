package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

// The fields that programs read of a report, in the order in which they stand.
const promised = "keys changed deleted conflicts outage disk first_answer_ms caught_up_ms verified_ms sync_ms sync_bytes wire_bytes_in wire_bytes_out needed_bytes ratio path reads_during stale_reads lagging_reads not_found lost resurrected diverged client_p50_ms client_p99_ms baseline_p99_ms roots_equal"

func TestReportHasItsFields(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, (&Report{Path: map[string]int{"L0": 250, "L1": 6}}).writeJSON(&out))
	var got map[string]any
	dec := json.NewDecoder(&out)
	require.NoError(t, dec.Decode(&got))
	require.False(t, dec.More(), "one object")
	for _, field := range strings.Fields(promised) {
		require.Contains(t, got, field)
	}
	require.Equal(t, map[string]any{"L0": 250.0, "L1": 6.0}, got["path"])
	require.Equal(t, []any{}, got["faults"])
	require.Equal(t, false, got["roots_equal"])
}

func ms(v float64) *float64 { return &v }

func TestReportTakesWhatTheNewProcessSays(t *testing.T) {
	t.Parallel()
	before := admin.Rejoin{StartedMS: 1, SyncBytesIn: 500, WireBytesIn: 7, PerStep: map[string]int{"L1": 256}, EntriesReceived: 3}
	after := admin.Rejoin{
		StartedMS: 9000, SyncBytesIn: 1000, SyncBytesOut: 200, WireBytesIn: 3000, WireBytesOut: 400, EntriesReceived: 12,
		PerStep: map[string]int{"L0": 250, "L1": 6}, FirstHelloMS: ms(40), LastPendMS: ms(65.5),
	}
	var r Report
	r.took(before, after, time.UnixMilli(9000))
	r.lacked(lack{versions: 12, bytes: 1000})
	require.Equal(t, Report{
		SyncMS: 25.5, SyncBytes: 1200, WireBytesIn: 3000, WireBytesOut: 400, NeededBytes: 1000, Ratio: 1.2,
		Path: map[string]int{"L0": 250, "L1": 6}, MissedVersions: 12, EntriesReceived: 12,
	}, r)
}

func TestReportOfAPauseTakesTheDifference(t *testing.T) {
	t.Parallel()
	before := admin.Rejoin{StartedMS: 1000, SyncBytesIn: 500, SyncBytesOut: 1, PerStep: map[string]int{"L0": 3, "L1": 256}, FirstHelloMS: ms(40), LastPendMS: ms(60)}
	after := before
	after.SyncBytesIn, after.PerStep, after.LastPendMS = 800, map[string]int{"L0": 3, "L1": 260}, ms(4025)
	var r Report
	r.took(before, after, time.UnixMilli(5000))
	require.Equal(t, uint64(300), r.SyncBytes)
	require.Equal(t, map[string]int{"L1": 4}, r.Path)
	require.InDelta(t, 25, r.SyncMS, 1e-9)

	r.counted(wireCount{in: 1000, out: 10}, wireCount{in: 1700, out: 60})
	require.Equal(t, uint64(700), r.WireBytesIn)
	require.Equal(t, uint64(50), r.WireBytesOut)

	r = Report{}
	r.took(before, before, time.UnixMilli(5000))
	require.Zero(t, r.SyncMS, "no session: all came with the live writes")
	require.Empty(t, r.Path)
}

func TestReportCountsFromTheReturn(t *testing.T) {
	t.Parallel()
	at := time.Unix(100, 0)
	var r Report
	r.reached(at, moments{firstAnswer: at.Add(90 * time.Millisecond), caughtUp: at.Add(123_456 * time.Microsecond), verified: at.Add(time.Second)})
	require.Equal(t, Report{FirstAnswerMS: 90, CaughtUpMS: 123.456, VerifiedMS: 1000}, r)
}

func TestAnyFaultIsTheExitCode(t *testing.T) {
	t.Parallel()
	require.True(t, (&Report{RootsEqual: true, LaggingReads: 5, ExemptReads: 3, Leftovers: 1}).ok())
	for _, r := range []Report{{}, {RootsEqual: true, Lost: 1}, {RootsEqual: true, StaleReads: 1}, {RootsEqual: true, NotFound: 1}, {RootsEqual: true, Diverged: 1}, {RootsEqual: true, Cloned: &Cloned{Fenced: fencedNone}}} {
		require.False(t, r.ok(), fmt.Sprintf("%+v", r))
	}
	require.True(t, (&Report{RootsEqual: true, Cloned: &Cloned{Fenced: fencedOf(true, false)}}).ok())
	require.Equal(t, []string{fencedClone, fencedOriginal, fencedNone, fencedBoth},
		[]string{fencedOf(true, false), fencedOf(false, true), fencedOf(true, true), fencedOf(false, false)})
	r := Report{RootsEqual: true}
	r.answered(readCounts{reads: 10, resurrected: 1})
	require.False(t, r.ok())
	for err, code := range map[error]int{
		nil:                              0,
		fmt.Errorf("x: %w", errUsage):    2,
		fmt.Errorf("x: %w", errTimeout):  3,
		context.DeadlineExceeded:         3,
		fmt.Errorf("x: %w", errWrong):    4,
		errors.New("anything else"):      1,
		errors.Join(nil, errWrong, errX): 4,
	} {
		require.Equal(t, code, exitCode(err), fmt.Sprint(err))
	}
}

var errX = errors.New("x")

func TestTableForPeople(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := Report{Nodes: 3, Keys: 10, Outage: outageKill, Disk: diskKept, Lost: 2, Faults: []string{"key-1: n3 lacks it"}, Path: map[string]int{"L1": 6, "L0": 250}}
	require.NoError(t, r.writeTable(&out, painter{}))
	require.NotContains(t, out.String(), "\x1b")
	require.Contains(t, out.String(), "L0 250, L1 6")
	require.Contains(t, out.String(), "! key-1: n3 lacks it")
	out.Reset()
	require.NoError(t, r.writeTable(&out, painter{colour: true}))
	require.Contains(t, out.String(), "\x1b[31m2\x1b[0m")
}

func TestProgressOffATerminalIsALineAStage(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &progress{w: &out}
	p.begin("load keys", 100)
	p.step(50)
	require.Equal(t, "load keys\n", out.String())
	require.Contains(t, p.line(), " 50 %")
	p.begin("next", 0)
	require.Equal(t, "next", p.line())
	p.end()
	require.Equal(t, "load keys\nnext\n", out.String())
}

func runLine(t *testing.T, line string) (code int, out, talk string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), strings.Fields(line), system{out: &o, err: &e, env: func(string) string { return "" }})
	return code, o.String(), e.String()
}

func TestWrongUseIsExitCode2(t *testing.T) {
	t.Parallel()
	for line, says := range map[string]string{
		"":                                    "a command is missing",
		"rejoin now":                          `unexpected argument "now"`,
		"rejoin --keys 0":                     "--keys 0",
		"soak --nodes 2":                      "--nodes 2: want 3 to 32",
		"soak --clients 257":                  "--clients 257: want 1 to 256",
		"soak --for 0s":                       "--for 0s",
		"soak -o xml":                         "want table or json",
		"soak now":                            `unexpected argument "now"`,
		"rejoin --nodes 2":                    "want 3 nodes or more",
		"rejoin --changed 101%":               "0% to 100%",
		"rejoin --changed lots":               "share such as 1%",
		"rejoin --changed 0":                  "overwrites none",
		"rejoin --deleted -1":                 "share such as 1%",
		"rejoin --changed 100% --deleted 30%": "too few",
		"rejoin --conflicts -1":               "--conflicts -1",
		"rejoin --outage flood":               "want kill, pause or partition",
		"rejoin --disk full":                  "want kept, wiped, rolledback or cloned",
		"rejoin --durability none":            "want sync or relaxed",
		"rejoin --mix xml":                    "want json, base62 or constant",
		"rejoin --value-bytes 3":              "--value-bytes 3",
		"rejoin -o xml":                       "want table or json",
		"rejoin --timeout 0s":                 "--timeout must not be negative",
		"rejoin --target n1":                  "go with --attach",
		"rejoin --attach a,b,c":               "needs --target",
		"rejoin --nope":                       "unknown flag",
		"rejoin --net jitter=3ms":             "want rtt, rate or loss",
		"rejoin --disk cloned --net rtt=1ms":  "--disk cloned goes without --net",
		"rejoin --disk rolledback --attach a,b,c --target n1 --outage-cmd true --return-cmd true": "not with --attach",
		"rejoin --net rtt=1ms --attach a,b,c --target n1 --outage-cmd true --return-cmd true":     "not with --attach",
		"rejoin --scale -1":                           "--scale -1: want 0 to 1000",
		"rejoin --scale 1001":                         "--scale 1001: want 0 to 1000",
		"rejoin --scale 10 --outage pause":            "--scale and --returns go with --outage kill",
		"rejoin --scale 10 --keys 10000 --changed 5%": "--scale 10, with 1000 keys: usage: 1000 keys are too few to change 400",
		"rejoin --scale 2 --attach a,b,c --target n1 --outage-cmd true --return-cmd true": "--scale goes with a cluster that is started here",
		"rejoin --scale 2 --repair-policy a.wasm":                                         "--scale goes without --repair-policy",
		"rejoin --control": "--control goes with --returns",
		"rejoin --control --returns 2 --attach a,b,c --target n1 --outage-cmd true --return-cmd true": "of a cluster that is started here",
		"burn":                                                                "for 0s of processor time",
		"burn --processor 1s":                                                 "over 0s",
		"burn --processor 1s --for 10m1s":                                     "over 10m1s",
		"burn --processor 10m1s --for 1s":                                     "for 10m1s of processor time",
		"burn --processor 1s --for 1s on":                                     "unexpected argument",
		"rejoin --kill-delay 1s":                                              "--kill-delay goes with --interrupt",
		"rejoin --token-file x":                                               "go with --attach",
		"rejoin --returns 51":                                                 "--returns 51: want 0 to 50",
		"rejoin --returns 2 --disk rolledback":                                "--scale and --returns go with --outage kill and --disk kept or wiped",
		"rejoin --repair-policy /nowhere.wasm":                                "--repair-policy: open /nowhere.wasm: no such file",
		"rejoin --repair-policy a.wasm --pairs 0":                             "--pairs 0: want 1 to 100",
		"rejoin --interrupt 21":                                               "--interrupt 21: want 0 to 20",
		"rejoin --interrupt 1 --outage pause":                                 "--interrupt goes with --outage kill --disk kept",
		"rejoin --outage partition --disk wiped":                              "a process that lives keeps its disk",
		"rejoin --vs redis --net rtt=1ms":                                     "--vs goes without --net",
		"rejoin --vs memcached":                                               "--vs memcached: want redis",
		"rejoin --vs redis --pairs 101":                                       "--pairs 101: want 1 to 100",
		"rejoin --vs redis --disk wiped":                                      "--vs goes with --outage kill --disk kept",
		"rejoin --vs redis --redis-server /nowhere/redis-server":              "Debian has it",
		"rejoin --outage pause --disk wiped":                                  "a process that lives keeps its disk",
		"rejoin --attach a,b --target n1 --outage-cmd true --return-cmd true": "want 3 nodes or more",
	} {
		code, out, talk := runLine(t, line)
		require.Equal(t, 2, code, line)
		require.Empty(t, out, line)
		require.Contains(t, talk, says, line)
	}
}

func TestTheMostThatMayBeAsked(t *testing.T) {
	t.Parallel()
	o := defaultRejoin()
	o.returns, o.scale, o.interrupt, o.pairs = maxReturns, maxScale, maxInterruptions, maxPairs
	require.NoError(t, o.validate())
}

// Each part of a run has outages of its own, and none without being asked for.
func TestOutagesAreCounted(t *testing.T) {
	t.Parallel()
	require.Equal(t, 1, defaultRejoin().outages())
	for want, set := range map[int]func(*rejoinOptions){
		3:  func(o *rejoinOptions) { o.interrupt = 5 },
		4:  func(o *rejoinOptions) { o.returns = 3 },
		6:  func(o *rejoinOptions) { o.scale = 10 },
		9:  func(o *rejoinOptions) { o.returns, o.control = 4, true },
		7:  func(o *rejoinOptions) { o.vs, o.pairs = vsRedis, 6 },
		11: func(o *rejoinOptions) { o.repairPolicy = "a.wasm" },
	} {
		o := defaultRejoin()
		set(o)
		require.Equal(t, want, o.outages())
	}
	o := defaultRejoin()
	o.repairPolicy = "a.wasm"
	o.outage = outagePause
	require.Equal(t, 1, o.outages(), "there is no second return to measure it by")
	o.repairPolicy, o.outage = admin.BuiltinPlan, outageKill
	require.Equal(t, 1, o.outages(), "it is itself what would stand beside it")
}

// That a page cannot be written is known before anything is started.
func TestPageThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	code, out, talk := runLine(t, "rejoin --report report_test.go/page.html")
	require.Equal(t, exitFailed, code)
	require.Empty(t, out)
	require.Contains(t, talk, "write page")
	require.NotContains(t, talk, "start the cluster")
}

func TestAmounts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"1%": 1000, "0.1%": 100, "0.0005%": 1, "20": 20, "0": 0, "0%": 0, "100%": 100_000} {
		var a amount
		require.NoError(t, a.Set(text))
		require.Equal(t, want, a.of(100_000), text)
		var again amount
		require.NoError(t, again.Set(a.String()))
		require.Equal(t, a, again)
	}
	for _, text := range []string{"", "%", "NaN%", "-1%", "1.5", "1 %"} {
		require.Error(t, new(amount).Set(text), text)
	}
}
