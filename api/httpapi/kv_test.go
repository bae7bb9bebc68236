package httpapi_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"edged.dev/edged/api/apitest"
	"edged.dev/edged/api/httpapi"
	"edged.dev/edged/internal/kv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.UnixMilli(1_700_000_000_000)

// door is the key-value API over a store in memory.
type door struct {
	t     *testing.T
	now   time.Time
	store *apitest.Store
	kv    *httpapi.KV
}

func open(t *testing.T, change ...func(*httpapi.KVConfig)) *door {
	t.Helper()
	d := &door{t: t, now: noon}
	now := func() time.Time { return d.now }
	d.store = apitest.New(now)
	cfg := httpapi.KVConfig{Store: d.store, Now: now}
	for _, fn := range change {
		fn(&cfg)
	}
	var err error
	d.kv, err = httpapi.NewKV(cfg)
	require.NoError(t, err)
	return d
}

// do sends one request; head is name, value, name, value, ...
func (d *door) do(method, target, body string, head ...string) *httptest.ResponseRecorder {
	d.t.Helper()
	r := httptest.NewRequestWithContext(d.t.Context(), method, target, strings.NewReader(body))
	for i := 0; i < len(head); i += 2 {
		r.Header.Add(head[i], head[i+1])
	}
	w := httptest.NewRecorder()
	d.kv.ServeHTTP(w, r)
	return w
}

// problem expects an error of that status and code, and returns its detail.
func problem(t *testing.T, w *httptest.ResponseRecorder, status int, code string) string {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body)
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	var p struct {
		Type, Title, Detail, Code string
		Status                    int
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Equal(t, code, p.Code)
	require.Equal(t, code, p.Type)
	require.Equal(t, status, p.Status)
	require.Equal(t, http.StatusText(status), p.Title)
	require.NotEmpty(t, p.Detail)
	return p.Detail
}

func TestPutGetHeadDelete(t *testing.T) {
	t.Parallel()
	d := open(t)
	w := d.do("PUT", "/v1/kv/k", "value")
	require.Equal(t, 204, w.Code)
	require.Equal(t, "3/3", w.Header().Get("X-Edged-Copies"))
	require.NotEmpty(t, w.Header().Get("X-Edged-Token"))
	etag := w.Header().Get("ETag")
	require.Regexp(t, `^"[0-9a-f]+"$`, etag)

	w = d.do("GET", "/v1/kv/k", "")
	require.Equal(t, 200, w.Code)
	require.Equal(t, "value", w.Body.String())
	require.Equal(t, "application/octet-stream", w.Header().Get("Content-Type"))
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "5", w.Header().Get("Content-Length"))
	require.Equal(t, etag, w.Header().Get("ETag"))
	require.Empty(t, w.Header().Get("X-Edged-Copies"))

	w = d.do("DELETE", "/v1/kv/k", "")
	require.Equal(t, 204, w.Code)
	require.Equal(t, "true", w.Header().Get("X-Edged-Existed"))
	problem(t, d.do("GET", "/v1/kv/k", ""), 404, "not-found")
	require.Equal(t, "false", d.do("DELETE", "/v1/kv/k", "").Header().Get("X-Edged-Existed"))
	require.Equal(t, map[httpapi.Answer]uint64{{"PUT", 204}: 1, {"GET", 200}: 1, {"GET", 404}: 1, {"DELETE", 204}: 2}, d.kv.Answered())
}

// TestKeysAreWhatFollowsTheSlash: no path is cleaned, no plus is a space.
func TestKeysAreWhatFollowsTheSlash(t *testing.T) {
	t.Parallel()
	d := open(t)
	for path, key := range map[string]string{
		"a/b/c":         "a/b/c",
		"a//b":          "a//b",
		"../x/./y/":     "../x/./y/",
		"/":             "/",
		"%2F%20+%00%ff": "/ +\x00\xff",
		"a%2Fb":         "a/b",
		"%3Fr=1":        "?r=1",
	} {
		require.Equal(t, 204, d.do("PUT", "/v1/kv/"+path, path).Code)
		v, found := d.store.Value(key)
		require.True(t, found, key)
		require.Equal(t, path, v)
		require.Equal(t, path, d.do("GET", "/v1/kv/"+path, "").Body.String())
	}
	problem(t, d.do("GET", "/v1/kv/", ""), 400, "invalid")
	problem(t, d.do("GET", "/v1/other", ""), 404, "no-such-path")
	problem(t, d.do("GET", "/v1/kvx", ""), 404, "no-such-path")
}

