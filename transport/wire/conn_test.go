package wire_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/transport/wire"
)

func sampleConn() wire.Conn {
	return wire.Conn{
		Version: wire.Version, Cluster: "0123456789abcdef", Name: "n1", Node: 1 << 60, Boot: 7,
		Nonce: 99, Addresses: []string{"10.0.0.1:7383", "[::1]:7383"}, Attempt: 3, Holds: 1 << 63, Partitions: 256,
	}
}

func TestConnRoundTrips(t *testing.T) {
	t.Parallel()
	want := sampleConn()
	b, err := want.Append([]byte("head"))
	require.NoError(t, err)
	require.Equal(t, "head", string(b[:4]))
	got, err := wire.ParseConn(b[4:])
	require.NoError(t, err)
	require.Equal(t, want, got)

	got, err = wire.ParseConn(append(b[4:], "of a later version"...))
	require.NoError(t, err, "unknown fields at the end are skipped")
	require.Equal(t, want, got)
}

func TestConnAckRoundTrips(t *testing.T) {
	t.Parallel()
	want := wire.ConnAck{Code: wire.ConnBootConflict, Partitions: 256, Boot: 8, Self: sampleConn()}
	b, err := want.Append(nil)
	require.NoError(t, err)
	got, err := wire.ParseConnAck(b)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestConnRefusesEveryTruncatedPrefix(t *testing.T) {
	t.Parallel()
	b, err := sampleConn().Append(nil)
	require.NoError(t, err)
	for n := range len(b) - 1 { // the last byte is of a later version
		_, err := wire.ParseConn(b[:n])
		require.ErrorIs(t, err, wire.ErrConnShort, "prefix of %d bytes", n)
	}
	b, err = wire.ConnAck{Self: sampleConn()}.Append(nil)
	require.NoError(t, err)
	for n := range len(b) - 1 {
		_, err := wire.ParseConnAck(b[:n])
		require.ErrorIs(t, err, wire.ErrConnShort, "prefix of %d bytes", n)
	}
}

func TestConnHoldsItsLimitsBothWays(t *testing.T) {
	t.Parallel()
	over := map[string]func(*wire.Conn){
		"cluster":   func(c *wire.Conn) { c.Cluster = strings.Repeat("c", wire.MaxClusterBytes+1) },
		"name":      func(c *wire.Conn) { c.Name = strings.Repeat("n", wire.MaxNameBytes+1) },
		"address":   func(c *wire.Conn) { c.Addresses = []string{strings.Repeat("a", wire.MaxAddressBytes+1)} },
		"addresses": func(c *wire.Conn) { c.Addresses = make([]string, wire.MaxAddresses+1) },
	}
	for name, spoil := range over {
		c := sampleConn()
		spoil(&c)
		_, err := c.Append(nil)
		require.ErrorIs(t, err, wire.ErrConnLimit, name)
	}
	b, err := sampleConn().Append(nil)
	require.NoError(t, err)
	b[2] = wire.MaxClusterBytes + 1
	_, err = wire.ParseConn(append(b, make([]byte, 300)...))
	require.ErrorIs(t, err, wire.ErrConnLimit, "a length over the limit is refused, not followed")
	_, err = wire.ParseConn(make([]byte, wire.MaxConnBytes+1))
	require.ErrorIs(t, err, wire.ErrConnLimit)
	_, err = wire.ParseConnAck(make([]byte, wire.MaxConnBytes+1))
	require.ErrorIs(t, err, wire.ErrConnLimit)
}

func TestConnAtItsLimitsFitsTheFrame(t *testing.T) {
	t.Parallel()
	c := wire.Conn{
		Cluster: strings.Repeat("c", wire.MaxClusterBytes), Name: strings.Repeat("n", wire.MaxNameBytes),
		Addresses: slices.Repeat([]string{strings.Repeat("a", wire.MaxAddressBytes)}, wire.MaxAddresses),
	}
	b, err := wire.ConnAck{Self: c}.Append(nil)
	require.NoError(t, err)
	require.LessOrEqual(t, len(b), wire.MaxConnBytes)
	_, err = wire.ParseConnAck(b)
	require.NoError(t, err)
}

func TestConnCodesHaveNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, "BOOT_CONFLICT", wire.ConnBootConflict.String())
	require.Equal(t, "code 77", wire.ConnCode(77).String())
}

// FuzzConn: whatever parses says the same again when it is written and parsed.
func FuzzConn(f *testing.F) {
	b, err := sampleConn().Append(nil)
	require.NoError(f, err)
	f.Add(b)
	f.Add(b[:20])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := wire.ParseConn(b)
		if err != nil {
			return
		}
		again, err := c.Append(nil)
		require.NoError(t, err)
		said := min(len(b), len(again)) // an earlier version ends before Copies, a later one says more
		require.Equal(t, b[:said], again[:said])
		back, err := wire.ParseConn(again)
		require.NoError(t, err)
		require.Equal(t, c, back)
	})
}

// FuzzConnAck is FuzzConn for the answer.
func FuzzConnAck(f *testing.F) {
	b, err := wire.ConnAck{Code: wire.ConnForgotten, Self: sampleConn()}.Append(nil)
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := wire.ParseConnAck(b)
		if err != nil {
			return
		}
		again, err := a.Append(nil)
		require.NoError(t, err)
		said := min(len(b), len(again)) // an earlier version ends before Copies, a later one says more
		require.Equal(t, b[:said], again[:said])
	})
}
