package node_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
)

// partition returns what a node says of one partition.
func (f *life) partition(id uint32) admin.Partition {
	parts, err := f.admin.Partitions(f.lab.t.Context())
	require.NoError(f.lab.t, err)
	i := slices.IndexFunc(parts, func(p admin.Partition) bool { return p.ID == id })
	require.GreaterOrEqual(f.lab.t, i, 0)
	return parts[i]
}

// settled returns a partition that its owners alone hold, in the view of all, if
// there is one. Others may be kept for a while by who was displaced as nodes joined.
func settled(t *testing.T, lives map[string]*life) (id uint32, owners []string) {
	require.Eventually(t, func() bool {
		for id = range uint32(16) {
			owners = lives["n1"].partition(id).Owners
			holders, agree := 0, true
			for _, f := range lives {
				p := f.partition(id)
				agree = agree && slices.Equal(p.Owners, owners) && (p.Owned || p.State == "")
				if p.Owned && p.Verified && p.State == kv.Live.String() {
					holders++
				}
			}
			if agree && holders == 3 {
				return true
			}
		}
		return false
	}, aMinute, pollEvery)
	return id, owners
}

func keyIn(id uint32) string {
	for i := 0; ; i++ {
		key := fmt.Sprintf("key-%d", i)
		if kv.PartitionOf(kv.Hash([]byte(key)), 16) == kv.Partition(id) {
			return key
		}
	}
}

// put writes a key and returns what the answer says of its copies.
func (f *life) put(key, value string) string {
	req, err := http.NewRequestWithContext(f.lab.t.Context(), http.MethodPut, "http://"+f.ports.HTTP+"/v1/kv/"+key, strings.NewReader(value))
	require.NoError(f.lab.t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(f.lab.t, err)
	defer resp.Body.Close()
	require.Less(f.lab.t, resp.StatusCode, 300)
	return resp.Header.Get("X-Edged-Copies")
}

// TestAStandInCarriesAWrite has two owners of a key down, a write taken by the third
// and by a node that stands in, and the disk of the third lost before any of the two
// is back: real nodes on loopback find the write again, and the one that carried it
// lets it go.
func TestAStandInCarriesAWrite(t *testing.T) {
	t.Parallel()
	names := []string{"n1", "n2", "n3", "n4", "n5"}
	l := newLab(t, names...)
	lives := map[string]*life{"n1": l.start(l.config("n1")).ready()}
	for _, name := range names[1:] {
		lives[name] = l.start(l.config(name, lives["n1"].ports.Node)).ready()
	}
	for _, f := range lives {
		require.Eventually(t, func() bool { return members(t, f) == len(names) && verified(t, f) }, aMinute, pollEvery)
	}
	id, owners := settled(t, lives)
	key := keyIn(id)
	first, away := lives[owners[0]], owners[1:]
	require.Equal(t, "3/3", first.put(key+"?w=3", "old"))
	for _, name := range away {
		lives[name].stop()
	}
	var carriers []string
	require.Eventually(t, func() bool {
		carriers = first.partition(id).StandIns
		return len(carriers) == 1
	}, aMinute, pollEvery)
	carrier := lives[carriers[0]]
	require.Equal(t, "1+1/3", first.put(key, "new"))
	require.Equal(t, admin.StateStandIn, carrier.partition(id).State)
	status, body := carrier.do(http.MethodGet, key, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "new", body, "the owner answers through it")

	first.stop()
	require.NoError(t, os.RemoveAll(l.data(owners[0])))
	status, _ = carrier.do(http.MethodGet, key, "")
	require.Equal(t, http.StatusServiceUnavailable, status, "it holds the write and answers nobody by itself")
	for _, name := range owners {
		cfg := l.config(name, carrier.ports.Node)
		lives[name] = l.start(cfg)
	}
	for _, name := range owners {
		status, body = lives[name].ready().do(http.MethodGet, key, "")
		require.Equal(t, http.StatusOK, status, name)
		require.Equal(t, "new", body, name)
	}
	require.Eventually(t, func() bool { return carrier.partition(id).State == "" }, aMinute, pollEvery, "it is dropped")
	status, body = carrier.do(http.MethodGet, key, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "new", body)
}