func TestMethodsThatAreNot(t *testing.T) {
	t.Parallel()
	d := open(t)
	w := d.do("POST", "/v1/kv/k", "")
	problem(t, w, 405, "method-not-allowed")
	require.Equal(t, "GET, HEAD, PUT, DELETE", w.Header().Get("Allow"))
	w = d.do("PUT", "/v1/kv", "")
	problem(t, w, 405, "method-not-allowed")
	require.Equal(t, "GET", w.Header().Get("Allow"))
	require.Equal(t, map[httpapi.Answer]uint64{{"OTHER", 405}: 2}, d.kv.Answered())
}

func TestLimitsAtTheLimitAndOneOver(t *testing.T) {
	t.Parallel()
	d := open(t)
	require.Equal(t, 204, d.do("PUT", "/v1/kv/"+strings.Repeat("k", 1024), "v").Code)
	require.Contains(t, problem(t, d.do("PUT", "/v1/kv/"+strings.Repeat("k", 1025), "v"), 414, "too-large"), "1025")
	require.Equal(t, 204, d.do("PUT", "/v1/kv/k", strings.Repeat("v", 1<<20)).Code)
	w := d.do("PUT", "/v1/kv/k", strings.Repeat("v", 1<<20+1))
	problem(t, w, 413, "too-large")
	require.Equal(t, "close", w.Header().Get("Connection"))

	// A body of unknown length is counted as it comes.
	for size, status := range map[int]int{1 << 20: 204, 1<<20 + 1: 413} {
		r := httptest.NewRequestWithContext(t.Context(), "PUT", "/v1/kv/k", io.MultiReader(bytes.NewReader(make([]byte, size))))
		require.EqualValues(t, -1, r.ContentLength)
		w := httptest.NewRecorder()
		d.kv.ServeHTTP(w, r)
		require.Equal(t, status, w.Code)
	}
	token := func(n int) string { return base64.RawURLEncoding.EncodeToString(make([]byte, n)) }
	require.Contains(t, problem(t, d.do("PUT", "/v1/kv/k", "v", "X-Edged-Token", token(8193)), 400, "bad-token"), "8193")
	require.Contains(t, problem(t, d.do("PUT", "/v1/kv/k", "v", "X-Edged-Token", token(8192)), 400, "bad-token"), "not of this key")
	list := func(n int) string { return strings.TrimSuffix(strings.Repeat(`"x",`, n), ",") }
	require.Equal(t, 200, d.do("GET", "/v1/kv/k", "", "If-None-Match", list(64)).Code)
	problem(t, d.do("GET", "/v1/kv/k", "", "If-None-Match", list(65)), 400, "invalid")
}

func TestTTLBecomesAnAbsoluteExpiry(t *testing.T) {
	t.Parallel()
	d := open(t)
	require.Equal(t, 204, d.do("PUT", "/v1/kv/k", "v", "X-Edged-TTL", "1500ms").Code)
	require.Equal(t, noon.UnixMilli()+1500, d.store.Expires("k"))
	d.now = noon.Add(500 * time.Millisecond)
	w := d.do("GET", "/v1/kv/k", "")
	require.Equal(t, "1s", w.Header().Get("X-Edged-TTL"))
	require.Equal(t, fmt.Sprint(noon.UnixMilli()+1500), w.Header().Get("X-Edged-Expires"))
	d.now = noon.Add(1500 * time.Millisecond)
	problem(t, d.do("GET", "/v1/kv/k", ""), 404, "not-found")
	require.Equal(t, 204, d.do("PUT", "/v1/kv/k", "v", "X-Edged-TTL", "1ns").Code)
	require.Equal(t, d.now.UnixMilli()+1, d.store.Expires("k"))
	require.Equal(t, 204, d.do("PUT", "/v1/kv/k", "v").Code)
	require.Zero(t, d.store.Expires("k"))
	require.Empty(t, d.do("GET", "/v1/kv/k", "").Header().Get("X-Edged-TTL"))
	for _, ttl := range []string{"0s", "-1s", "10", "soon"} {
		problem(t, d.do("PUT", "/v1/kv/k", "v", "X-Edged-TTL", ttl), 400, "invalid")
	}
}

