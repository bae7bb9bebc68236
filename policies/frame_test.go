package policies_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/policies"
)

func words(s ...string) string { return strings.ReplaceAll(strings.Join(s, ""), " ", "") }

// TestRequestFrame pins the bytes: guests out there read them.
func TestRequestFrame(t *testing.T) {
	t.Parallel()
	conflicts := []policies.Conflict{{Key: []byte("key"), Siblings: []policies.Sibling{
		{Value: []byte("newest"), HLC: 0x0102030405060708, Actor: 0x11, Counter: 0x22, ExpiresMS: 0x33},
		{Value: []byte("eight by"), HLC: 7, Actor: 0x12, Counter: 0x23},
	}}}
	frame := policies.AppendRequest(nil, conflicts, policies.Needs{Key: true, Values: true}, []byte("params"))
	require.Len(t, frame, policies.RequestSize(conflicts, policies.Needs{Key: true, Values: true}, []byte("params")))
	require.Equal(t, words(
		"45444d31 b8000000 01000000 20000000", "98000000 06000000 00000000 00000000", // header
		"a0000000 03000000 38000000 0200 0000", "00001000 00000000", // conflict
		"a8000000 06000000 0807060504030201", "1100000000000000 2200000000000000", "00000000 0000 0200 3300000000000000",
		"b0000000 08000000 0700000000000000", "1200000000000000 2300000000000000", "00000000 0000 0000 0000000000000000",
		"706172616d730000", "6b65790000000000", "6e65776573740000", "6569676874206279",
	), hex.EncodeToString(frame))
}

func TestRequestWithoutNeedsHidesBytes(t *testing.T) {
	t.Parallel()
	conflicts := []policies.Conflict{{Key: []byte("key"), Siblings: []policies.Sibling{
		{Value: []byte("newest"), HLC: 2, ExpiresMS: 9}, {Value: []byte("old"), HLC: 1},
	}}}
	frame := policies.AppendRequest([]byte("before"), conflicts, policies.Needs{}, nil)[len("before"):]
	require.Equal(t, words(
		"45444d31 98000000 01000000 20000000", "00000000 00000000 00000000 00000000",
		"00000000 03000000 38000000 0200 0000", "00001000 00000000",
		"00000000 06000000 0200000000000000", strings.Repeat("00", 16), "00000000 0000 0600 0900000000000000",
		"00000000 03000000 0100000000000000", strings.Repeat("00", 16), "00000000 0000 0400 0000000000000000",
	), hex.EncodeToString(frame))
}

func TestBatchesShareAFrame(t *testing.T) {
	t.Parallel()
	two := policies.Conflict{Key: []byte("a"), Siblings: []policies.Sibling{{HLC: 2}, {HLC: 1, Value: []byte("x")}}}
	three := policies.Conflict{Key: []byte("b"), Siblings: append(two.Siblings, policies.Sibling{HLC: 0})}
	frame := policies.AppendRequest(nil, []policies.Conflict{two, three}, policies.Needs{Key: true, Values: true}, nil)
	require.Equal(t, "50000000", hex.EncodeToString(frame[32+8:32+12]), "siblings of the first behind both conflicts")
	require.Equal(t, "b0000000", hex.EncodeToString(frame[32+24+8:32+24+12]), "siblings of the second behind them")
}

func TestMalformedResponsesAreRefused(t *testing.T) {
	t.Parallel()
	edit := func(at int, value byte) []byte {
		b := response(0, 1, "", 0)
		b[at] = value
		return b
	}
	for name, b := range map[string][]byte{
		"empty":    {},
		"short":    response(0, 1, "", 0)[:31],
		"magic":    edit(0, 'X'),
		"total":    edit(4, 33),
		"count":    edit(8, 2),
		"reserved": edit(12, 1),
		"trailing": append(response(0, 1, "", 0), 0),
	} {
		_, err := policies.ParseResponse(b, []int{2})
		require.Error(t, err, name)
	}
	value := func(change func(b []byte)) []byte {
		b := response(1, 0, "value", 0)
		change(b)
		return b
	}
	for name, b := range map[string][]byte{
		"kind":                  edit(16, 5),
		"flags":                 edit(17, 1),
		"index":                 edit(18, 2),
		"pick with offset":      edit(20, 32),
		"pick with length":      edit(24, 1),
		"pick with aux":         edit(28, 1),
		"keep with index":       response(3, 1, "", 0),
		"absent with aux":       response(2, 0, "", 1),
		"value in the verdicts": value(func(b []byte) { b[20] = 16 }),
		"value beyond the end":  value(func(b []byte) { b[24] = 6 }),
		"value wraps around":    value(func(b []byte) { copy(b[20:], "\xff\xff\xff\xff") }),
		"value too long":        value(func(b []byte) { copy(b[24:], "\x01\x00\x10\x00") }),
		"both expiries":         response(1, 0, "value", 3),
		"unknown aux":           response(1, 0, "value", 4),
		"value with index":      response(1, 1, "value", 0),
	} {
		verdicts, err := policies.ParseResponse(b, []int{2})
		require.NoError(t, err, name)
		require.Error(t, verdicts[0].Err, name)
		require.Empty(t, verdicts[0].Value, name)
	}
}

func FuzzParseResponse(f *testing.F) {
	for kind := range byte(6) {
		f.Add(response(kind, 0, "value", 1), 1)
		f.Add(response(kind, 1, "", 0), 2)
	}
	f.Add([]byte("EDR1"), 0)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		counts := make([]int, uint(n)%8)
		for i := range counts {
			counts[i] = 2 + i
		}
		verdicts, err := policies.ParseResponse(b, counts)
		if err != nil {
			require.Nil(t, verdicts)
			return
		}
		require.Len(t, verdicts, len(counts))
		for i, v := range verdicts {
			if v.Err != nil {
				continue
			}
			require.LessOrEqual(t, v.Kind, policies.VerdictError)
			require.LessOrEqual(t, len(v.Value), len(b))
			if v.Kind == policies.VerdictPick {
				require.Less(t, int(v.Index), counts[i])
			}
		}
	})
}
