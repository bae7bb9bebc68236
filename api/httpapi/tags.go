package httpapi

import (
	"net/http"
	"slices"
	"strings"
)

// any tag matches whatever exists.
const anyTag = "*"

// unmatched stands for the weak tags of an If-Match: no opaque tag has a quote,
// so it matches nothing, and still there is a condition.
const unmatched = `W/"`

// tags reads If-Match or If-None-Match (RFC 9110, 13.1) into opaque tags
// without their quotes. If-Match compares strongly, so weak tags match nothing;
// If-None-Match compares weakly.
func tags(h http.Header, name string) ([]string, error) {
	rest := strings.Join(h.Values(name), ",")
	if strings.TrimSpace(rest) == anyTag {
		return []string{anyTag}, nil
	}
	var found []string
	for {
		rest = strings.TrimLeft(rest, ", \t")
		if rest == "" {
			return found, nil
		}
		body, weak := strings.CutPrefix(rest, "W/")
		body, quoted := strings.CutPrefix(body, `"`)
		end := strings.IndexByte(body, '"')
		if !quoted || end < 0 {
			return nil, invalid(`%s is no list of entity tags: want "tag", ... or *`, name)
		}
		if len(found) == maxTags {
			return nil, invalid("%s has over %d entity tags", name, maxTags)
		}
		tag := body[:end]
		if weak && name == "If-Match" {
			tag = unmatched
		}
		found, rest = append(found, tag), body[end+1:]
	}
}

// conditional evaluates a read's conditions in the order of RFC 9110, 13.2.2,
// and returns the status that ends it, or 0.
func conditional(ifMatch, ifNoneMatch []string, found bool, etag string) int {
	matches := func(list []string) bool {
		return found && (slices.Contains(list, anyTag) || slices.Contains(list, etag))
	}
	switch {
	case len(ifMatch) > 0 && !matches(ifMatch):
		return http.StatusPreconditionFailed
	case len(ifNoneMatch) > 0 && matches(ifNoneMatch):
		return http.StatusNotModified
	}
	return 0
}