func TestConditionsOnWrites(t *testing.T) {
	t.Parallel()
	d := open(t)
	put := func(head ...string) *httptest.ResponseRecorder { return d.do("PUT", "/v1/kv/k", "v", head...) }
	problem(t, put("If-Match", "*"), 412, "precondition-failed")
	first := put("If-None-Match", "*")
	require.Equal(t, 204, first.Code)
	etag := first.Header().Get("ETag")
	problem(t, put("If-None-Match", "*"), 412, "precondition-failed")
	problem(t, put("If-None-Match", `"other", W/`+etag), 412, "precondition-failed")
	problem(t, put("If-Match", "W/"+etag), 412, "precondition-failed")
	problem(t, put("If-Match", `"other"`), 412, "precondition-failed")
	second := put("If-Match", `"other" , `+etag)
	require.Equal(t, 204, second.Code)
	require.NotEqual(t, etag, second.Header().Get("ETag"))
	problem(t, d.do("DELETE", "/v1/kv/k", "", "If-Match", etag), 412, "precondition-failed")
	require.Equal(t, 204, d.do("DELETE", "/v1/kv/k", "", "If-Match", second.Header().Get("ETag")).Code)
	for _, bad := range []string{"x", `"x`, `"x" y`, `W/x`, `*, "x"`} {
		problem(t, put("If-Match", bad), 400, "invalid")
	}
}

func TestConditionsOnReads(t *testing.T) {
	t.Parallel()
	d := open(t)
	etag := d.do("PUT", "/v1/kv/k", "v").Header().Get("ETag")
	for _, tc := range []struct {
		name, value string
		status      int
	}{
		{"If-None-Match", etag, 304},
		{"If-None-Match", "W/" + etag, 304},
		{"If-None-Match", "*", 304},
		{"If-None-Match", `"other"`, 200},
		{"If-Match", etag, 200},
		{"If-Match", "*", 200},
		{"If-Match", "W/" + etag, 412},
		{"If-Match", `"other"`, 412},
	} {
		w := d.do("GET", "/v1/kv/k", "", tc.name, tc.value)
		require.Equal(t, tc.status, w.Code, "%s: %s", tc.name, tc.value)
		if tc.status == 304 {
			require.Empty(t, w.Body.String())
			require.Equal(t, etag, w.Header().Get("ETag"))
		}
	}
	require.Equal(t, 412, d.do("GET", "/v1/kv/none", "", "If-Match", "*").Code)
	require.Equal(t, 404, d.do("GET", "/v1/kv/none", "", "If-None-Match", "*").Code)
}

