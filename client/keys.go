package client

import (
	"context"
	"fmt"
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
	// CommandID is the idempotency key that the command was sent under. It is set in
	// the place of an answer too: with an error of which it is not known whether the
	// command was carried out, send the command again under it, or see
	// [Client.CommandOutcome].
	CommandID string `json:"-"`
}

// KeyQuery narrows a list of keys. The zero value means all that the management
// key may see, newest first. Times named After are inclusive, times named Before are
// not.
type KeyQuery struct {
	Account     string // only instance keys may name one
	Environment string // live or test
	Status      string // active, revoked or expired
	Scope       string // keys that hold it
	Text        string // found in name, description or metadata, in any case
	CreatedBy   string // the id of the management key that made them

	CreatedAfter, CreatedBefore   time.Time
	ExpiringAfter, ExpiringBefore time.Time // keys with an expiry between them
	UsedAfter, UsedBefore         time.Time // keys whose last use was between them
	UnusedSince                   time.Time // keys made before it and not used since

	// Sort is the order: created_at, name, expires_at or last_used_at, with - before
	// it to turn it round. "": -created_at.
	Sort string
	// At asks for the keys as they were at an instant of the past, Seq as they were
	// just after an event: one of them, or neither. Nothing is known of past use.
	At  time.Time
	Seq uint64

	Count     bool   // have the page say how many keys match; see [Client.CountKeys]
	PageSize  int    // keys a page, at most 1,000; 0: the server's choice
	PageToken string // the NextPageToken or PrevPageToken of another page; "": the first
}

func (q KeyQuery) values() url.Values {
	v := url.Values{}
	for _, p := range [...]struct{ name, value string }{
		{"account", q.Account}, {"environment", q.Environment}, {"status", q.Status}, {"scope", q.Scope}, {"q", q.Text},
		{"created_by", q.CreatedBy}, {"sort", q.Sort}, {"page_token", q.PageToken},
	} {
		set(v, p.name, p.value)
	}
	for _, p := range [...]struct {
		name  string
		value time.Time
	}{
		{"created_after", q.CreatedAfter}, {"created_before", q.CreatedBefore},
		{"expiring_after", q.ExpiringAfter}, {"expiring_before", q.ExpiringBefore},
		{"used_after", q.UsedAfter}, {"used_before", q.UsedBefore}, {"unused_since", q.UnusedSince}, {"at", q.At},
	} {
		setTime(v, p.name, p.value)
	}
	setUint(v, "seq", q.Seq)
	if q.Count {
		v.Set("count", "true")
	}
	if q.PageSize != 0 {
		v.Set("page_size", strconv.Itoa(q.PageSize))
	}
	return v
}

// CreateKey creates a key. [Outcome].Token is its secret: it cannot be had again.
func (c *Client) CreateKey(ctx context.Context, req CreateKeyRequest, opts ...CallOption) (Outcome, error) {
	return c.command(ctx, http.MethodPost, []string{"v1", "keys"}, req, opts)
}

// Key returns one key, or with [WithAt] or [WithSeq] what it was. It fails with
// status 404 if there is or was none, or if it is another account's.
func (c *Client) Key(ctx context.Context, id string, opts ...CallOption) (Key, error) {
	return c.key(ctx, []string{"v1", "keys", id}, opts)
}

// Keys yields the keys of a query, page by page. An error ends the sequence.
func (c *Client) Keys(ctx context.Context, q KeyQuery, opts ...CallOption) iter.Seq2[Key, error] {
	return c.keys(ctx, []string{"v1", "keys"}, q, opts)
}

// ListKeys returns one page of the keys of a query.
func (c *Client) ListKeys(ctx context.Context, q KeyQuery, opts ...CallOption) (KeyPage, error) {
	return c.keyPage(ctx, []string{"v1", "keys"}, q, opts)
}

// CountKeys returns how many keys match a query, whatever its page.
func (c *Client) CountKeys(ctx context.Context, q KeyQuery, opts ...CallOption) (KeyCount, error) {
	q.Count, q.PageSize, q.PageToken = true, 1, ""
	page, err := c.ListKeys(ctx, q, opts...)
	if err == nil && page.Count == nil { // a server of an older release
		err = fmt.Errorf("count keys: %w", errNotKeyledger)
	}
	if err != nil {
		return KeyCount{}, err
	}
	return *page.Count, nil
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

// ListManagementKeys returns one page of the keys of the control plane.
func (c *Client) ListManagementKeys(ctx context.Context, q KeyQuery, opts ...CallOption) (KeyPage, error) {
	return c.keyPage(ctx, []string{"v1", "management-keys"}, q, opts)
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
		return Outcome{CommandID: spec.opts.idempotencyKey}, err
	}
	out.Replayed, out.CommandID = header.Get(HeaderReplayed) == "true", spec.opts.idempotencyKey
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
		for {
			page, err := c.keyPage(ctx, path, q, opts)
			if err != nil {
				yield(Key{}, err)
				return
			}
			for _, key := range page.Keys {
				if !yield(key, nil) {
					return
				}
			}
			if q.PageToken = page.NextPageToken; q.PageToken == "" {
				return
			}
			q.Count = false // once is enough
		}
	}
}

func (c *Client) keyPage(ctx context.Context, path []string, q KeyQuery, opts []CallOption) (page KeyPage, err error) {
	o := collect(opts)
	_, err = c.do(ctx, call{method: http.MethodGet, path: path, query: o.query(q.values()), opts: o}, &page)
	return page, err
}
