package policies_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"edged.dev/edged/policies"
)

// incompressible returns n bytes that zstd cannot shorten.
func incompressible(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b) // never fails
	return b
}

func manifestOf(t *testing.T, writes []policies.Write) (policies.Manifest, int) {
	t.Helper()
	for i, w := range writes {
		if strings.HasPrefix(w.Key, "policy/") {
			m, err := policies.DecodeManifest(w.Value)
			require.NoError(t, err)
			require.Equal(t, "policy/"+m.ID(), w.Key)
			return m, i
		}
	}
	require.Fail(t, "no manifest")
	return policies.Manifest{}, 0
}

func TestModuleSurvivesSplitting(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 1000, 500_000, 500_001, policies.MaxModuleBytes} {
		wasm := incompressible(n)
		plan, err := policies.PlanDeploy(nil, wasm, policies.DeploySpec{Name: "big"})
		require.NoError(t, err)
		m, at := manifestOf(t, plan.Writes)
		require.Equal(t, len(plan.Writes)-2, at, "manifest and binding come last")
		chunks := map[string][]byte{}
		for _, w := range plan.Writes[:at] {
			require.LessOrEqual(t, len(w.Value), policies.MaxChunkBytes)
			chunks[strings.TrimPrefix(w.Key, "module/")] = w.Value
		}
		get := func(name string) ([]byte, bool) { b, ok := chunks[name]; return b, ok }
		got, err := policies.JoinModule(m, get)
		require.NoError(t, err)
		require.True(t, bytes.Equal(wasm, got))

		m.Size++
		_, err = policies.JoinModule(m, get)
		require.ErrorContains(t, err, "another module")
	}
	for _, n := range []int{0, policies.MaxModuleBytes + 1} {
		_, err := policies.PlanDeploy(nil, make([]byte, n), policies.DeploySpec{Name: "big"})
		require.Error(t, err)
	}
}

// TestChunkBombIsRefused: a chunk whose name is right but which unpacks to more
// than a chunk may hold.
func TestChunkBombIsRefused(t *testing.T) {
	t.Parallel()
	enc, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	bomb := enc.EncodeAll(make([]byte, 64<<20), nil)
	names, _, err := policies.SplitModule([]byte("x"))
	require.NoError(t, err)
	plan, err := policies.PlanDeploy(nil, []byte("x"), policies.DeploySpec{Name: "x"})
	require.NoError(t, err)
	m, _ := manifestOf(t, plan.Writes)
	_, err = policies.JoinModule(m, func(string) ([]byte, bool) { return bomb, true })
	require.ErrorContains(t, err, "damaged")
	m.Chunks = []string{sum(bomb)}
	_, err = policies.JoinModule(m, func(string) ([]byte, bool) { return bomb, true })
	require.ErrorContains(t, err, "decompress")
	m.Chunks = names
	_, err = policies.JoinModule(m, func(string) ([]byte, bool) { return nil, false })
	require.ErrorContains(t, err, "not arrived")
}

// TestPolicyIDIsPinned: the identity is what nodes agree on, so its derivation
// must never change by accident.
func TestPolicyIDIsPinned(t *testing.T) {
	t.Parallel()
	m := policies.Manifest{
		Module: strings.Repeat("ab", 32), Needs: []string{"key", "values"}, Fallback: "keep",
		Limits: policies.Limits{Depth: 1000, Fuel: 5_000_000, MemoryPages: 256}, Params: []byte{1, 2},
	}
	require.Equal(t, sum([]byte("edged-policy-v1\x00"+
		`{"abi":"edged_v1","cost_model":1,"fallback":"keep","kinds":["merge"],`+
		`"limits":{"depth":1000,"fuel":5000000,"memory_pages":256},`+
		`"module_id":"`+strings.Repeat("ab", 32)+`","needs":["key","values"],"params":"0102"}`)), m.ID())
	same := m
	same.Name, same.CreatedMS, same.Chunks, same.Size = "other", 5, []string{"x"}, 9
	require.Equal(t, m.ID(), same.ID())
	for name, change := range map[string]func(*policies.Manifest){
		"module":   func(m *policies.Manifest) { m.Module = strings.Repeat("cd", 32) },
		"needs":    func(m *policies.Manifest) { m.Needs = nil },
		"fallback": func(m *policies.Manifest) { m.Fallback = "lww" },
		"limits":   func(m *policies.Manifest) { m.Limits.Fuel++ },
		"params":   func(m *policies.Manifest) { m.Params = nil },
	} {
		other := m
		change(&other)
		require.NotEqual(t, m.ID(), other.ID(), name)
	}
}

