package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAnswerBytes bounds an answer that is read whole: 4,096 partitions at
	// some 512 bytes each, with room to spare.
	maxAnswerBytes = 8 << 20
	// maxLineBytes bounds one line of a stream: the longest is the clock of a
	// partition at its limit of actors with many runs.
	maxLineBytes = 4 << 20
	// maxProblemBytes bounds what is read of an error's body.
	maxProblemBytes = 64 << 10
)

// ErrUnreachable is wrapped by every error of a call that got no answer.
var ErrUnreachable = errors.New("admin API unreachable")

// Client calls the admin API of one node. It is safe for concurrent use. The
// context given to a call is its only deadline.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// NewClient returns a client of the admin API at base, such as
// "http://127.0.0.1:7381" or "127.0.0.1:7381". An empty token sends none.
func NewClient(base, token string) *Client {
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	return &Client{base: strings.TrimRight(base, "/"), token: token, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}}
}

// Close lets go of idle connections. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Livez returns nil when the process answers.
func (c *Client) Livez(ctx context.Context) error {
	_, err := c.bytes(ctx, PathLivez)
	return err
}

// Readyz returns the node's readiness. That a node is not ready is no error.
func (c *Client) Readyz(ctx context.Context) (Ready, error) {
	resp, err := c.do(ctx, http.MethodGet, PathReadyz, nil)
	if err != nil {
		return Ready{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return Ready{}, problemOf(resp)
	}
	var ready Ready
	if err := decode(resp.Body, &ready); err != nil {
		return Ready{}, fmt.Errorf("read %s: %w", PathReadyz, err)
	}
	return ready, nil
}

// Status returns the node's view of itself and its cluster.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, PathStatus)
}

// Nodes returns the members as the node sees them.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	nodes, err := get[Nodes](ctx, c, PathNodes)
	return nodes.Nodes, err
}

// Partitions returns every partition as the node sees it.
func (c *Client) Partitions(ctx context.Context) ([]Partition, error) {
	parts, err := get[Partitions](ctx, c, PathPartitions)
	return parts.Partitions, err
}

// WaitSynced waits at the node for a sync point, and tells how it came back.
func (c *Client) WaitSynced(ctx context.Context, wait time.Duration) (Rejoin, error) {
	return get[Rejoin](ctx, c, PathRejoin+"?wait="+wait.String())
}

// Rejoin returns how the node's process came back.
func (c *Client) Rejoin(ctx context.Context) (Rejoin, error) {
	return get[Rejoin](ctx, c, PathRejoin)
}

// Policies returns the policies that the node holds, built-ins among them.
func (c *Client) Policies(ctx context.Context) ([]Policy, error) {
	policies, err := get[Policies](ctx, c, PathPolicies)
	return policies.Policies, err
}

// Policy returns the policy of that name.
func (c *Client) Policy(ctx context.Context, name string) (Policy, error) {
	return get[Policy](ctx, c, PathPolicies+"/"+url.PathEscape(name))
}

// DeployPolicy uploads a module under a name and binds it to a key prefix.
//
// With the name of a built-in policy wasm must be empty: there is no module.
func (c *Client) DeployPolicy(ctx context.Context, wasm []byte, name, prefix string) (Deployed, error) {
	query := url.Values{"name": {name}, "prefix": {prefix}}
	return post[Deployed](ctx, c, PathPolicies+"?"+query.Encode(), wasm)
}

// RollbackPolicy binds a key prefix to the policy that it had before.
func (c *Client) RollbackPolicy(ctx context.Context, prefix string) (RolledBack, error) {
	query := url.Values{"prefix": {prefix}}
	return post[RolledBack](ctx, c, PathRollback+"?"+query.Encode(), nil)
}

// DeletePolicy deletes a policy, named by its name or its id, that no binding names,
// with its module.
func (c *Client) DeletePolicy(ctx context.Context, name string) (DeletedPolicy, error) {
	return call[DeletedPolicy](ctx, c, http.MethodDelete, PathPolicies+"/"+url.PathEscape(name), nil)
}

// Metrics returns the node's metrics in the Prometheus text format.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	return c.bytes(ctx, PathMetrics)
}

// Events calls fn for each event from now on, until ctx ends (which is no
// error), fn returns an error, or the node closes the stream.
func (c *Client) Events(ctx context.Context, fn func(Event) error) error {
	err := c.lines(ctx, PathEvents, func(line []byte) error {
		data, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			return nil // a comment, an id or an event's name: the data says it all
		}
		var event Event
		if err := json.Unmarshal(data, &event); err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		return fn(event)
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// AllPartitions asks Dump for every partition that the node holds.
const AllPartitions = -1

// Dump calls fn for each line of the node's own copy of a partition, or of
// all of them, until fn returns an error. A dump that ends without a DumpEnd
// for its last partition is an error.
func (c *Client) Dump(ctx context.Context, partition int, fn func(DumpLine) error) error {
	path := PathDump
	if partition != AllPartitions {
		path += "?partition=" + strconv.Itoa(partition)
	}
	open := false
	err := c.lines(ctx, path, func(raw []byte) error {
		var line DumpLine
		if err := json.Unmarshal(raw, &line); err != nil {
			return fmt.Errorf("read dump: %w", err)
		}
		if (line.Version == nil) == (line.End == nil) {
			return fmt.Errorf("read dump: line %q is neither a version nor an end", raw)
		}
		open = line.End == nil
		return fn(line)
	})
	if err == nil && open {
		return fmt.Errorf("read dump: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// lines calls fn for each line of an answer that is not empty.
func (c *Client) lines(ctx context.Context, path string, fn func([]byte) error) error {
	resp, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return problemOf(resp)
	}
	scan := bufio.NewScanner(resp.Body)
	scan.Buffer(make([]byte, 0, 64<<10), maxLineBytes)
	for scan.Scan() {
		if len(scan.Bytes()) == 0 {
			continue
		}
		if err := fn(scan.Bytes()); err != nil {
			return err
		}
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// bytes returns the whole body of a 200 answer.
func (c *Client) bytes(ctx context.Context, path string) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, problemOf(resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return body, nil
}

// do sends one request. The caller closes the answer's body.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.base, err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/wasm")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return resp, nil
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	return call[T](ctx, c, http.MethodGet, path, nil)
}

func post[T any](ctx context.Context, c *Client, path string, body []byte) (T, error) {
	return call[T](ctx, c, http.MethodPost, path, body)
}

func call[T any](ctx context.Context, c *Client, method, path string, body []byte) (T, error) {
	var answer T
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return answer, problemOf(resp)
	}
	if err := decode(resp.Body, &answer); err != nil {
		return answer, fmt.Errorf("read %s: %w", path, err)
	}
	return answer, nil
}

func decode(r io.Reader, into any) error {
	return json.NewDecoder(io.LimitReader(r, maxAnswerBytes)).Decode(into)
}

// problemOf reads an error's body as a *Problem, or makes one of its status.
func problemOf(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProblemBytes))
	if err != nil {
		return fmt.Errorf("read problem: %w", err)
	}
	problem := &Problem{}
	if json.Unmarshal(body, problem) != nil || problem.Title == "" {
		problem = &Problem{Title: http.StatusText(resp.StatusCode), Detail: strings.TrimSpace(string(body))}
	}
	problem.Status = resp.StatusCode
	return problem
}
