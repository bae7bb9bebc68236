package policies_test

import (
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/policies"
	wasmrt "edged.dev/edged/runtime"
)

//go:generate wat2wasm testdata/scripted.wat -o testdata/scripted.wasm

//go:embed testdata/scripted.wasm
var scripted []byte

func newTable(t testing.TB) *policies.Table {
	t.Helper()
	host, err := wasmrt.NewHost(t.Context(), wasmrt.Default())
	require.NoError(t, err)
	table := policies.NewTable(host)
	t.Cleanup(func() {
		require.NoError(t, table.Close(context.Background()))
		require.NoError(t, host.Close(context.Background()))
	})
	return table
}

// store applies writes to records like the system partition would.
func store(records []policies.Record, writes ...policies.Write) []policies.Record {
	for _, w := range writes {
		kept := []policies.Record{}
		for _, r := range records {
			if r.Key != w.Key {
				kept = append(kept, r)
			}
		}
		records = append(kept, policies.Record{Key: w.Key, Value: w.Value, HLC: uint64(len(records) + 1)})
	}
	return records
}

// bound returns a table in which the scripted policy is in force for all keys.
func bound(t testing.TB, params []byte, fallback string) (*policies.Table, string) {
	t.Helper()
	plan, err := policies.PlanDeploy(nil, scripted, policies.DeploySpec{Name: "scripted", Params: params, Fallback: fallback, NowMS: 1})
	require.NoError(t, err)
	table := newTable(t)
	require.NoError(t, table.Update(t.Context(), store(nil, plan.Writes...)))
	require.Empty(t, table.Problems())
	return table, plan.PolicyID
}

func sib(value string, hlc, expires uint64) policies.Sibling {
	return policies.Sibling{Value: []byte(value), HLC: hlc, Actor: hlc % 3, Counter: hlc, ExpiresMS: expires}
}

// response writes a frame of one verdict.
func response(kind byte, index uint16, value string, aux uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0x31524445)
	b = le.AppendUint32(b, uint32(32+len(value)))
	b = le.AppendUint32(b, 1)
	b = le.AppendUint32(b, 0)
	b = append(b, kind, 0)
	b = le.AppendUint16(b, index)
	if kind == 1 {
		b = le.AppendUint32(b, 32)
	} else {
		b = le.AppendUint32(b, 0)
	}
	b = le.AppendUint32(b, uint32(len(value)))
	b = le.AppendUint32(b, aux)
	return append(b, value...)
}

func TestDefaultShowsTheNewest(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	view, err := table.Resolve(t.Context(), []byte("k"), nil)
	require.NoError(t, err)
	require.Equal(t, policies.View{Kind: policies.Absent, PolicyID: "lww"}, view)
	sibs := []policies.Sibling{
		{Value: []byte("old"), HLC: 1, Actor: 9, Counter: 9},
		{Value: []byte("actor"), HLC: 2, Actor: 1, Counter: 9},
		{Value: []byte("counter"), HLC: 2, Actor: 2, Counter: 1},
		{Value: []byte("newest"), HLC: 2, Actor: 2, Counter: 2, ExpiresMS: 7},
	}
	for range 20 {
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(sibs), func(i, j int) { sibs[i], sibs[j] = sibs[j], sibs[i] })
		view, err = table.Resolve(t.Context(), []byte("k"), sibs)
		require.NoError(t, err)
		require.Equal(t, policies.View{Kind: policies.Present, Value: []byte("newest"), ExpiresMS: 7, PolicyID: "lww"}, view)
	}
}

func TestSiblingsLeavesItUnresolved(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	plan, err := policies.PlanBind(nil, []byte("s/"), policies.Siblings)
	require.NoError(t, err)
	require.NoError(t, table.Update(t.Context(), store(nil, plan.Writes...)))
	view, err := table.Resolve(t.Context(), []byte("s/1"), []policies.Sibling{sib("a", 1, 0), sib("b", 2, 0)})
	require.NoError(t, err)
	require.Equal(t, policies.View{Kind: policies.Present, Value: []byte("b"), Mark: "unresolved", PolicyID: "siblings", Epoch: 1}, view)
	view, err = table.Resolve(t.Context(), []byte("s/1"), []policies.Sibling{sib("b", 1, 0), sib("b", 2, 0)})
	require.NoError(t, err)
	require.Empty(t, view.Mark, "equal siblings are one")
	view, err = table.Resolve(t.Context(), []byte("t/1"), []policies.Sibling{sib("a", 1, 0), sib("b", 2, 0)})
	require.NoError(t, err)
	require.Equal(t, "lww", view.PolicyID)
}

