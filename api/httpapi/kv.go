package httpapi

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"edged.dev/edged/api"
	"edged.dev/edged/internal/kv"
)

// Headers of the key-value API.
const (
	HeaderToken   = "X-Edged-Token"   // causality token, base64url, both ways
	HeaderFence   = "X-Edged-Fence"   // read fence, base64url, both ways
	HeaderTTL     = "X-Edged-TTL"     // Go duration, both ways
	HeaderExpires = "X-Edged-Expires" // Unix milliseconds, of an answer
	HeaderCopies  = "X-Edged-Copies"  // durable copies acknowledged [+ of stand-ins] / wanted
	HeaderContext = "X-Edged-Context" // partial: not every copy could be read before the write
	HeaderState   = "X-Edged-State"   // isolated or degraded
	HeaderView    = "X-Edged-View"    // policy@epoch, unresolved or truncated
	HeaderExisted = "X-Edged-Existed" // of a DELETE: whether there was something
)

// pathKV is where keys live; a key is what follows the slash, percent-decoded.
const pathKV = "/v1/kv"

// KVConfig is what the key-value API needs.
type KVConfig struct {
	Store api.Store
	// Now is the time by which relative expiries are made absolute.
	Now func() time.Time
	// Password is asked for as Basic (any user) or Bearer; empty asks for none.
	Password string
	// RequestTimeout is the deadline of requests to the store; 0 is 2 s.
	RequestTimeout time.Duration
}

// KV is the key-value API. It is safe for concurrent use.
type KV struct {
	cfg KVConfig

	mu       sync.Mutex
	answered map[Answer]uint64
}

// Answer is a kind of answer that is counted.
type Answer struct {
	Method string // GET, HEAD, PUT, DELETE, LIST or OTHER
	Status int
}

// NewKV returns the handler of /v1/kv and all below.
func NewKV(cfg KVConfig) (*KV, error) {
	if cfg.Store == nil || cfg.Now == nil || cfg.RequestTimeout < 0 {
		return nil, errors.New("configure http key-value API: want a store, a clock and a timeout of 0 or more")
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = 2 * time.Second
	}
	return &KV{cfg: cfg, answered: map[Answer]uint64{}}, nil
}

// Answered returns how many requests were answered how since NewKV.
func (h *KV) Answered() map[Answer]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.answered)
}

// ServeHTTP implements http.Handler.
func (h *KV) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	rec.Header().Set("X-Content-Type-Options", "nosniff")
	method := h.route(rec, r)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answered[Answer{method, rec.status}]++
}

