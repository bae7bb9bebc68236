package httpapi

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
)

// request reads what every method understands.
func request(r *http.Request, escaped string) (*kv.Request, error) {
	key, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, invalid("key is not percent-encoded: %v", err)
	}
	req := &kv.Request{Key: []byte(key), Meta: true}
	if err := req.CheckSizes(); kv.CodeOf(err) == kv.CodeTooLarge {
		return nil, &admin.Problem{Type: kv.CodeTooLarge.String(), Status: http.StatusRequestURITooLong, Detail: err.Error()}
	} else if err != nil {
		return nil, err
	}
	query, err := parameters(r, "r", "w", "siblings")
	if err != nil {
		return nil, err
	}
	if req.R, err = count(query, "r", 0, maxCopies); err != nil {
		return nil, err
	}
	if req.W, err = count(query, "w", 0, maxCopies); err != nil {
		return nil, err
	}
	if v := query.Get("siblings"); v != "" && v != "1" && v != "0" {
		return nil, invalid("siblings is %q; want 0 or 1", v)
	}
	req.Siblings = query.Get("siblings") == "1"
	if req.Token, err = opaque(r, HeaderToken); err != nil {
		return nil, err
	}
	if req.Fence, err = opaque(r, HeaderFence); err != nil {
		return nil, err
	}
	if req.IfMatch, err = tags(r.Header, "If-Match"); err != nil {
		return nil, err
	}
	req.IfNoneMatch, err = tags(r.Header, "If-None-Match")
	return req, err
}

// parameters returns the query, which may have these names alone, each once: a
// misspelt one must not be taken for its default.
func parameters(r *http.Request, names ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("query is not percent-encoded: %v", err)
	}
	known := map[string]bool{}
	for _, name := range names {
		known[name] = true
	}
	for name, values := range query {
		switch {
		case !known[name]:
			return nil, invalid("there is no query parameter %q; there are %s", name, strings.Join(names, ", "))
		case len(values) > 1:
			return nil, invalid("query parameter %q is there %d times", name, len(values))
		}
	}
	return query, nil
}

// partitionParameter reads the one parameter of what is about a partition, or all.
func partitionParameter(r *http.Request) (int, error) {
	query, err := parameters(r, "partition")
	if err != nil || !query.Has("partition") {
		return admin.AllPartitions, err
	}
	n, err := strconv.ParseUint(query.Get("partition"), 10, 32)
	if err != nil {
		return 0, invalid("partition is %q; want a number", query.Get("partition"))
	}
	return int(n), nil
}

// count reads a number from 1 to limit.
func count(query url.Values, name string, missing, limit int) (int, error) {
	if !query.Has(name) {
		return missing, nil
	}
	n, err := strconv.Atoi(query.Get(name))
	if err != nil || n < 1 || n > limit {
		return 0, invalid("%s is %q; want a number from 1 to %d", name, query.Get(name), limit)
	}
	return n, nil
}

// opaque reads bytes that an earlier answer gave.
func opaque(r *http.Request, header string) ([]byte, error) {
	raw := strings.TrimRight(r.Header.Get(header), "=")
	if raw == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(raw)
	if err != nil {
		return nil, kv.Errorf(kv.CodeToken, "%s is not base64url; send it as it was answered", header)
	}
	if len(b) > kv.MaxTokenBytes {
		return nil, kv.Errorf(kv.CodeToken, "%s has %d bytes; the limit is %d", header, len(b), kv.MaxTokenBytes)
	}
	return b, nil
}

// bearer returns the token of an Authorization header, "" without one.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
