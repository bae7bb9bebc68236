package resp_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadFromMemoryAllocatesNothing counts over whole round trips on a real
// connection, the client's side among them.
func TestReadFromMemoryAllocatesNothing(t *testing.T) { // not parallel: others would be counted
	for name, tc := range map[string]struct{ batch, reply string }{
		"get":    {strings.Repeat(command("GET", "k"), 16), strings.Repeat(bulk("value"), 16)},
		"miss":   {command("GET", "none"), "$-1\r\n"},
		"widths": {command("GET", "k") + command("GET", "long"), bulk("value") + bulk(strings.Repeat("v", 5000))},
		"mget":   {command("MGET", "k", "none", "k"), "*3\r\n" + bulk("value") + "$-1\r\n" + bulk("value")},
		"exists": {command("EXISTS", "k") + command("STRLEN", "k") + command("TYPE", "k"), ":1\r\n:5\r\n+string\r\n"},
		"ping":   {command("PING"), "+PONG\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			f.store.Put("k", "value")
			f.store.Put("long", strings.Repeat("v", 5000))
			nc, err := net.Dial("tcp", f.addr)
			require.NoError(t, err)
			defer nc.Close()
			batch, got := []byte(tc.batch), make([]byte, len(tc.reply))
			round := func() {
				if _, err := nc.Write(batch); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(nc, got); err != nil {
					t.Fatal(err)
				}
			}
			round() // the buffers reach their sizes
			require.Equal(t, tc.reply, string(got))
			require.Zero(t, testing.AllocsPerRun(500, round))
		})
	}
}

func BenchmarkPipeline(b *testing.B) {
	value := strings.Repeat("v", 100)
	get := func(int) string { return command("GET", "key:000000000042") }
	set := func(i int) string { return command("SET", fmt.Sprintf("key:%012d", i), value) }
	for _, bc := range []struct {
		name  string
		depth int
		one   func(int) string
		reply string
	}{{"get", 1, get, bulk(value)}, {"get", 16, get, bulk(value)}, {"set", 1, set, "+OK\r\n"}, {"set", 16, set, "+OK\r\n"}} {
		b.Run(fmt.Sprintf("%s/depth=%d", bc.name, bc.depth), func(b *testing.B) {
			f := start(b)
			f.store.Put("key:000000000042", value)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				nc, err := net.Dial("tcp", f.addr)
				if err != nil {
					b.Error(err)
					return
				}
				defer nc.Close()
				var batch strings.Builder
				for i := range bc.depth {
					batch.WriteString(bc.one(i))
				}
				raw, got := []byte(batch.String()), make([]byte, bc.depth*len(bc.reply))
				for n := 0; pb.Next(); n++ {
					if n%bc.depth != 0 {
						continue // was done with its batch
					}
					if _, err := nc.Write(raw); err != nil {
						b.Error(err)
						return
					}
					if _, err := io.ReadFull(nc, got); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
