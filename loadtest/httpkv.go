package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Headers of the HTTP door.
const (
	headerToken  = "X-Edged-Token"
	headerState  = "X-Edged-State"
	headerView   = "X-Edged-View"
	headerCopies = "X-Edged-Copies"
	headerFence  = "X-Edged-Fence"
	headerTTL    = "X-Edged-TTL"
)

// httpWait bounds one request: a node's own deadline is 2 s.
const httpWait = 3 * time.Second

// kvClient speaks to the HTTP doors of the nodes.
type kvClient struct{ http *http.Client }

func newKVClient() *kvClient {
	return &kvClient{&http.Client{Timeout: httpWait, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
}

func (c *kvClient) close() { c.http.CloseIdleConnections() }

// kvAnswer is what a node said of a key.
type kvAnswer struct {
	found  bool
	value  []byte
	token  string
	state  string // isolated or degraded, else empty
	view   string
	copies string
}

// sibling is one of several concurrent versions.
type sibling struct {
	Value []byte `json:"value_base64"`
	Dot   string `json:"dot"`
	HLC   uint64 `json:"hlc"`
}

// get reads a key. That it is not there is no error.
func (c *kvClient) get(ctx context.Context, addr, key string) (kvAnswer, error) {
	resp, body, err := c.do(ctx, http.MethodGet, keyURL(addr, key), "", nil)
	if err != nil {
		return kvAnswer{}, err
	}
	out := answerOf(resp)
	switch resp.StatusCode {
	case http.StatusOK:
		out.found, out.value = true, body
		return out, nil
	case http.StatusNotFound:
		return out, nil
	}
	return kvAnswer{}, fmt.Errorf("get %s at %s: %s: %s", key, addr, resp.Status, body)
}

// put writes a key, with the token of what it replaces unless that is empty.
func (c *kvClient) put(ctx context.Context, addr, key, token string, value []byte) (kvAnswer, error) {
	resp, body, err := c.do(ctx, http.MethodPut, keyURL(addr, key), token, value)
	if err != nil {
		return kvAnswer{}, err
	}
	if resp.StatusCode/100 != 2 {
		return kvAnswer{}, fmt.Errorf("put %s at %s: %s: %s", key, addr, resp.Status, body)
	}
	return answerOf(resp), nil
}

// siblings reads a key's concurrent versions.
func (c *kvClient) siblings(ctx context.Context, addr, key string) ([]sibling, error) {
	resp, body, err := c.do(ctx, http.MethodGet, keyURL(addr, key)+"?siblings=1", "", nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get siblings of %s at %s: %s: %s", key, addr, resp.Status, body)
	}
	var out struct {
		Siblings []sibling `json:"siblings"`
	}
	if err := json.Unmarshal(body, &out); err != nil {
		return nil, fmt.Errorf("read siblings of %s: %w", key, err)
	}
	return out.Siblings, nil
}

func (c *kvClient) do(ctx context.Context, method, at, token string, body []byte) (*http.Response, []byte, error) {
	return c.send(ctx, method, at, map[string]string{headerToken: token}, body)
}

// send makes a request with headers, of which empty ones are left out.
func (c *kvClient) send(ctx context.Context, method, at string, head map[string]string, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", method, at, err)
	}
	for name, value := range head {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBulkBytes))
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", method, at, err)
	}
	return resp, answer, nil
}

func answerOf(resp *http.Response) kvAnswer {
	return kvAnswer{
		token:  resp.Header.Get(headerToken),
		state:  resp.Header.Get(headerState),
		view:   resp.Header.Get(headerView),
		copies: resp.Header.Get(headerCopies),
	}
}

func keyURL(addr, key string) string { return "http://" + addr + "/v1/kv/" + url.PathEscape(key) }
