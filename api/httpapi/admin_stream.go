package httpapi

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"edged.dev/edged/api/admin"
)

// take returns whether a slot of a stream was free; the caller gives it back.
func take(w http.ResponseWriter, slots chan struct{}, what string) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
		fail(w, http.StatusServiceUnavailable, "too-many", "%d %s are open already", cap(slots), what)
		return false
	}
}

// events streams what happens as server-sent events, until the client leaves,
// the node drains or the subscription ends.
func (a *Admin) events(w http.ResponseWriter, r *http.Request) {
	if !take(w, a.streams, "event streams") {
		return
	}
	defer func() { <-a.streams }()
	events := a.cfg.Events.Subscribe(r.Context())
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	send := func(text string) bool {
		extend(w, streamTimeout)
		if _, err := w.Write([]byte(text)); err != nil {
			return false
		}
		return out.Flush() == nil
	}
	if !send(": events from now on\n\n") {
		return
	}
	silence := time.NewTicker(keepAlive)
	defer silence.Stop()
	for {
		text := ":\n\n"
		select {
		case event, ok := <-events:
			if !ok {
				return
			}
			data, err := json.Marshal(event)
			if err != nil {
				return
			}
			text = fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", event.Seq, event.Kind, data)
		case <-silence.C:
		case <-draining(r.Context()):
			return
		case <-r.Context().Done():
			return
		}
		if !send(text) {
			return
		}
	}
}

// dump streams the node's own copy of a partition, or of all, line by line.
func (a *Admin) dump(w http.ResponseWriter, r *http.Request) {
	partition, err := partitionParameter(r)
	if err != nil {
		failWith(w, err)
		return
	}
	if !take(w, a.dumps, "dumps") {
		return
	}
	defer func() { <-a.dumps }()
	slow := &patientWriter{w: w}
	buffer := bufio.NewWriterSize(slow, 64<<10)
	lines := json.NewEncoder(buffer)
	lines.SetEscapeHTML(false)
	w.Header().Set("Content-Type", "application/x-ndjson")
	err = a.cfg.Dumper.Dump(r.Context(), partition, func(line admin.DumpLine) error { return lines.Encode(line) })
	if err == nil {
		err = buffer.Flush()
	}
	switch {
	case err == nil:
	case !slow.begun:
		failWith(w, err)
	default:
		// The status is out: only a connection that breaks tells the client that
		// what it has is not all.
		panic(http.ErrAbortHandler)
	}
}

// patientWriter gives a client time anew for each piece that it takes.
type patientWriter struct {
	w     http.ResponseWriter
	begun bool
}

// Write implements io.Writer.
func (p *patientWriter) Write(b []byte) (int, error) {
	p.begun = true
	extend(p.w, streamTimeout)
	return p.w.Write(b)
}
