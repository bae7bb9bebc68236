package policies_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/policies"
	wasmrt "edged.dev/edged/runtime"
)

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// TestCheckRunsTheModule: Check sends no params, so the scripted module answers
// an empty frame.
func TestCheckRunsTheModule(t *testing.T) {
	t.Parallel()
	report, err := policies.Check(t.Context(), scripted)
	var failed *policies.TrialError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "malformed", failed.Trial.Outcome)
	require.ErrorContains(t, err, "merging 2 siblings ended with malformed")
	require.Equal(t, sum(scripted), report.Module)
	require.Len(t, report.Trials, 1)
	require.Positive(t, report.Trials[0].FuelUsed)
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	var refusal *wasmrt.AdmissionError
	_, err := policies.Check(t.Context(), []byte("\x7fELF"))
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, "malformed", refusal.Rule)

	// The export of merge renamed: a module of some other kind.
	other := []byte(string(scripted))
	at := indexOf(t, other, "edged_v1_merge")
	copy(other[at:], "edged_v9_merge")
	_, err = policies.Check(t.Context(), other)
	require.ErrorAs(t, err, &refusal)
	require.ErrorContains(t, err, "no export edged_v1_merge")
}

func indexOf(t *testing.T, b []byte, s string) int {
	t.Helper()
	for i := range len(b) - len(s) {
		if string(b[i:i+len(s)]) == s {
			return i
		}
	}
	require.Fail(t, "not found: "+s)
	return 0
}