// route answers a request and returns the method that it is counted as.
func (h *KV) route(w http.ResponseWriter, r *http.Request) string {
	if !h.allowed(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="edged"`)
		fail(w, http.StatusUnauthorized, "unauthorized", "the password is missing or wrong; send it as Basic or Bearer authorization")
		return "OTHER"
	}
	path := r.URL.EscapedPath()
	if path == pathKV {
		if r.Method != http.MethodGet {
			methodNotAllowed(w, r, http.MethodGet)
			return "OTHER"
		}
		h.list(w, r)
		return "LIST"
	}
	escaped, ok := strings.CutPrefix(path, pathKV+"/")
	if !ok {
		fail(w, http.StatusNotFound, "no-such-path", "there is no %s; keys are at %s/{key}", r.URL.Path, pathKV)
		return "OTHER"
	}
	serve := h.method(r.Method)
	if serve == nil {
		methodNotAllowed(w, r, http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete)
		return "OTHER"
	}
	req, err := request(r, escaped)
	if err != nil {
		failWith(w, err)
		return r.Method
	}
	serve(w, r, req)
	return r.Method
}

func (h *KV) method(name string) func(http.ResponseWriter, *http.Request, *kv.Request) {
	switch name {
	case http.MethodGet, http.MethodHead:
		return h.get
	case http.MethodPut:
		return h.put
	case http.MethodDelete:
		return h.delete
	}
	return nil
}

func (h *KV) allowed(r *http.Request) bool {
	if h.cfg.Password == "" {
		return true
	}
	if _, password, ok := r.BasicAuth(); ok {
		return same(password, h.cfg.Password)
	}
	return same(bearer(r), h.cfg.Password)
}

// run asks the store. ok is false where an error was answered.
func (h *KV) run(w http.ResponseWriter, r *http.Request, req *kv.Request) (resp *kv.Response, ok bool) {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.RequestTimeout)
	defer cancel()
	resp, err := api.Do(ctx, h.cfg.Store, req)
	if err != nil {
		failWith(w, err)
		return nil, false
	}
	h.describe(w.Header(), resp)
	return resp, true
}

// describe tells what an answer knows beside its value.
func (h *KV) describe(head http.Header, resp *kv.Response) {
	set := func(name, value string) {
		if value != "" {
			head.Set(name, value)
		}
	}
	set(HeaderToken, base64.RawURLEncoding.EncodeToString(resp.Token))
	set(HeaderFence, base64.RawURLEncoding.EncodeToString(resp.Fence))
	set(HeaderView, resp.View)
	if resp.ETag != "" {
		set("ETag", `"`+resp.ETag+`"`)
	}
	if resp.Wanted > 0 {
		set(HeaderCopies, copiesText(resp))
	}
	if resp.Partial {
		set(HeaderContext, "partial")
	}
	if resp.State == kv.Isolated || resp.State == kv.Degraded {
		set(HeaderState, resp.State.String())
	}
}

func (h *KV) get(w http.ResponseWriter, r *http.Request, req *kv.Request) {
	ifMatch, ifNoneMatch := req.IfMatch, req.IfNoneMatch
	req.Op, req.IfMatch, req.IfNoneMatch = kv.OpGet, nil, nil
	resp, ok := h.run(w, r, req)
	if !ok {
		return
	}
	found := resp.Found || len(resp.Siblings) > 0
	switch conditional(ifMatch, ifNoneMatch, found, resp.ETag) {
	case http.StatusPreconditionFailed:
		preconditionFailed(w)
		return
	case http.StatusNotModified:
		w.WriteHeader(http.StatusNotModified)
		return
	}
	head := w.Header()
	switch {
	case !found:
		fail(w, http.StatusNotFound, "not-found", "there is no key %q", req.Key)
		return
	case req.Siblings:
		writeJSON(w, http.StatusOK, besides(head.Get(HeaderToken), resp.Siblings))
		return
	}
	if resp.ExpiresMS != 0 {
		left := time.Duration(max(resp.ExpiresMS-h.cfg.Now().UnixMilli(), 0)) * time.Millisecond
		head.Set(HeaderTTL, left.String())
		head.Set(HeaderExpires, strconv.FormatInt(resp.ExpiresMS, 10))
	}
	head.Set("Content-Type", "application/octet-stream")
	head.Set("Content-Length", strconv.Itoa(len(resp.Value)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(resp.Value) // a client that does not take it is gone
}

func preconditionFailed(w http.ResponseWriter) {
	fail(w, http.StatusPreconditionFailed, "precondition-failed", "If-Match or If-None-Match does not hold; read the key for its ETag")
}

// versions is the answer to ?siblings=1.
type versions struct {
	Token    string    `json:"token"`
	Siblings []sibling `json:"siblings"`
}

type sibling struct {
	Value     []byte `json:"value_base64"`
	Dot       string `json:"dot"`
	HLC       uint64 `json:"hlc"`
	ExpiresMS int64  `json:"expires_ms"`
}

func besides(token string, siblings []kv.Sibling) versions {
	v := versions{Token: token, Siblings: make([]sibling, len(siblings))}
	for i, s := range siblings {
		v.Siblings[i] = sibling{append([]byte{}, s.Value...), s.Dot.String(), uint64(s.HLC), s.ExpiresMS}
	}
	return v
}

func (h *KV) put(w http.ResponseWriter, r *http.Request, req *kv.Request) {
	if r.Header.Get("Content-Range") != "" {
		failWith(w, invalid("Content-Range is not understood; put the whole value"))
		return
	}
	if ttl := r.Header.Get(HeaderTTL); ttl != "" {
		d, err := time.ParseDuration(ttl)
		if err != nil || d <= 0 {
			failWith(w, invalid("%s is %q; want a duration above 0 such as 1500ms or 24h", HeaderTTL, ttl))
			return
		}
		req.ExpiresMS = h.cfg.Now().Add(d + time.Millisecond - 1).UnixMilli() // never sooner than asked
	}
	body, ok := readBody(w, r, kv.MaxValueBytes)
	if !ok {
		return
	}
	req.Op, req.Value = kv.OpSet, body
	h.change(w, r, req)
}

func (h *KV) delete(w http.ResponseWriter, r *http.Request, req *kv.Request) {
	req.Op = kv.OpDelete
	h.change(w, r, req)
}

// change runs a write and answers it without a body.
func (h *KV) change(w http.ResponseWriter, r *http.Request, req *kv.Request) {
	resp, ok := h.run(w, r, req)
	if !ok {
		return
	}
	if !resp.Changed && len(req.IfMatch)+len(req.IfNoneMatch) > 0 {
		preconditionFailed(w)
		return
	}
	if req.Op == kv.OpDelete {
		w.Header().Set(HeaderExisted, strconv.FormatBool(resp.Found))
	}
	w.WriteHeader(http.StatusNoContent)
}

// recorder remembers the status for the counters.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController through.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// copiesText says how many copies of a write were durable at its answer: the owners',
// those of nodes that stand in for owners apart, and how many there are to be.
func copiesText(r *kv.Response) string {
	if r.StandIns == 0 {
		return fmt.Sprintf("%d/%d", r.Copies, r.Wanted)
	}
	return fmt.Sprintf("%d+%d/%d", r.Copies, r.StandIns, r.Wanted)
}
