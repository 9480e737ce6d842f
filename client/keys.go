package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Outcome is the answer to a command about a key.
type Outcome struct {
	KeyResult
	// Replayed says that the command had been done before under its idempotency
	// key: this is the first outcome again, without the token.
	Replayed bool `json:"replayed,omitempty"`
}

// KeyQuery narrows a list of keys. The zero value means all that the management
// key may see.
type KeyQuery struct {
	Account        string    // only instance keys may name one
	Environment    string    // live or test
	Status         string    // active, revoked or expired
	Scope          string    // keys that hold it
	Text           string    // found in name, description or metadata, in any case
	ExpiringBefore time.Time // keys that expire before it
	PageSize       int       // keys a page, at most 1,000; 0: the server's choice
}

func (q KeyQuery) values() url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("account", q.Account)
	set("environment", q.Environment)
	set("status", q.Status)
	set("scope", q.Scope)
	set("q", q.Text)
	if !q.ExpiringBefore.IsZero() {
		set("expiring_before", q.ExpiringBefore.UTC().Format(time.RFC3339Nano))
	}
	if q.PageSize != 0 {
		set("page_size", strconv.Itoa(q.PageSize))
	}
	return v
}

// CreateKey creates a key. [Outcome].Token is its secret: it cannot be had again.
func (c *Client) CreateKey(ctx context.Context, req CreateKeyRequest, opts ...CallOption) (Outcome, error) {
	return c.command(ctx, http.MethodPost, []string{"v1", "keys"}, req, opts)
}

// Key returns one key. It fails with status 404 if there is none, or if it is
// another account's.
func (c *Client) Key(ctx context.Context, id string, opts ...CallOption) (Key, error) {
	return c.key(ctx, []string{"v1", "keys", id}, opts)
}

// Keys yields the keys of a query, page by page. An error ends the sequence.
func (c *Client) Keys(ctx context.Context, q KeyQuery, opts ...CallOption) iter.Seq2[Key, error] {
	return c.keys(ctx, []string{"v1", "keys"}, q, opts)
}

// UpdateKey changes what the request names and leaves the rest; see [WithIfMatch].
func (c *Client) UpdateKey(ctx context.Context, id string, req UpdateKeyRequest, opts ...CallOption) (Outcome, error) {
	return c.command(ctx, http.MethodPatch, []string{"v1", "keys", id}, req, opts)
}

// RotateKey puts a new key in a key's place and returns the new one with its
// token. Without an overlap the old key is refused from now on.
func (c *Client) RotateKey(ctx context.Context, id string, req RotateKeyRequest, opts ...CallOption) (Outcome, error) {
	return c.command(ctx, http.MethodPost, []string{"v1", "keys", id, "rotate"}, req, opts)
}

// RevokeKey ends a key for good. Revoking a revoked key changes nothing.
func (c *Client) RevokeKey(ctx context.Context, id string, req RevokeKeyRequest, opts ...CallOption) (Outcome, error) {
	return c.command(ctx, http.MethodPost, []string{"v1", "keys", id, "revoke"}, req, opts)
}

// CreateManagementKey creates a key of the control plane.
func (c *Client) CreateManagementKey(ctx context.Context, req CreateManagementKeyRequest, opts ...CallOption) (Outcome, error) {
	return c.command(ctx, http.MethodPost, []string{"v1", "management-keys"}, req, opts)
}

// ManagementKey returns one key of the control plane.
func (c *Client) ManagementKey(ctx context.Context, id string, opts ...CallOption) (Key, error) {
	return c.key(ctx, []string{"v1", "management-keys", id}, opts)
}

// ManagementKeys yields the keys of the control plane, page by page.
func (c *Client) ManagementKeys(ctx context.Context, q KeyQuery, opts ...CallOption) iter.Seq2[Key, error] {
	return c.keys(ctx, []string{"v1", "management-keys"}, q, opts)
}

// RevokeManagementKey ends a key of the control plane for good.
func (c *Client) RevokeManagementKey(ctx context.Context, id string, req RevokeKeyRequest, opts ...CallOption) (Outcome, error) {
	return c.command(ctx, http.MethodPost, []string{"v1", "management-keys", id, "revoke"}, req, opts)
}

func (c *Client) command(ctx context.Context, method string, path []string, body any, opts []CallOption) (Outcome, error) {
	var out Outcome
	spec := call{method: method, path: path, body: body, opts: collectCommand(opts)}
	header, err := c.do(ctx, spec, &out.KeyResult)
	if err != nil {
		return Outcome{}, err
	}
	out.Replayed = header.Get(HeaderReplayed) == "true"
	return out, nil
}

func (c *Client) key(ctx context.Context, path []string, opts []CallOption) (Key, error) {
	o := collect(opts)
	var out KeyResult
	if _, err := c.do(ctx, call{method: http.MethodGet, path: path, query: o.query(url.Values{}), opts: o}, &out); err != nil {
		return Key{}, err
	}
	return out.Key, nil
}

func (c *Client) keys(ctx context.Context, path []string, q KeyQuery, opts []CallOption) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		o := collect(opts)
		query := o.query(q.values())
		for {
			var page KeyPage
			if _, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query, opts: o}, &page); err != nil {
				yield(Key{}, err)
				return
			}
			for _, key := range page.Keys {
				if !yield(key, nil) {
					return
				}
			}
			if page.NextPageToken == "" {
				return
			}
			query.Set("page_token", page.NextPageToken)
		}
	}
}
