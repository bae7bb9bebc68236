// Package exampletest runs an example's committed module and, where its toolchain
// is installed, one built from its source, through the same test.
package exampletest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/policies"
	wasmrt "edged.dev/edged/runtime"
)

// Example is one directory below wasm-examples.
type Example struct {
	// Module is the committed file, which SHA256SUMS names.
	Module string
	// Fuel is what the committed module uses in the trials of policies.Check. It
	// pins the cost model and the warm-up: a change of either is a new cost model.
	Fuel []int64
	// Tools are the programs without which build.sh cannot run.
	Tools []string
}

// Run runs check on the committed module and on a fresh build of it.
func (e Example) Run(t *testing.T, check func(t *testing.T, p *Policy)) {
	t.Run("committed", func(t *testing.T) {
		p := deploy(t, e.committed(t))
		require.Equal(t, e.Fuel, p.Fuel)
		check(t, p)
	})
	t.Run("built", func(t *testing.T) {
		wasm, ok := e.build(t)
		if !ok {
			t.Logf("%v are not all installed: the committed module is what is tested", e.Tools)
			wasm = e.committed(t)
		}
		check(t, deploy(t, wasm))
	})
}

// committed returns the module after holding it against its checksum.
func (e Example) committed(t *testing.T) []byte {
	t.Helper()
	wasm, err := os.ReadFile(e.Module)
	require.NoError(t, err)
	sums, err := os.ReadFile("SHA256SUMS")
	require.NoError(t, err)
	got := sha256.Sum256(wasm)
	for lines := bufio.NewScanner(bytes.NewReader(sums)); lines.Scan(); {
		if sum, name, _ := strings.Cut(lines.Text(), "  "); name == e.Module {
			require.Equal(t, sum, hex.EncodeToString(got[:]), "checksum of %s", e.Module)
			return wasm
		}
	}
	require.Fail(t, "SHA256SUMS does not name "+e.Module)
	return nil
}

// build runs build.sh into a temporary directory, if the tools are there.
func (e Example) build(t *testing.T) ([]byte, bool) {
	t.Helper()
	bin, err := filepath.Abs("node_modules/.bin")
	require.NoError(t, err)
	for _, tool := range e.Tools {
		_, errPath := exec.LookPath(tool)
		_, errLocal := os.Stat(filepath.Join(bin, tool))
		if errPath != nil && errLocal != nil {
			return nil, false
		}
	}
	out := filepath.Join(t.TempDir(), "built.wasm")
	msg, err := exec.CommandContext(t.Context(), "./build.sh", out).CombinedOutput()
	require.NoError(t, err, "%s", msg)
	wasm, err := os.ReadFile(out)
	require.NoError(t, err)
	return wasm, true
}

// Policy is a module that has passed the deployment check and is in force for all
// keys of a table.
type Policy struct {
	Wasm  []byte
	Table *policies.Table
	ID    string
	// Fuel of the check's trials.
	Fuel []int64
}

func deploy(t testing.TB, wasm []byte) *Policy {
	t.Helper()
	report, err := policies.Check(t.Context(), wasm)
	require.NoError(t, err)
	require.Len(t, report.Trials, 3)
	var fuel []int64
	for _, trial := range report.Trials {
		fuel = append(fuel, trial.FuelUsed)
	}
	plan, err := policies.PlanDeploy(nil, wasm, policies.DeploySpec{Name: "example", NowMS: 1})
	require.NoError(t, err)
	var records []policies.Record
	for _, w := range plan.Writes {
		records = append(records, policies.Record{Key: w.Key, Value: w.Value, HLC: 1})
	}
	host, err := wasmrt.NewHost(t.Context(), wasmrt.Default())
	require.NoError(t, err)
	table := policies.NewTable(host)
	t.Cleanup(func() {
		require.NoError(t, table.Close(context.Background()))
		require.NoError(t, host.Close(context.Background()))
	})
	require.NoError(t, table.Update(t.Context(), records))
	return &Policy{Wasm: wasm, Table: table, ID: plan.PolicyID, Fuel: fuel}
}

// Merge resolves the siblings in many orders, requires the same view for all, and
// returns it.
func (p *Policy) Merge(t *testing.T, siblings []policies.Sibling) policies.View {
	t.Helper()
	first, err := p.Table.Resolve(t.Context(), []byte("key"), siblings)
	require.NoError(t, err)
	require.Equal(t, p.ID, first.PolicyID)
	require.Empty(t, first.Mark)
	const seed = 1
	r := rand.New(rand.NewPCG(seed, seed))
	for range 20 {
		r.Shuffle(len(siblings), func(i, j int) { siblings[i], siblings[j] = siblings[j], siblings[i] })
		again, err := p.Table.Resolve(t.Context(), []byte("key"), siblings)
		require.NoError(t, err)
		require.Equal(t, first, again, "order of siblings, seed %d", seed)
	}
	return first
}
