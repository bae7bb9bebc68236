package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
)

// Status tells what the node knows of itself and its cluster. Every answer is
// the caller's; slices may be nil.
type Status interface {
	Ready() admin.Ready
	Status() admin.Status
	Nodes() []admin.Node
	Partitions() []admin.Partition
	// Rejoin tells how this process came back. With a wait it first waits that
	// long, at most, for a sync point, and says whether there was one.
	Rejoin(ctx context.Context, wait time.Duration) admin.Rejoin
}

// Policies are the merge policies of the cluster as the node holds them. An
// error may be a *kv.Error or, to choose the answer's status, an *admin.Problem.
type Policies interface {
	Policies() []admin.Policy
	// DeployPolicy checks a module, stores it and binds it to a key prefix. The
	// module is the callee's.
	DeployPolicy(ctx context.Context, name, prefix string, wasm []byte) (admin.Deployed, error)
	// RollbackPolicy binds a prefix to the policy that it had before.
	RollbackPolicy(ctx context.Context, prefix string) (admin.RolledBack, error)
	// DeletePolicy deletes a policy, by its name or id, that no binding names.
	DeletePolicy(ctx context.Context, name string) (admin.DeletedPolicy, error)
}

// Events are what happens on the node.
type Events interface {
	// Subscribe returns the events from now on. The node closes the channel
	// when ctx ends, and also when the subscriber is too slow for its queue: it
	// must not learn of an incomplete story as of a complete one.
	Subscribe(ctx context.Context) <-chan admin.Event
}

// Dumper reads the node's own copies.
type Dumper interface {
	// Dump calls emit for each line of one partition, or with
	// admin.AllPartitions of all that the node holds, until emit returns an
	// error, which Dump returns. The line is emit's until it returns. An unknown
	// partition is an *admin.Problem with status 404.
	Dump(ctx context.Context, partition int, emit func(admin.DumpLine) error) error
	// Scrub reads the copies as Dump does, and tells which of them do not hold what
	// they have on record; it has them healed.
	Scrub(ctx context.Context, partition int) (admin.Scrubbed, error)
}

// AdminConfig is what the admin API needs. Nothing may be nil.
type AdminConfig struct {
	Status   Status
	Policies Policies
	Events   Events
	Dumper   Dumper
	Operator Operator
	Repair   Repair
	Metrics  http.Handler
	// Token is asked for as Bearer of everything but /livez and /readyz, which
	// tell a prober nothing; empty asks for none.
	Token string
}

// Admin is the admin API of one node. It is safe for concurrent use.
type Admin struct {
	cfg     AdminConfig
	handler http.Handler
	streams chan struct{} // a token for each event stream
	dumps   chan struct{} // a token for each dump
}

// NewAdmin returns the handler of the paths that package admin names.
func NewAdmin(cfg AdminConfig) (*Admin, error) {
	if cfg.Status == nil || cfg.Policies == nil || cfg.Events == nil || cfg.Dumper == nil ||
		cfg.Operator == nil || cfg.Repair == nil || cfg.Metrics == nil {
		return nil, errors.New("configure admin API: status, policies, events, dumper, operator, repair and metrics must all be there")
	}
	a := &Admin{cfg: cfg, streams: make(chan struct{}, maxEventStreams), dumps: make(chan struct{}, maxDumps)}
	// A page that an operator's browser shows must not be able to deploy a
	// policy on a loopback address.
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusForbidden, "cross-origin", "a page of another origin may not send this request")
	}))
	a.handler = cross.Handler(http.HandlerFunc(a.route))
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	a.handler.ServeHTTP(w, r)
}

func (a *Admin) route(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	open := path == admin.PathLivez || path == admin.PathReadyz
	if !open && a.cfg.Token != "" && !same(bearer(r), a.cfg.Token) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		fail(w, http.StatusUnauthorized, "unauthorized", "the admin token is missing or wrong; send it as Bearer authorization")
		return
	}
	gets := map[string]http.HandlerFunc{
		admin.PathLivez:      a.livez,
		admin.PathReadyz:     a.readyz,
		admin.PathMetrics:    a.cfg.Metrics.ServeHTTP,
		admin.PathStatus:     a.status,
		admin.PathNodes:      a.nodes,
		admin.PathPartitions: a.partitions,
		admin.PathRejoin:     a.rejoin,
		admin.PathPolicies:   a.policies,
		admin.PathEvents:     a.events,
		admin.PathDump:       a.dump,
		admin.PathRepairPlan: a.repairPlan,
	}
	switch {
	case path == admin.PathPolicies && r.Method == http.MethodPost:
		a.deployKind(w, r)
	case path == admin.PathScrub:
		only(a.scrub, w, r, http.MethodPost)
	case path == admin.PathRollback:
		only(a.rollbackKind, w, r, http.MethodPost)
	case path == admin.PathPolicies:
		only(a.policies, w, r, http.MethodGet, http.MethodHead, http.MethodPost)
	case path == admin.PathAcceptLoss:
		only(a.acceptLoss, w, r, http.MethodGet, http.MethodHead, http.MethodPost)
	case path == admin.PathSync:
		only(a.sync, w, r, http.MethodGet, http.MethodHead, http.MethodPost)
	case path == admin.PathForget:
		only(a.forget, w, r, http.MethodGet, http.MethodHead, http.MethodPost)
	case gets[path] != nil:
		only(gets[path], w, r, http.MethodGet, http.MethodHead)
	case strings.HasPrefix(path, admin.PathPolicies+"/") && r.Method == http.MethodDelete:
		a.deletePolicy(w, r)
	case strings.HasPrefix(path, admin.PathPolicies+"/"):
		only(a.policy, w, r, http.MethodGet, http.MethodHead, http.MethodDelete)
	default:
		fail(w, http.StatusNotFound, "no-such-path", "the admin API has no %s", path)
	}
}