func TestRecordsAreReadStrictly(t *testing.T) {
	t.Parallel()
	plan, err := policies.PlanDeploy(nil, []byte("x"), policies.DeploySpec{Name: "x", Prefix: []byte("p/")})
	require.NoError(t, err)
	manifest, binding := string(plan.Writes[1].Value), string(plan.Writes[2].Value)
	replace := func(s, old, new string) string {
		require.Contains(t, s, old)
		return strings.Replace(s, old, new, 1)
	}
	for _, bad := range []string{
		"", "{}", "null", "[]", manifest + "{}", manifest[:len(manifest)-1] + `,"extra":1}`,
		replace(manifest, `"format":1`, `"format":2`), replace(manifest, `"name":"x"`, `"name":"X Y"`),
		replace(manifest, `"size":1`, `"size":99999999`), replace(manifest, `"keep"`, `"shrug"`),
		replace(manifest, `["key","values"]`, `["values","key"]`), replace(manifest, `"module":"`, `"module":"A`),
		strings.Repeat(" ", 70_000) + manifest,
	} {
		_, err := policies.DecodeManifest([]byte(bad))
		require.Error(t, err, bad)
	}
	for _, bad := range []string{
		"", "{}", binding + "1", replace(binding, `"epoch":1`, `"epoch":0`), replace(binding, `"epoch":1`, `"epoch":-1`),
		replace(binding, `"previous":""`, `"previous":"none"`),
		replace(binding, `"prefix":"cC8="`, `"prefix":"`+strings.Repeat("AAAA", 400)+`"`),
	} {
		_, err := policies.DecodeBinding([]byte(bad))
		require.Error(t, err, bad)
	}
}

// TestStrayRecordsAreNamedNotObeyed: records under the wrong key or unreadable.
func TestStrayRecordsAreNamedNotObeyed(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	plan, err := policies.PlanDeploy(nil, scripted, policies.DeploySpec{Name: "x", Params: response(0, 0, "", 0)})
	require.NoError(t, err)
	records := store(nil, plan.Writes[0],
		policies.Write{Key: "policy/" + strings.Repeat("0", 64), Value: plan.Writes[1].Value},
		policies.Write{Key: "binding/" + strings.Repeat("0", 64), Value: plan.Writes[2].Value},
		policies.Write{Key: "binding/x", Value: []byte("rubbish")},
		policies.Write{Key: "members/x", Value: []byte("not ours")})
	require.NoError(t, table.Update(t.Context(), records))
	require.Len(t, table.Problems(), 3)
	require.Empty(t, table.Bindings())
	require.Empty(t, table.List())
	for _, r := range records[:4] {
		require.True(t, policies.IsRecord(r.Key))
	}
	require.False(t, policies.IsRecord("members/x"))
}

func TestPoliciesAndBindingsAreLimited(t *testing.T) {
	t.Parallel()
	var records []policies.Record
	for i := range policies.MaxPolicies {
		plan, err := policies.PlanDeploy(records, []byte("x"), policies.DeploySpec{Name: "x", Params: fmt.Append(nil, i)})
		require.NoError(t, err)
		records = store(records, plan.Writes...)
	}
	_, err := policies.PlanDeploy(records, []byte("x"), policies.DeploySpec{Name: "x", Params: []byte("more")})
	require.ErrorContains(t, err, "the limit")

	var first string
	for _, r := range records {
		if id, ok := strings.CutPrefix(r.Key, "policy/"); ok && first == "" {
			first = id
		}
	}
	keys, err := policies.PlanDelete(records, first)
	require.NoError(t, err)
	require.Equal(t, []string{"policy/" + first}, keys, "its module is shared with the others")

	_, err = policies.PlanBind(nil, make([]byte, policies.MaxPrefixBytes+1), policies.LWW)
	require.Error(t, err)
	_, err = policies.PlanBind(nil, nil, strings.Repeat("0", 64))
	require.ErrorContains(t, err, "no policy")
}
