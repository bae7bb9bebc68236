package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
)

// problem is the body of every error: RFC 9457 with the code as a member of its
// own, for programs that would rather not read a URI.
type problem struct {
	admin.Problem
	Code string `json:"code"`
}

// fail answers with an error. The code is its type, too.
func fail(w http.ResponseWriter, status int, code, format string, args ...any) {
	p := problem{Code: code}
	p.Type, p.Title, p.Status = code, http.StatusText(status), status
	p.Detail = fmt.Sprintf(format, args...)
	h := w.Header()
	if status == http.StatusServiceUnavailable && h.Get("Retry-After") == "" {
		h.Set("Retry-After", retryAfterSeconds)
	}
	h.Set("Content-Type", admin.MediaProblem)
	h.Del("Content-Length")
	h.Del("ETag")
	w.WriteHeader(status)
	write(w, p)
}

// write encodes v as the body. A client that does not take it is gone.
func write(w io.Writer, v any) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	write(w, v)
}

// failWith answers with what became of a request.
func failWith(w http.ResponseWriter, err error) {
	var told *admin.Problem
	if errors.As(err, &told) && told.Status >= 400 {
		fail(w, told.Status, told.Type, "%s", told.Detail)
		return
	}
	code := kv.CodeOf(err)
	fail(w, statusOf(code), code.String(), "%s", err.Error())
}

// statusOf says what a client may do: after 503 nothing was done and it may try
// again; after 504 outcome-unknown a write may have taken effect.
func statusOf(code kv.Code) int {
	switch code {
	case kv.CodeInvalid, kv.CodeToken, kv.CodeNotInteger:
		return http.StatusBadRequest
	case kv.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case kv.CodeNotServing, kv.CodeUnavailable, kv.CodePolicy, kv.CodeTimeout:
		return http.StatusServiceUnavailable
	case kv.CodeUnknown:
		return http.StatusGatewayTimeout
	case kv.CodeSiblings:
		return http.StatusConflict
	case kv.CodeFull:
		return http.StatusInsufficientStorage
	default:
		return http.StatusInternalServerError
	}
}

// invalid is a request that is wrong by itself.
func invalid(format string, args ...any) error {
	return kv.Errorf(kv.CodeInvalid, format, args...)
}

// readBody reads a body up to its limit. ok is false where an answer was given.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, ok bool) {
	if r.ContentLength > limit {
		tooLarge(w, limit)
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	switch {
	case err == nil:
		return body, true
	case errors.As(err, &over):
		tooLarge(w, limit)
	default:
		fail(w, http.StatusBadRequest, kv.CodeInvalid.String(), "body did not arrive whole: %v", err)
	}
	return nil, false
}

func tooLarge(w http.ResponseWriter, limit int64) {
	w.Header().Set("Connection", "close") // rather than read the rest
	fail(w, http.StatusRequestEntityTooLarge, kv.CodeTooLarge.String(), "body is over its limit of %d bytes", limit)
}

// methodNotAllowed answers a method that a path does not have.
func methodNotAllowed(w http.ResponseWriter, r *http.Request, allow ...string) {
	w.Header().Set("Allow", strings.Join(allow, ", "))
	fail(w, http.StatusMethodNotAllowed, "method-not-allowed", "%s has no %s; it has %s", r.URL.Path, r.Method, strings.Join(allow, ", "))
}

// same compares secrets in a time that tells nothing of either.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