// TestTokenMakesSiblingsAndMergesThem is the way of a conflict: two writes that
// carry one older token, seen by ?siblings=1, ended by a write with its token.
func TestTokenMakesSiblingsAndMergesThem(t *testing.T) {
	t.Parallel()
	d := open(t)
	old := d.do("PUT", "/v1/kv/k", "old").Header().Get("X-Edged-Token")
	d.do("PUT", "/v1/kv/k", "left", "X-Edged-Token", old)
	require.Equal(t, 204, d.do("PUT", "/v1/kv/k", "right", "X-Edged-Token", old).Code)
	w := d.do("GET", "/v1/kv/k?siblings=1", "")
	require.Equal(t, 200, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var got struct {
		Token    string
		Siblings []struct {
			Value     []byte `json:"value_base64"`
			Dot       string
			HLC       uint64
			ExpiresMS *int64 `json:"expires_ms"`
		}
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Len(t, got.Siblings, 2)
	require.Equal(t, "left", string(got.Siblings[0].Value))
	require.Equal(t, "right", string(got.Siblings[1].Value))
	require.Equal(t, "0000000000000000.0.00000000:3", got.Siblings[1].Dot)
	require.EqualValues(t, 3, got.Siblings[1].HLC)
	require.NotNil(t, got.Siblings[1].ExpiresMS)
	require.Equal(t, w.Header().Get("X-Edged-Token"), got.Token)
	require.Equal(t, 204, d.do("PUT", "/v1/kv/k", "both", "X-Edged-Token", got.Token+"==").Code)
	require.Equal(t, 1, strings.Count(d.do("GET", "/v1/kv/k?siblings=1", "").Body.String(), "value_base64"))
	problem(t, d.do("GET", "/v1/kv/none?siblings=1", ""), 404, "not-found")
	problem(t, d.do("PUT", "/v1/kv/k2", "v", "X-Edged-Token", got.Token), 400, "bad-token")
	problem(t, d.do("PUT", "/v1/kv/k", "v", "X-Edged-Token", "no base64!"), 400, "bad-token")
}

func TestRequestCarriesWhatWasAsked(t *testing.T) {
	t.Parallel()
	d := open(t)
	var seen kv.Request
	d.store.Adorn(func(r *kv.Request, _ *kv.Response) { seen = *r })
	require.Equal(t, 404, d.do("GET", "/v1/kv/k?r=2&w=3&siblings=0", "", "X-Edged-Fence", "ZmVuY2U").Code)
	require.Equal(t, kv.OpGet, seen.Op)
	require.Equal(t, 2, seen.R)
	require.Equal(t, 3, seen.W)
	require.False(t, seen.Siblings)
	require.True(t, seen.Meta)
	require.Equal(t, "fence", string(seen.Fence))
	require.Nil(t, seen.Token)
	for _, query := range []string{"r=0", "r=256", "w=x", "siblings=yes", "sibling=1", "r=1&r=2", "r=%zz"} {
		problem(t, d.do("GET", "/v1/kv/k?"+query, ""), 400, "invalid")
	}
	problem(t, d.do("PUT", "/v1/kv/k", "v", "Content-Range", "bytes 0-1/2"), 400, "invalid")
}

func TestAnswerSaysHowSureItIs(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.store.Put("k", "v")
	d.store.Adorn(func(_ *kv.Request, r *kv.Response) {
		r.State, r.View, r.Partial, r.Fence = kv.Isolated, "union@3", true, []byte("fence")
		r.Copies, r.Wanted = 1, 3
	})
	for _, w := range []*httptest.ResponseRecorder{d.do("PUT", "/v1/kv/k", "v"), d.do("GET", "/v1/kv/k", "")} {
		require.Equal(t, "isolated", w.Header().Get("X-Edged-State"))
		require.Equal(t, "union@3", w.Header().Get("X-Edged-View"))
		require.Equal(t, "partial", w.Header().Get("X-Edged-Context"))
		require.Equal(t, "1/3", w.Header().Get("X-Edged-Copies"))
		require.Equal(t, "ZmVuY2U", w.Header().Get("X-Edged-Fence"))
	}
	d.store.Adorn(func(_ *kv.Request, r *kv.Response) { r.Copies, r.StandIns, r.Wanted = 1, 1, 3 })
	require.Equal(t, "1+1/3", d.do("PUT", "/v1/kv/k", "v").Header().Get("X-Edged-Copies"), "a stand-in's copy is told apart")
	d.store.Adorn(func(_ *kv.Request, r *kv.Response) { r.State = kv.Degraded })
	require.Equal(t, "degraded", d.do("GET", "/v1/kv/k", "").Header().Get("X-Edged-State"))
}

func TestStoreErrorsAreProblems(t *testing.T) {
	t.Parallel()
	d := open(t)
	for code, status := range map[kv.Code]int{
		kv.CodeInternal: 500, kv.CodeInvalid: 400, kv.CodeTooLarge: 413, kv.CodeNotServing: 503, kv.CodeUnavailable: 503,
		kv.CodeUnknown: 504, kv.CodeSiblings: 409, kv.CodeToken: 400, kv.CodeNotInteger: 400, kv.CodePolicy: 503,
		kv.CodeFull: 507, kv.CodeTimeout: 503,
	} {
		d.store.Fail(func(*kv.Request) error { return kv.Errorf(code, "why") })
		for _, w := range []*httptest.ResponseRecorder{d.do("PUT", "/v1/kv/k", "v"), d.do("GET", "/v1/kv/k", ""), d.do("GET", "/v1/kv", "")} {
			require.Equal(t, "why", problem(t, w, status, code.String()))
			require.Equal(t, status == 503, w.Header().Get("Retry-After") == "1")
		}
	}
	d.store.Fail(func(*kv.Request) error { return io.ErrUnexpectedEOF })
	problem(t, d.do("GET", "/v1/kv/k", ""), 500, "internal")
}

// TestUnansweredWriteIsUnknown: the deadline passes while the write is in flight.
func TestUnansweredWriteIsUnknown(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *httpapi.KVConfig) { c.RequestTimeout = 20 * time.Millisecond })
	d.store.Hold()
	problem(t, d.do("PUT", "/v1/kv/k", "v"), 504, "outcome-unknown")
	d.store.Release()
	v, _ := d.store.Value("k")
	require.Equal(t, "v", v)
}

