package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// soakThink is what a client waits at most between two operations, and soakRest what it
	// rests after one that failed: a node that is down refuses at once.
	soakThink = 8 * time.Millisecond
	soakRest  = 20 * time.Millisecond
	// soakTTL is the longest that a value lives which is to expire. It is over when the
	// copies are read.
	soakTTL = 3 * time.Second
)

// knowledge is what a session knows of a key.
type knowledge struct {
	token  string
	covers []string // the values that the token is of
	fence  string
	own    string        // the session's write that the fence is of
	before time.Duration // when the write was answered that gave the token; 0 for a read
}

// soakClient writes and reads keys through all nodes, over HTTP with tokens and
// fences or over RESP, and records what it does. It is one goroutine's.
type soakClient struct {
	id     int
	keys   int
	doors  []door
	began  time.Time
	rand   *rand.Rand
	kv     *kvClient
	conns  []*respConn         // by node, nil where there is none
	own    []map[string]string // by node: the last write of each key over its connection
	known  map[string]*knowledge
	recent [8]string
	next   int
	ops    []*op
}

func newSoakClient(id int, o *soakOptions, doors []door, began time.Time) *soakClient {
	c := &soakClient{
		id: id, keys: o.keys, doors: doors, began: began, rand: rand.New(rand.NewPCG(o.seed, uint64(id)+1)),
		kv: newKVClient(), conns: make([]*respConn, len(doors)), own: make([]map[string]string, len(doors)), known: map[string]*knowledge{},
	}
	for i := range c.recent {
		c.recent[i] = fmt.Sprintf("soak-%05d", i%c.keys)
	}
	return c
}

