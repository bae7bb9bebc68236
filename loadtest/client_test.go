package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

// fakeRESP is a node's RESP door: it keeps what is set, and answers a command
// by fault first where that says something.
type fakeRESP struct {
	addr string

	mu    sync.Mutex
	keys  map[string]string
	count int
	// fault is given the number of the command and returns a whole reply, or
	// "close", or nothing.
	fault func(n int, args []string) string
}

func newFakeRESP(t *testing.T, fault func(int, []string) string) *fakeRESP {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &fakeRESP{addr: listener.Addr().String(), keys: map[string]string{}, fault: fault}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f.serve(nc) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return f
}

func (f *fakeRESP) serve(nc net.Conn) {
	defer nc.Close()
	r := bufio.NewReader(nc)
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		answer := f.answer(args)
		if answer == "close" {
			return
		}
		if _, err := io.WriteString(nc, answer); err != nil {
			return
		}
	}
}

func (f *fakeRESP) answer(args []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	if f.fault != nil {
		if out := f.fault(f.count, args); out != "" {
			return out
		}
	}
	switch args[0] {
	case "SET":
		f.keys[args[1]] = args[2]
		return "+OK\r\n"
	case "DEL":
		delete(f.keys, args[1])
		return ":1\r\n"
	case "GET":
		if v, ok := f.keys[args[1]]; ok {
			return fmt.Sprintf("$%d\r\n%s\r\n", len(v), v)
		}
		return "$-1\r\n"
	}
	return "-ERR unknown command\r\n"
}

func readCommand(r *bufio.Reader) ([]string, error) {
	number := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line[0] != kind {
			return 0, fmt.Errorf("want %c: %q", kind, line)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number('*')
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		size, err := number('$')
		if err != nil {
			return nil, err
		}
		body := make([]byte, size+2)
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, err
		}
		args[i] = string(body[:size])
	}
	return args, nil
}

func TestLoaderSendsAgainWhatWasRefusedOrLost(t *testing.T) {
	t.Parallel()
	refused := newFakeRESP(t, func(n int, _ []string) string {
		switch {
		case n%50 == 3:
			return "-LOADING no owner serves\r\n"
		case n == 200:
			return "close"
		}
		return ""
	})
	plain := newFakeRESP(t, nil)
	l := testLedger(1000)
	var writes []write
	for i := range 1000 {
		writes = append(writes, write{key: i, number: l.number(), remove: i%10 == 0})
	}
	var mu sync.Mutex
	done := 0
	loader := &loader{ledger: l, doors: []door{{resp: refused.addr}, {resp: plain.addr}}, step: func(n int) {
		mu.Lock()
		defer mu.Unlock()
		done += n
	}}
	require.NoError(t, loader.run(t.Context(), writes))
	require.Equal(t, 1000, done, "each is acknowledged once")
	require.Positive(t, loader.retries.Load())
	require.Contains(t, loader.reasons, "LOADING no owner serves")
	for i, w := range writes {
		if w.remove {
			require.True(t, l.want[i].gone)
			continue
		}
		require.Equal(t, expectation{a: w.number}, l.want[i])
		key, value := l.key(i), string(l.values.of(w.number))
		require.True(t, refused.keys[key] == value || plain.keys[key] == value, key)
	}
}

func TestLoaderEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	never := newFakeRESP(t, func(int, []string) string {
		cancel()
		return "-LOADING never\r\n"
	})
	l := testLedger(1)
	err := (&loader{ledger: l, doors: []door{{resp: never.addr}}, step: func(int) {}}).run(ctx, []write{{number: 1}})
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, l.want[0], "what was not acknowledged is not wanted")
}

func TestRESPRepliesAreRead(t *testing.T) {
	t.Parallel()
	replies := []string{"+PONG\r\n", ":7\r\n", "$-1\r\n", "$0\r\n\r\n", "-ERR no\r\n", "*1\r\n", "$9999999\r\n"}
	f := newFakeRESP(t, func(n int, _ []string) string { return replies[n-1] })
	conn, err := dialRESP(t.Context(), f.addr)
	require.NoError(t, err)
	defer conn.close()
	for _, want := range []reply{{kind: '+', text: []byte("PONG")}, {kind: ':', text: []byte("7")}, {kind: '$', null: true}, {kind: '$', text: []byte{}}} {
		got, err := conn.do("X")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = conn.do("X")
	require.EqualError(t, err, "ERR no")
	require.True(t, replied(err))
	_, err = conn.do("X")
	require.ErrorContains(t, err, "not expected")
	require.False(t, replied(err))
	_, err = conn.do("X")
	require.ErrorContains(t, err, "length")
}

func TestEachKeyAsksAgain(t *testing.T) {
	t.Parallel()
	f := newFakeRESP(t, func(n int, _ []string) string {
		if n == 2 {
			return "-TRYAGAIN\r\n"
		}
		return ""
	})
	f.keys["a"], f.keys["b"], f.keys["c"] = "1", "2", "3"
	got := map[string]string{}
	err := eachKey(t.Context(), door{resp: f.addr}, []string{"a", "b", "c", "d"}, func(key string) []string { return []string{"GET", key} }, func(key string, r reply) {
		if !r.null {
			got[key] += string(r.text)
		}
	})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "1", "b": "2", "c": "3"}, got, "no answer twice")
}

