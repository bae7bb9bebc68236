package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"unicode/utf8"

	"edged.dev/edged/internal/kv"
)

// page is one page of keys.
type page struct {
	Keys   []listed `json:"keys"`
	Cursor string   `json:"cursor,omitempty"` // of the next page; none at the end
}

// listed has the key in one of two forms: JSON strings hold UTF-8 alone.
type listed struct {
	Key       string `json:"key,omitempty"`
	KeyBase64 []byte `json:"key_base64,omitempty"`
	ExpiresMS int64  `json:"expires_ms,omitempty"`
}

// list answers a page of keys. A page may be empty and not the last.
func (h *KV) list(w http.ResponseWriter, r *http.Request) {
	query, err := parameters(r, "prefix", "cursor", "limit")
	if err != nil {
		failWith(w, err)
		return
	}
	limit, err := count(query, "limit", defaultListKeys, maxListKeys)
	if err != nil {
		failWith(w, err)
		return
	}
	cursor, prefix := query.Get("cursor"), query.Get("prefix")
	if n, err := strconv.ParseUint(cursor, 10, 64); cursor != "" && (err != nil || n == 0) {
		failWith(w, invalid("cursor is %q; send it as the page before had it", cursor))
		return
	}
	if len(prefix) > kv.MaxKeyBytes {
		failWith(w, invalid("prefix has %d bytes; a key has at most %d", len(prefix), kv.MaxKeyBytes))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.RequestTimeout)
	defer cancel()
	keys, next, err := h.cfg.Store.Scan(ctx, cursor, limit, []byte(prefix))
	if err != nil {
		failWith(w, err)
		return
	}
	answer := page{Keys: make([]listed, len(keys)), Cursor: next}
	for i, k := range keys {
		answer.Keys[i].ExpiresMS = k.ExpiresMS
		if utf8.Valid(k.Key) {
			answer.Keys[i].Key = string(k.Key)
		} else {
			answer.Keys[i].KeyBase64 = k.Key
		}
	}
	writeJSON(w, http.StatusOK, answer)
}
