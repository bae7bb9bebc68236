package httpapi

import "net/http"

// scrub reads copies whole; as many run at once as dumps do, whose work it is.
func (a *Admin) scrub(w http.ResponseWriter, r *http.Request) {
	partition, err := partitionParameter(r)
	if err != nil {
		failWith(w, err)
		return
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