// fakeHTTP is a node's HTTP door over one key, which takes a write beside
// another when both carry the token of what was before.
func fakeHTTP(t *testing.T) (*httptest.Server, *[]string) {
	t.Helper()
	held, version := []string{}, 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/kv/{key}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(headerToken, "t"+strconv.Itoa(version))
		switch {
		case len(held) == 0:
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Query().Get("siblings") == "1":
			var parts []string
			for _, v := range held {
				parts = append(parts, fmt.Sprintf(`{"value_base64":%q}`, base64.StdEncoding.EncodeToString([]byte(v))))
			}
			fmt.Fprintf(w, `{"token":"t","siblings":[%s]}`, strings.Join(parts, ","))
		default:
			w.Header().Set(headerState, "isolated")
			io.WriteString(w, held[0])
		}
	})
	mux.HandleFunc("PUT /v1/kv/{key}", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.PathValue("key") == "refused" {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		if r.Header.Get(headerToken) == "" {
			held, version = nil, version+1
		} else if len(held) == 1 && held[0] == "first" {
			held = nil
		}
		held = append(held, string(body))
		w.Header().Set(headerCopies, "2/3")
		w.WriteHeader(http.StatusNoContent)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server, &held
}

func TestConflictIsTwoWritesWithOneToken(t *testing.T) {
	t.Parallel()
	server, held := fakeHTTP(t)
	addr := strings.TrimPrefix(server.URL, "http://")
	kv := newKVClient()
	defer kv.close()
	doors := []door{{http: addr}, {http: addr}}
	l := testLedger(3)
	require.ErrorIs(t, conflict(t.Context(), kv, l, doors, 1), errNoToken, "there is nothing to replace")

	answer, err := kv.put(t.Context(), addr, l.key(1), "", []byte("first"))
	require.NoError(t, err)
	require.Equal(t, "2/3", answer.copies)
	require.NoError(t, conflict(t.Context(), kv, l, doors, 1))
	require.Equal(t, []string{string(l.values.of(l.want[1].a)), string(l.values.of(l.want[1].b))}, *held)
	siblings, err := kv.siblings(t.Context(), addr, l.key(1))
	require.NoError(t, err)
	require.Len(t, siblings, 2)
	require.Equal(t, l.values.of(l.want[1].a), siblings[0].Value)
	got, err := kv.get(t.Context(), addr, l.key(1))
	require.NoError(t, err)
	require.True(t, got.found)
	require.Equal(t, "isolated", got.state)
	_, err = kv.put(t.Context(), addr, "refused", "", nil)
	require.ErrorContains(t, err, "503")
}

func TestReadersCountAStaleNode(t *testing.T) {
	t.Parallel()
	l := testLedger(10)
	for i := range l.want {
		l.want[i] = expectation{a: l.number()}
	}
	l.want[9].gone = true
	// It answers every key with its first write, as a node would that came back
	// with what it had: the overwritten key is stale, the deleted one is back.
	old := map[string][]byte{}
	for i := range l.want {
		old[l.key(i)] = l.values.of(uint32(i) + 1)
	}
	l.want[0] = expectation{a: l.number()}
	l.begun[0].Store(firstTraffic + 1)
	l.traffic[0].Store(firstTraffic + 1)
	seen := make(chan struct{}, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value, ok := old[strings.TrimPrefix(r.URL.Path, "/v1/kv/")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		w.Write(value)
		select {
		case seen <- struct{}{}:
		default:
		}
	}))
	defer server.Close()
	kv := newKVClient()
	defer kv.close()
	r := &readers{
		ledger: l, plan: plan{overwritten: []int{0}, deleted: []int{9}}, keys: len(l.want), kv: kv, seed: 1,
		door: door{name: "n3", http: strings.TrimPrefix(server.URL, "http://")}, before: snapshot(&l.traffic),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(ctx)
	}()
	for range cap(seen) {
		<-seen
	}
	cancel()
	<-done
	require.Positive(t, r.counts.stale)
	require.Positive(t, r.counts.resurrected)
	require.Positive(t, r.counts.notFound, "the traffic's key")
	require.Zero(t, r.counts.lagging)
	require.Greater(t, r.counts.reads, r.counts.stale+r.counts.resurrected+r.counts.notFound, "what nobody changed is right")
	require.Len(t, r.faults, maxFaults)
}

