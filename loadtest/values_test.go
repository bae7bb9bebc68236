package main

import (
	"encoding/json"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

func TestValuesAreWhatTheSeedSays(t *testing.T) {
	t.Parallel()
	for _, mix := range []string{mixJSON, mixBase62, mixConstant} {
		for _, size := range []int{minValueBytes, 64, 200, 1000} {
			v := values{seed: 7, mix: mix, bytes: size}
			require.NoError(t, v.validate())
			seen := map[string]bool{}
			for _, n := range []uint32{1, 2, 9, 100_000, firstTraffic - 1} {
				value := v.of(n)
				require.Len(t, value, size, mix)
				require.Equal(t, value, v.of(n), "the same write has the same value")
				require.False(t, seen[string(value)], "each write has its own value")
				seen[string(value)] = true
				got, ok := writeOf(value)
				require.True(t, ok, "%s", value)
				require.Equal(t, n, got)
			}
			if mix != mixConstant {
				require.NotEqual(t, v.of(1), values{seed: 8, mix: mix, bytes: size}.of(1))
			}
		}
	}
}

func TestJSONValuesAreRecords(t *testing.T) {
	t.Parallel()
	v := values{seed: 1, mix: mixJSON, bytes: 200}
	var record struct {
		W     uint32 `json:"w"`
		Email string `json:"email"`
		Tags  []string
	}
	for n := range uint32(1000) {
		require.NoError(t, json.Unmarshal(v.of(n), &record), "%s", v.of(n))
		require.Equal(t, n, record.W)
		require.Len(t, record.Tags, 2)
		require.NotContains(t, record.Tags, "")
	}
}

// The mixes are what they are said to be: what a sync costs hangs on them.
func TestMixesCompressAsStated(t *testing.T) {
	t.Parallel()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	require.NoError(t, err)
	for mix, want := range map[string][2]float64{mixJSON: {2.2, 4}, mixBase62: {1.2, 1.5}, mixConstant: {10, 1000}} {
		var plain []byte
		for n := range uint32(1000) {
			plain = values{seed: 1, mix: mix, bytes: 200}.append(plain, n)
		}
		got := float64(len(plain)) / float64(len(enc.EncodeAll(plain, nil)))
		require.Greater(t, got, want[0], mix)
		require.Less(t, got, want[1], mix)
	}
}

func TestWriteOfRefusesWhatNobodyWrote(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"", ".", "x.", "12", `{"w":`, `{"w":12}`, `{"v":1,`, "99999999999.x", "4294967296.x", "-1.x"} {
		_, ok := writeOf([]byte(value))
		require.False(t, ok, value)
	}
	n, ok := writeOf(values{}.of(firstTraffic + 5))
	require.True(t, ok)
	require.Equal(t, uint32(firstTraffic+5), n)
}

func TestValuesRefuseNonsense(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, values{mix: "xml", bytes: 200}.validate(), errUsage)
	require.ErrorIs(t, values{mix: mixJSON, bytes: minValueBytes - 1}.validate(), errUsage)
	require.ErrorIs(t, values{mix: mixJSON, bytes: maxValueBytes + 1}.validate(), errUsage)
	require.NoError(t, values{mix: mixJSON, bytes: maxValueBytes}.validate())
}
