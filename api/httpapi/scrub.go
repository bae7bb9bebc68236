package httpapi

import (
	"net/http"
	"strconv"

	"edged.dev/edged/api/admin"
)

// scrub reads copies whole; as many run at once as dumps do, whose work it is.
func (a *Admin) scrub(w http.ResponseWriter, r *http.Request) {
	query, err := parameters(r, "partition")
	if err != nil {
		failWith(w, err)
		return
	}
	partition := admin.AllPartitions
	if query.Has("partition") {
		n, err := strconv.ParseUint(query.Get("partition"), 10, 32)
		if err != nil {
			failWith(w, invalid("partition is %q; want a number", query.Get("partition")))
			return
		}
		partition = int(n)
	}
	if !take(w, a.dumps, "dumps") {
		return
	}
	defer func() { <-a.dumps }()
	ctx, cancel := a.patient(w, r)
	defer cancel()
	found, err := a.cfg.Dumper.Scrub(ctx, partition)
	if err != nil {
		failWith(w, err)
		return
	}
	found.Damaged = orEmpty(found.Damaged)
	writeJSON(w, http.StatusOK, found)
}
