// Package console is the admin API's page for people: one file, which asks the
// API on its own origin and shows nodes, partitions, the last rejoin and events.
package console

import (
	_ "embed" // the page
	"net/http"
	"strconv"
)

// Path is where the page is.
const Path = "/console/"

//go:embed console.html
var page []byte

// policy lets the page run its own script and style, and talk to its own origin
// alone: what it shows (keys of policies, names of nodes) is never markup.
const policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler answers Path with the page, and everything else by next.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/console":
			http.Redirect(w, r, Path, http.StatusMovedPermanently)
		case r.URL.Path != Path:
			next.ServeHTTP(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the console is a page: GET it", http.StatusMethodNotAllowed)
		default:
			h := w.Header()
			h.Set("Content-Type", "text/html; charset=utf-8")
			h.Set("Content-Length", strconv.Itoa(len(page)))
			h.Set("Content-Security-Policy", policy)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Cache-Control", "no-cache")
			_, _ = w.Write(page) // a browser that went wants no page
		}
	})
}