// only serves the methods that a path has.
func only(serve http.HandlerFunc, w http.ResponseWriter, r *http.Request, methods ...string) {
	if !slices.Contains(methods, r.Method) {
		methodNotAllowed(w, r, methods...)
		return
	}
	serve(w, r)
}

func (a *Admin) livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // a client that does not take it is gone
}

func (a *Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	ready := a.cfg.Status.Ready()
	status := http.StatusOK
	if !ready.Ready {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, ready)
}

func (a *Admin) status(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.cfg.Status.Status())
}

func (a *Admin) nodes(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, admin.Nodes{Nodes: orEmpty(a.cfg.Status.Nodes())})
}

func (a *Admin) partitions(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, admin.Partitions{Partitions: orEmpty(a.cfg.Status.Partitions())})
}

func (a *Admin) rejoin(w http.ResponseWriter, r *http.Request) {
	query, err := parameters(r, "wait")
	if err != nil {
		failWith(w, err)
		return
	}
	var wait time.Duration
	if text := query.Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 || wait > admin.MaxWait {
			failWith(w, invalid("wait is %q; want a duration up to %s, such as 30s", text, admin.MaxWait))
			return
		}
		extend(w, wait+streamTimeout)
	}
	ctx, cancel := untilDrain(r.Context())
	defer cancel()
	writeJSON(w, http.StatusOK, a.cfg.Status.Rejoin(ctx, wait))
}

func (a *Admin) policies(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, admin.Policies{Policies: orEmpty(a.cfg.Policies.Policies())})
}

func (a *Admin) policy(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, admin.PathPolicies+"/")
	for _, p := range a.cfg.Policies.Policies() {
		if p.Name == name {
			writeJSON(w, http.StatusOK, p)
			return
		}
	}
	fail(w, http.StatusNotFound, "no-such-policy", "there is no policy %q", name)
}

func (a *Admin) deletePolicy(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, admin.PathPolicies+"/")
	if admin.Builtin(name) || name == admin.BuiltinPlan {
		failWith(w, invalid("%s is built in", name))
		return
	}
	ctx, cancel := a.patient(w, r)
	defer cancel()
	deleted, err := a.cfg.Policies.DeletePolicy(ctx, name)
	if err != nil {
		failWith(w, err)
		return
	}
	writeJSON(w, http.StatusOK, deleted)
}

func (a *Admin) deploy(w http.ResponseWriter, r *http.Request) {
	query, err := parameters(r, "name", "prefix", "kind")
	if err == nil {
		err = checkPrefix(query)
	}
	name := query.Get("name")
	if err == nil && (name == "" || len(name) > maxPolicyNameBytes) {
		err = invalid("name has %d bytes; want 1 to %d", len(name), maxPolicyNameBytes)
	}
	if err != nil {
		failWith(w, err)
		return
	}
	module, ok := readBody(w, r, maxModuleBytes)
	if !ok {
		return
	}
	switch builtin := admin.Builtin(name); {
	case len(module) == 0 && !builtin:
		failWith(w, invalid("body is empty; want a WebAssembly module"))
		return
	case len(module) > 0 && builtin:
		failWith(w, invalid("%s is the name of a built-in policy; give the module another name", name))
		return
	}
	ctx, cancel := a.patient(w, r)
	defer cancel()
	deployed, err := a.cfg.Policies.DeployPolicy(ctx, name, query.Get("prefix"), module)
	if err != nil {
		failWith(w, err)
		return
	}
	writeJSON(w, http.StatusOK, deployed)
}

func (a *Admin) rollback(w http.ResponseWriter, r *http.Request) {
	query, err := parameters(r, "prefix", "kind")
	if err == nil {
		err = checkPrefix(query)
	}
	if err != nil {
		failWith(w, err)
		return
	}
	ctx, cancel := a.patient(w, r)
	defer cancel()
	back, err := a.cfg.Policies.RollbackPolicy(ctx, query.Get("prefix"))
	if err != nil {
		failWith(w, err)
		return
	}
	writeJSON(w, http.StatusOK, back)
}

// checkPrefix wants a prefix to be there, though it may be empty, which is
// every key: forgetting it must not bind a policy to all of them.
func checkPrefix(query url.Values) error {
	switch prefix := query.Get("prefix"); {
	case !query.Has("prefix"):
		return invalid("prefix is missing; the empty one is every key")
	case len(prefix) > kv.MaxKeyBytes:
		return invalid("prefix has %d bytes; a key has at most %d", len(prefix), kv.MaxKeyBytes)
	}
	return nil
}

// patient returns a context of the time that a change of policies may take, and
// lets the answer wait as long.
func (a *Admin) patient(w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc) {
	extend(w, deployTimeout+streamTimeout)
	return context.WithTimeout(r.Context(), deployTimeout)
}

// extend gives an answer more time from now. A writer without deadlines, as in
// tests, needs none.
func extend(w http.ResponseWriter, d time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