func TestVerdictsBecomeViews(t *testing.T) {
	t.Parallel()
	sibs := []policies.Sibling{sib("a", 1, 10), sib("b", 2, 30), sib("c", 3, 20)}
	forever := []policies.Sibling{sib("a", 1, 10), sib("b", 2, 0)}
	present := func(value string, expires uint64, mark string) policies.View {
		return policies.View{Kind: policies.Present, Value: []byte(value), ExpiresMS: expires, Mark: mark, Epoch: 1}
	}
	for name, c := range map[string]struct {
		params []byte
		sibs   []policies.Sibling
		want   policies.View
		reason string
	}{
		"pick":                     {response(0, 1, "", 0), sibs, present("b", 30, ""), "pick"},
		"value":                    {response(1, 0, "new", 0), sibs, present("new", 0, ""), "value"},
		"empty value":              {response(1, 0, "", 0), sibs, present("", 0, ""), "value"},
		"value, earliest":          {response(1, 0, "new", 1), sibs, present("new", 10, ""), "value"},
		"value, latest":            {response(1, 0, "new", 2), sibs, present("new", 30, ""), "value"},
		"value, earliest, one has": {response(1, 0, "new", 1), forever, present("new", 10, ""), "value"},
		"value, latest, one never": {response(1, 0, "new", 2), forever, present("new", 0, ""), "value"},
		"absent":                   {response(2, 0, "", 0), sibs, policies.View{Epoch: 1}, "absent"},
		"keep":                     {response(3, 0, "", 0), sibs, present("c", 20, "unresolved"), "keep"},
		"error":                    {response(4, 77, "", 0), sibs, present("c", 20, "unresolved"), "error"},
		"pick of none":             {response(0, 3, "", 0), sibs, present("c", 20, "unresolved"), "malformed"},
		"both expiries":            {response(1, 0, "new", 3), sibs, present("c", 20, "unresolved"), "malformed"},
		"unknown kind":             {response(5, 0, "", 0), sibs, present("c", 20, "unresolved"), "malformed"},
		"rubbish":                  {[]byte("Erubbish"), sibs, present("c", 20, "unresolved"), "malformed"},
		"loop":                     {[]byte("l"), sibs, present("c", 20, "unresolved"), "out_of_fuel"},
		"trap":                     {[]byte("t"), sibs, present("c", 20, "unresolved"), "trap"},
		"recursion":                {[]byte("r"), sibs, present("c", 20, "unresolved"), "too_deep"},
		"memory":                   {[]byte("m"), sibs, present("c", 20, "unresolved"), "out_of_memory"},
		"pointer":                  {[]byte("p"), sibs, present("c", 20, "unresolved"), "bad_pointer"},
		"code":                     {[]byte("g"), sibs, present("c", 20, "unresolved"), "guest_error"},
		"too long":                 {[]byte("x"), sibs, present("c", 20, "unresolved"), "too_long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, id := bound(t, c.params, "")
			c.want.PolicyID = id
			for range 2 {
				view, err := table.Resolve(t.Context(), []byte("k"), c.sibs)
				require.NoError(t, err)
				require.Equal(t, c.want, view)
			}
			counts := table.Counts()
			require.Len(t, counts, 1)
			require.Equal(t, c.reason, counts[0].Reason)
			require.Equal(t, uint64(2), counts[0].N)
			require.Equal(t, c.want.Mark != "" && c.reason != "keep", counts[0].Failure)
		})
	}
}

func TestFallbackLWWShowsTheNewestUnmarked(t *testing.T) {
	t.Parallel()
	table, _ := bound(t, []byte("t"), policies.FallbackLWW)
	view, err := table.Resolve(t.Context(), []byte("k"), []policies.Sibling{sib("a", 1, 0), sib("b", 2, 0)})
	require.NoError(t, err)
	require.Equal(t, "b", string(view.Value))
	require.Empty(t, view.Mark)
}

func TestNoCallForOneDistinctSibling(t *testing.T) {
	t.Parallel()
	table, id := bound(t, []byte("t"), "")
	view, err := table.Resolve(t.Context(), []byte("k"), []policies.Sibling{sib("a", 1, 5), sib("a", 2, 5), sib("a", 3, 5)})
	require.NoError(t, err)
	require.Equal(t, policies.View{Kind: policies.Present, Value: []byte("a"), ExpiresMS: 5, PolicyID: id, Epoch: 1}, view)
	require.Empty(t, table.Counts())
	_, err = table.Resolve(t.Context(), []byte("k"), []policies.Sibling{sib("a", 1, 5), sib("a", 2, 6)})
	require.NoError(t, err)
	require.Len(t, table.Counts(), 1, "other expiry, other sibling")
}