func TestPasswordIsAskedFor(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *httpapi.KVConfig) { c.Password = "secret" })
	basic := func(p string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte("anyone:"+p)) }
	for _, head := range [][]string{nil, {"Authorization", basic("wrong")}, {"Authorization", "Bearer wrong"}, {"Authorization", "secret"}} {
		w := d.do("GET", "/v1/kv/k", "", head...)
		problem(t, w, 401, "unauthorized")
		require.Equal(t, `Basic realm="edged"`, w.Header().Get("WWW-Authenticate"))
	}
	require.Equal(t, 404, d.do("GET", "/v1/kv/k", "", "Authorization", basic("secret")).Code)
	require.Equal(t, 404, d.do("GET", "/v1/kv/k", "", "Authorization", "bearer secret").Code)
}

func TestListPagesThroughAPrefix(t *testing.T) {
	t.Parallel()
	d := open(t)
	for i := range 250 {
		d.store.Put(fmt.Sprint("a/", i), "v")
	}
	d.store.Put("b", "v")
	d.store.Put("a/\xff", "v")
	require.Equal(t, 204, d.do("PUT", "/v1/kv/a/timed", "v", "X-Edged-TTL", "1s").Code)
	seen, cursor := map[string]int64{}, ""
	for {
		w := d.do("GET", "/v1/kv?prefix=a/&limit=100&cursor="+url.QueryEscape(cursor), "")
		require.Equal(t, 200, w.Code)
		var page struct {
			Keys []struct {
				Key       string
				KeyBase64 []byte `json:"key_base64"`
				ExpiresMS int64  `json:"expires_ms"`
			}
			Cursor string
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
		require.LessOrEqual(t, len(page.Keys), 100)
		for _, k := range page.Keys {
			seen[k.Key+string(k.KeyBase64)] = k.ExpiresMS
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	require.Len(t, seen, 252)
	require.Contains(t, seen, "a/\xff")
	require.Equal(t, noon.UnixMilli()+1000, seen["a/timed"])
	require.Contains(t, d.do("GET", "/v1/kv?prefix=none", "").Body.String(), `"keys":[]`)
	require.Equal(t, 200, d.do("GET", "/v1/kv?limit=1000", "").Code)
	for _, query := range []string{"limit=1001", "limit=0", "cursor=x", "cursor=0", "prefix=" + strings.Repeat("p", 1025), "prefx=a"} {
		problem(t, d.do("GET", "/v1/kv?"+query, ""), 400, "invalid")
	}
}

func TestNonsensicalConfigIsRefused(t *testing.T) {
	t.Parallel()
	_, err := httpapi.NewKV(httpapi.KVConfig{})
	require.Error(t, err)
	_, err = httpapi.NewAdmin(httpapi.AdminConfig{})
	require.Error(t, err)
}
