package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Verify asks whether a key may pass. A key that may not is no error: the result
// says so, with the reason. An error means that nothing is known; refuse then.
func (c *Client) Verify(ctx context.Context, req VerifyRequest, opts ...CallOption) (VerifyResult, error) {
	var out VerifyResult
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"v1", "verify"}, body: req, opts: collect(opts)}, &out)
	return out, err
}

// Scopes returns the catalogue: what keys and management keys may hold.
func (c *Client) Scopes(ctx context.Context, opts ...CallOption) (ScopeList, error) {
	var out ScopeList
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "scopes"}, opts: collect(opts)}, &out)
	return out, err
}

// Ready asks the server once whether it can serve, and which parts of it cannot
// and why. A server that is not ready is no error.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errTimeout)
	defer cancel()
	spec := call{method: http.MethodGet, path: []string{"readyz"}}
	resp, err := c.roundTrip(ctx, spec, nil)
	if err != nil {
		return Readiness{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return Readiness{}, readError(resp)
	}
	var out Readiness
	err = json.NewDecoder(io.LimitReader(resp.Body, maxErrorBytes)).Decode(&out)
	if err != nil || out.Ready != (resp.StatusCode == http.StatusOK) {
		return Readiness{}, fmt.Errorf("%s: %w", spec, errNotKeyledger)
	}
	return out, nil
}

var errNotKeyledger = errors.New("the answer is not what keyledger would send; is this its address?")