func TestMoreSiblingsThanShownAreMarked(t *testing.T) {
	t.Parallel()
	table, _ := bound(t, response(0, 31, "", 0), "")
	var sibs []policies.Sibling
	for i := range 40 {
		sibs = append(sibs, sib(fmt.Sprint("v", i), uint64(i), 0))
	}
	view, err := table.Resolve(t.Context(), []byte("k"), sibs)
	require.NoError(t, err)
	require.Equal(t, "truncated", view.Mark)
	require.Equal(t, "v8", string(view.Value), "the 32nd newest of 40")

	table, _ = bound(t, response(0, 2, "", 0), "")
	sibs = sibs[:0]
	for i := range 5 { // three of these fit in 4 MiB with their frame
		sibs = append(sibs, sib(fmt.Sprint(i)+strings.Repeat("x", 1<<20-1), uint64(i), 0))
	}
	view, err = table.Resolve(t.Context(), []byte("k"), sibs)
	require.NoError(t, err)
	require.Equal(t, "truncated", view.Mark)
	require.Equal(t, "2", string(view.Value[:1]))
}

func TestLongestPrefixWins(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	var records []policies.Record
	for _, b := range [][2]string{{"", policies.Siblings}, {"a/", policies.LWW}, {"a/b/", policies.Siblings}} {
		plan, err := policies.PlanBind(records, []byte(b[0]), b[1])
		require.NoError(t, err)
		records = store(records, plan.Writes...)
	}
	require.NoError(t, table.Update(t.Context(), records))
	for key, want := range map[string]string{"x": "siblings@1", "a": "siblings@1", "a/x": "lww@2", "a/b/x": "siblings@3", "": "siblings@1"} {
		id, epoch := table.PolicyFor([]byte(key))
		require.Equal(t, want, fmt.Sprintf("%s@%d", id, epoch), key)
	}
}

func TestRollbackIsANewEpoch(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	prefix, sibs := []byte("k/"), []policies.Sibling{sib("a", 1, 0), sib("b", 2, 0)}
	first, err := policies.PlanDeploy(nil, scripted, policies.DeploySpec{Name: "one", Prefix: prefix, Params: response(1, 0, "one", 0)})
	require.NoError(t, err)
	records := store(nil, first.Writes...)
	second, err := policies.PlanDeploy(records, scripted, policies.DeploySpec{Name: "two", Prefix: prefix, Params: response(1, 0, "two", 0)})
	require.NoError(t, err)
	require.Len(t, second.Writes, 2, "the module is there already")
	records = store(records, second.Writes...)

	require.NoError(t, table.Update(t.Context(), records))
	view, err := table.Resolve(t.Context(), []byte("k/1"), sibs)
	require.NoError(t, err)
	require.Equal(t, "two", string(view.Value))

	back, err := policies.PlanRollback(records, prefix)
	require.NoError(t, err)
	require.Equal(t, first.PolicyID, back.PolicyID)
	require.Equal(t, uint64(3), back.Epoch)
	records = store(records, back.Writes...)
	require.NoError(t, table.Update(t.Context(), records))
	view, err = table.Resolve(t.Context(), []byte("k/1"), sibs)
	require.NoError(t, err)
	require.Equal(t, "one", string(view.Value))
	require.Equal(t, uint64(3), view.Epoch)

	status := table.List()
	require.Len(t, status, 2)
	for _, s := range status {
		require.Equal(t, s.ID == first.PolicyID, s.Ready)
		require.Empty(t, s.Problem)
	}

	_, err = policies.PlanRollback(records, []byte("other"))
	require.Error(t, err)
	_, err = policies.PlanDelete(records, first.PolicyID)
	require.ErrorContains(t, err, "names it")
}

func TestFirstBindingRollsBackToNone(t *testing.T) {
	t.Parallel()
	table, id := bound(t, response(0, 0, "", 0), "")
	got, _ := table.PolicyFor([]byte("k"))
	require.Equal(t, id, got)
	plan, err := policies.PlanBind(nil, nil, policies.Siblings)
	require.NoError(t, err)
	records := store(nil, plan.Writes...)
	plan, err = policies.PlanRollback(records, nil)
	require.NoError(t, err)
	require.NoError(t, table.Update(t.Context(), store(records, plan.Writes...)))
	got, epoch := table.PolicyFor([]byte("k"))
	require.Equal(t, "lww", got)
	require.Zero(t, epoch)
}

