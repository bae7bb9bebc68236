package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"edged.dev/edged/api/admin"
)

// Operator carries out what an operator decides. An error may be a *kv.Error or,
// to choose the answer's status, an *admin.Problem.
type Operator interface {
	// Losses tells what is given up of one partition, or with admin.AllPartitions of all
	// that this node owns and of which every copy is new.
	Losses(partition int) admin.Losses
	// AcceptLoss gives up one partition, or with admin.AllPartitions all that this
	// node owns, and returns those that it has given up.
	AcceptLoss(ctx context.Context, partition int) (admin.Losses, error)
	// Forgetting tells what is given up with a member.
	Forgetting(name string) (admin.Forgetting, error)
	// Forget gives the member up.
	Forget(ctx context.Context, name string) (admin.Forgetting, error)
	// Sync changes what holds syncs back, by the values of the settings, where they are
	// not empty, and returns what is in force.
	Sync(rate, guard string) (admin.SyncLimits, error)
}

// acceptLoss wants one partition, or all, to be named: forgetting the parameter
// must not give up everything.
func (a *Admin) acceptLoss(w http.ResponseWriter, r *http.Request) {
	query, err := parameters(r, "partition", "all-new")
	partition := admin.AllPartitions
	asks := r.Method != http.MethodPost
	switch {
	case err != nil:
	case query.Has("partition") && query.Has("all-new"), !asks && query.Has("partition") == query.Has("all-new"):
		err = invalid("want one of partition and all-new")
	case query.Has("partition"):
		n, parseErr := strconv.ParseUint(query.Get("partition"), 10, 31)
		if parseErr != nil {
			err = invalid("partition %q is no number of a partition", query.Get("partition"))
		}
		partition = int(n)
	case asks && !query.Has("all-new"):
	case query.Get("all-new") != "true":
		err = invalid("all-new is %q; want true", query.Get("all-new"))
	}
	if err != nil {
		failWith(w, err)
		return
	}
	if asks {
		writeJSON(w, http.StatusOK, noNulls(a.cfg.Operator.Losses(partition)))
		return
	}
	ctx, cancel := a.patient(w, r)
	defer cancel()
	done, err := a.cfg.Operator.AcceptLoss(ctx, partition)
	if err != nil {
		failWith(w, err)
		return
	}
	writeJSON(w, http.StatusOK, noNulls(done))
}

func noNulls(l admin.Losses) admin.Losses {
	l.Partitions = orEmpty(l.Partitions)
	for i := range l.Partitions {
		l.Partitions[i].Copies = orEmpty(l.Partitions[i].Copies)
	}
	return l
}

func (a *Admin) forget(w http.ResponseWriter, r *http.Request) {
	query, err := parameters(r, "name")
	if err == nil && query.Get("name") == "" {
		err = invalid("name is missing; want a member's")
	}
	if err != nil {
		failWith(w, err)
		return
	}
	var f admin.Forgetting
	if r.Method == http.MethodPost {
		ctx, cancel := a.patient(w, r)
		defer cancel()
		f, err = a.cfg.Operator.Forget(ctx, query.Get("name"))
	} else {
		f, err = a.cfg.Operator.Forgetting(query.Get("name"))
	}
	if err != nil {
		failWith(w, err)
		return
	}
	writeJSON(w, http.StatusOK, f)
}

func (a *Admin) sync(w http.ResponseWriter, r *http.Request) {
	query, err := parameters(r, "rate", "guard")
	rate, guard := query.Get("rate"), query.Get("guard")
	switch changes := r.Method == http.MethodPost; {
	case err != nil:
	case changes && rate == "" && guard == "":
		err = invalid("want a rate, a guard, or both")
	case !changes && len(query) > 0:
		err = invalid("a change is sent by POST")
	}
	var limits admin.SyncLimits
	if err == nil {
		limits, err = a.cfg.Operator.Sync(rate, guard)
	}
	if err != nil {
		failWith(w, err)
		return
	}
	writeJSON(w, http.StatusOK, limits)
}
