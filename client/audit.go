package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// AuditQuery narrows the audit log. The zero value means all that the management
// key may see, newest first.
type AuditQuery struct {
	Account   string // only instance keys may name one
	Actor     string // the id of a management key, or _system
	Action    string // for example key.revoked
	KeyID     string
	Command   string // for example revoke_key
	CommandID string
	RequestID string

	// FromTime and ToTime bound the time by the log's clock, ToTime exclusively.
	FromTime, ToTime time.Time
	FromSeq, ToSeq   uint64 // first and last

	OldestFirst bool
	PageSize    int    // entries a page, at most 1,000; 0: the server's choice
	PageToken   string // the NextPageToken or PrevPageToken of another page; "": the first
}

func (q AuditQuery) values() url.Values {
	v := url.Values{}
	for _, p := range [...]struct{ name, value string }{
		{"account", q.Account}, {"actor", q.Actor}, {"action", q.Action}, {"key_id", q.KeyID},
		{"command", q.Command}, {"command_id", q.CommandID}, {"request_id", q.RequestID}, {"page_token", q.PageToken},
	} {
		set(v, p.name, p.value)
	}
	setTime(v, "from_time", q.FromTime)
	setTime(v, "to_time", q.ToTime)
	setUint(v, "from_seq", q.FromSeq)
	setUint(v, "to_seq", q.ToSeq)
	if q.OldestFirst {
		v.Set("order", "oldest")
	}
	if q.PageSize != 0 {
		v.Set("page_size", strconv.Itoa(q.PageSize))
	}
	return v
}

// ListAudit returns one page of the audit log. A page may hold fewer entries than
// asked for, or none, and have a NextPageToken all the same: a search that finds
// little stops now and then, and AuditPage.SearchedToSeq says how far it came.
func (c *Client) ListAudit(ctx context.Context, q AuditQuery, opts ...CallOption) (AuditPage, error) {
	o := collect(opts)
	var page AuditPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "audit"}, query: o.query(q.values()), opts: o}, &page)
	return page, err
}

// AuditEntries yields the entries of a query, page by page. An error ends the
// sequence.
func (c *Client) AuditEntries(ctx context.Context, q AuditQuery, opts ...CallOption) iter.Seq2[AuditEntry, error] {
	return func(yield func(AuditEntry, error) bool) {
		for {
			page, err := c.ListAudit(ctx, q, opts...)
			if err != nil {
				yield(AuditEntry{}, err)
				return
			}
			for _, entry := range page.Entries {
				if !yield(entry, nil) {
					return
				}
			}
			if q.PageToken = page.NextPageToken; q.PageToken == "" {
				return
			}
		}
	}
}