// TestConcurrentBindingsHaveOneWinner: the same on all nodes, whatever the order
// in which they learn of the edits.
func TestConcurrentBindingsHaveOneWinner(t *testing.T) {
	t.Parallel()
	a, err := policies.PlanBind(nil, []byte("k"), policies.Siblings)
	require.NoError(t, err)
	b, err := policies.PlanBind(nil, []byte("k"), policies.LWW)
	require.NoError(t, err)
	records := []policies.Record{
		{Key: a.Writes[0].Key, Value: a.Writes[0].Value, HLC: 5, Actor: 1},
		{Key: b.Writes[0].Key, Value: b.Writes[0].Value, HLC: 5, Actor: 2},
	}
	for range 2 {
		table := newTable(t)
		require.NoError(t, table.Update(t.Context(), records))
		bindings := table.Bindings()
		require.Len(t, bindings, 1)
		require.True(t, bindings[0].Conflict)
		require.Equal(t, policies.LWW, bindings[0].Policy)
		records[0], records[1] = records[1], records[0]
	}
}

func TestPolicyNotReadyIsNoView(t *testing.T) {
	t.Parallel()
	plan, err := policies.PlanDeploy(nil, scripted, policies.DeploySpec{Name: "scripted", Params: response(0, 0, "", 0)})
	require.NoError(t, err)
	require.Len(t, plan.Writes, 3)
	sibs := []policies.Sibling{sib("a", 1, 0), sib("b", 2, 0)}
	damaged := policies.Write{Key: plan.Writes[0].Key, Value: append([]byte("x"), plan.Writes[0].Value[1:]...)}
	for name, records := range map[string][]policies.Record{
		"no manifest":   store(nil, plan.Writes[2]),
		"no chunk":      store(nil, plan.Writes[1:]...),
		"damaged chunk": store(nil, damaged, plan.Writes[1], plan.Writes[2]),
	} {
		table := newTable(t)
		require.NoError(t, table.Update(t.Context(), records), name)
		_, err = table.Resolve(t.Context(), []byte("k"), sibs)
		var notReady *policies.NotReadyError
		require.ErrorAs(t, err, &notReady, name)
		require.Equal(t, plan.PolicyID, notReady.PolicyID)
		require.False(t, table.Bindings()[0].Ready)
		require.NotEmpty(t, table.List()[0].Problem)
		_, err = table.Resolve(t.Context(), []byte("k"), sibs[:1])
		require.NoError(t, err, "one sibling needs no policy")

		require.NoError(t, table.Update(t.Context(), store(records, plan.Writes...)))
		view, err := table.Resolve(t.Context(), []byte("k"), sibs)
		require.NoError(t, err)
		require.Equal(t, "b", string(view.Value))
	}
}

func TestClosedTableShowsNoOtherView(t *testing.T) {
	t.Parallel()
	table, _ := bound(t, response(0, 1, "", 0), "")
	require.NoError(t, table.Close(t.Context()))
	_, err := table.Resolve(t.Context(), []byte("k"), []policies.Sibling{sib("a", 1, 0), sib("b", 2, 0)})
	require.ErrorIs(t, err, wasmrt.ErrClosed)
	require.ErrorIs(t, table.Update(t.Context(), nil), wasmrt.ErrClosed)
	require.NoError(t, table.Close(t.Context()))
}

// TestUpdateUnderLoad replaces policies while others resolve: each view is one of
// the two policies', never an error.
func TestUpdateUnderLoad(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	var records [2][]policies.Record
	for i, value := range []string{"one", "two"} {
		plan, err := policies.PlanDeploy(nil, scripted, policies.DeploySpec{Name: "p", Params: response(1, 0, value, 0)})
		require.NoError(t, err)
		records[i] = store(nil, plan.Writes...)
	}
	require.NoError(t, table.Update(t.Context(), records[0]))
	done := make(chan error, 2)
	for range cap(done) {
		go func() {
			for range 300 {
				v, err := table.Resolve(context.Background(), []byte("k"), []policies.Sibling{sib("a", 1, 0), sib("b", 2, 0)})
				if err != nil || string(v.Value) != "one" && string(v.Value) != "two" {
					done <- fmt.Errorf("got %q: %w", v.Value, err)
					return
				}
			}
			done <- nil
		}()
	}
	for i := range 20 {
		require.NoError(t, table.Update(t.Context(), records[i%2]))
	}
	for range cap(done) {
		require.NoError(t, <-done)
	}
}