// dumpServer serves dump lines as a node's admin API would.
func dumpServer(t *testing.T, lines string) door {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == admin.PathDump {
			io.WriteString(w, lines)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	client := admin.NewClient(server.URL, "")
	t.Cleanup(client.Close)
	return door{name: "n1", admin: client}
}

func TestDumpIsRead(t *testing.T) {
	t.Parallel()
	const actor = "00000000000000aa.7.000000ff"
	d, err := readDump(t.Context(), dumpServer(t, `{"version":{"partition":3,"key":"Yg==","dot":{"actor":"`+actor+`","seq":5},"hlc":9,"expires_ms":77,"value_bytes":4,"value_xxh3":"00000000deadbeef"}}
{"version":{"partition":3,"key":"YQ==","dot":{"actor":"`+actor+`","seq":4},"hlc":8,"tombstone":true,"value_bytes":0,"value_xxh3":""}}
{"end":{"partition":3,"versions":2,"clock":[{"actor":"`+actor+`","base":5}],"root":"ab"}}
{"end":{"partition":4,"versions":0,"clock":null,"root":"00"}}
`))
	require.NoError(t, err)
	require.Len(t, d.partitions, 2)
	p := d.partitions[3]
	require.Equal(t, "ab", p.root)
	require.Len(t, p.versions, 2)
	require.Equal(t, "a", p.versions[0].key, "sorted by key")
	require.True(t, p.versions[0].tombstone)
	require.Equal(t, uint64(0xdeadbeef), p.versions[1].sum)
	require.Equal(t, int64(77), p.versions[1].expiresMS)
	require.Equal(t, uint32(7), p.versions[1].dot.Actor.Boot)
	require.Len(t, p.live(), 1)
}

// Roots say nothing of clocks: what one owner has not been told of yet is no fault
// unless it stays.
func TestCopiesThatDifferAreReadAgain(t *testing.T) {
	t.Parallel()
	line := func(base int) string {
		return fmt.Sprintf(`{"end":{"partition":0,"versions":0,"clock":[{"actor":"00000000000000aa.7.000000ff","base":%d}],"root":"00"}}`+"\n", base)
	}
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		base := 4
		if asked.Add(1) > 3 {
			base = 5
		}
		io.WriteString(w, line(base))
	}))
	defer server.Close()
	late := admin.NewClient(server.URL, "")
	defer late.Close()
	doors := []door{dumpServer(t, line(5)), {name: "n2", admin: late}}
	where := placement{partitions: 1, owners: map[uint32][]string{0: {"n1", "n2"}}}
	v, err := verifyCopies(t.Context(), testLedger(0), where, doors, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"partition 0: clocks differ between n1 and n2"}, v.faults)
	require.Equal(t, int32(1), asked.Load(), "the limit had passed")
	v, err = verifyCopies(t.Context(), testLedger(0), where, doors, time.Minute)
	require.NoError(t, err)
	require.Empty(t, v.faults)
	require.Equal(t, int32(4), asked.Load(), "and not once it was equal")
}

func TestDumpThatContradictsItselfIsRefused(t *testing.T) {
	t.Parallel()
	const actor = "00000000000000aa.7.000000ff"
	for name, tc := range map[string]struct{ lines, says string }{
		"count":  {`{"end":{"partition":3,"versions":2,"clock":null,"root":""}}`, "count of 2 after 0"},
		"actor":  {`{"version":{"partition":3,"key":"Yg==","dot":{"actor":"me","seq":5},"value_xxh3":"00000000deadbeef"}}`, "parse actor"},
		"hash":   {`{"version":{"partition":3,"key":"Yg==","dot":{"actor":"` + actor + `","seq":5},"value_xxh3":"beef"}}`, "16 hexadecimal digits"},
		"digits": {`{"version":{"partition":3,"key":"Yg==","dot":{"actor":"` + actor + `","seq":5},"value_xxh3":"zzzzzzzzzzzzzzzz"}}`, "invalid byte"},
		"cut":    {`{"version":{"partition":3,"key":"Yg==","dot":{"actor":"` + actor + `","seq":5},"value_xxh3":"00000000deadbeef"}}`, "unexpected EOF"},
	} {
		_, err := readDump(t.Context(), dumpServer(t, tc.lines+"\n"))
		require.ErrorContains(t, err, tc.says, name)
	}
}

func TestEachPartitionMustHaveBeenEqualOnce(t *testing.T) {
	t.Parallel()
	part := func(id uint32, root string, owned bool) admin.Partition {
		return admin.Partition{ID: id, Root: root, Owned: owned}
	}
	seen := map[uint32]bool{}
	theirs := []admin.Partition{part(1, "a", true), part(2, "b", true), part(3, "", false)}
	require.False(t, allSeen(seen, []admin.Partition{part(1, "a", true), part(2, "x", true), part(3, "c", true)}, theirs))
	require.True(t, seen[1])
	require.True(t, allSeen(seen, []admin.Partition{part(1, "changed since", true), part(2, "b", true), part(4, "", false)}, theirs))
}