// run goes on until the context ends; an operation that is under way then is ended first.
func (c *soakClient) run(ctx context.Context) {
	defer c.kv.close()
	defer func() {
		for i := range c.conns {
			c.hangUp(i)
		}
	}()
	for ctx.Err() == nil {
		o := c.draw()
		c.play(context.WithoutCancel(ctx), o) // each has a limit of its own
		c.ops = append(c.ops, o)
		wait := time.Duration(c.rand.Int64N(int64(soakThink)))
		if !o.ok() {
			wait = soakRest
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

// draw draws what to do next.
func (c *soakClient) draw() *op {
	o := &op{Session: c.id, Node: c.rand.IntN(len(c.doors)), Key: c.key()}
	switch n := c.rand.IntN(100); {
	case n < 32:
		o.Kind = opGet
	case n < 40:
		o.Kind = opRead
	case n < 72:
		o.Kind = opPut
	case n < 84:
		o.Kind = opSet
	case n < 94:
		o.Kind = opDelete
	default:
		o.Kind = opDel
	}
	if o.writes() {
		c.next++
		o.Value = fmt.Sprintf("%d:%d", c.id, c.next)
		if c.rand.IntN(10) == 0 {
			o.TTL = time.Duration(1+c.rand.Int64N(int64(soakTTL/time.Millisecond))) * time.Millisecond
		}
	}
	return o
}

// key draws a key: half of them are of the last few, so that a session comes back to what it
// has seen.
func (c *soakClient) key() string {
	i := c.rand.IntN(len(c.recent))
	if c.rand.IntN(2) == 0 {
		c.recent[i] = fmt.Sprintf("soak-%05d", c.rand.IntN(c.keys))
	}
	return c.recent[i]
}

func (c *soakClient) play(ctx context.Context, o *op) {
	o.Invoked = time.Since(c.began)
	var err error
	if o.Kind == opSet || o.Kind == opDel || o.Kind == opRead {
		err = c.playRESP(ctx, o)
	} else {
		err = c.playHTTP(ctx, o)
	}
	o.Returned = time.Since(c.began)
	if err != nil {
		o.Why = err.Error()
	}
}

// playHTTP reads a key with all its siblings, or changes it with the token of what this
// session saw last, if it did.
func (c *soakClient) playHTTP(ctx context.Context, o *op) error {
	k := c.known[o.Key]
	if k == nil {
		k = &knowledge{}
		c.known[o.Key] = k
	}
	head := map[string]string{}
	at := keyURL(c.doors[o.Node].http, o.Key)
	method, body := http.MethodGet, ""
	switch o.Kind {
	case opGet:
		at += "?siblings=1"
		head[headerFence], o.After = k.fence, k.own
	case opPut:
		method, body = http.MethodPut, o.Value
		if o.TTL > 0 {
			head[headerTTL] = o.TTL.String()
		}
		fallthrough
	default:
		if o.Kind == opDelete {
			method = http.MethodDelete
		}
		if k.token != "" {
			head[headerToken], o.Token, o.Covers, o.Before = k.token, true, k.covers, k.before
		}
	}
	resp, answer, err := c.kv.send(ctx, method, at, head, []byte(body))
	o.Result = resultOf(resp, err)
	if !o.ok() {
		if o.Result == resultUnknown && o.changes() {
			*k = knowledge{} // what the token is of may be superseded
		}
		if err == nil {
			err = fmt.Errorf("%s: %s", resp.Status, answer)
		}
		return err
	}
	o.State = resp.Header.Get(headerState)
	if o.Kind == opGet {
		return c.learn(o, k, resp, answer)
	}
	o.Copies, err = copiesOf(resp.Header.Get(headerCopies))
	*k = knowledge{token: resp.Header.Get(headerToken), before: time.Since(c.began)}
	if o.writes() {
		k.covers, k.own, k.fence = []string{o.Value}, o.Value, resp.Header.Get(headerFence)
	}
	return err
}

// learn takes what a read showed.
func (c *soakClient) learn(o *op, k *knowledge, resp *http.Response, answer []byte) error {
	k.token, k.covers, k.before = resp.Header.Get(headerToken), nil, 0
	if resp.StatusCode == http.StatusNotFound {
		return nil
	}
	var out struct {
		Siblings []sibling `json:"siblings"`
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		o.Result = resultUnknown
		return fmt.Errorf("read siblings: %w", err)
	}
	for _, s := range out.Siblings {
		o.Values, o.Dots = append(o.Values, string(s.Value)), append(o.Dots, s.Dot)
	}
	k.covers = o.Values
	return nil
}

// playRESP reads or changes a key over RESP, where a connection reads its own writes.
func (c *soakClient) playRESP(ctx context.Context, o *op) error {
	if c.conns[o.Node] == nil {
		conn, err := dialRESP(ctx, c.doors[o.Node].resp)
		if err != nil {
			o.Result = resultFail
			return err
		}
		c.conns[o.Node], c.own[o.Node] = conn, map[string]string{}
	}
	own := c.own[o.Node]
	args := []string{opDel, o.Key}
	switch {
	case o.reads():
		args, o.After = []string{"GET", o.Key}, own[o.Key]
	case o.writes():
		args = []string{opSet, o.Key, o.Value}
		if o.TTL > 0 {
			args = append(args, "PX", strconv.FormatInt(o.TTL.Milliseconds(), 10))
		}
	}
	answer, err := c.conns[o.Node].do(args...)
	o.Result = resultOK
	if o.reads() && err == nil && !answer.null {
		o.Values = []string{string(answer.text)}
	}
	if o.changes() {
		delete(c.known, o.Key) // what this session knew of it is of the past
		delete(own, o.Key)
		if o.writes() && err == nil {
			own[o.Key] = o.Value
		}
	}
	if err != nil {
		o.Result = resultUnknown
		if !replied(err) {
			c.hangUp(o.Node)
		}
	}
	return err
}

func (c *soakClient) hangUp(node int) {
	if c.conns[node] != nil {
		c.conns[node].close()
		c.conns[node] = nil
	}
}

// resultOf says what became of a request: after 503, or where nobody took the connection,
// nothing was done.
func resultOf(resp *http.Response, err error) string {
	var refused *net.OpError
	switch {
	case errors.As(err, &refused) && refused.Op == "dial":
		return resultFail
	case err != nil:
		return resultUnknown
	case resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusNotFound:
		return resultOK
	case resp.StatusCode/100 == 4 || resp.StatusCode == http.StatusServiceUnavailable:
		return resultFail
	}
	return resultUnknown
}

// copiesOf reads how many owners had a write when it was answered: 2 of "2/3", 1 of "1+1/3".
// A delete of what is not there changes nothing and has none.
func copiesOf(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, _, _ := strings.Cut(text, "/")
	n, _, _ = strings.Cut(n, "+")
	copies, err := strconv.Atoi(n)
	if err != nil {
		return 0, fmt.Errorf("read %s %q: %w", headerCopies, text, err)
	}
	return copies, nil
}
