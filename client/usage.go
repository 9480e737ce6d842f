package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// UsageQuery says of which days to tell. A zero From is 29 days before To, a zero To
// is today. Only the days count, of UTC; both are included, and there are 400 at most.
type UsageQuery struct{ From, To time.Time }

func (q UsageQuery) values() url.Values {
	v := url.Values{}
	for name, t := range map[string]time.Time{"from": q.From, "to": q.To} {
		if !t.IsZero() {
			v.Set(name, t.UTC().Format(time.DateOnly))
		}
	}
	return v
}

// KeyUsage returns how often a key was used. Uses are reported every minute: the
// last are not in it yet.
func (c *Client) KeyUsage(ctx context.Context, id string, q UsageQuery, opts ...CallOption) (KeyUsage, error) {
	return c.usage(ctx, []string{"v1", "keys", id, "usage"}, q, opts)
}

// ManagementKeyUsage is [Client.KeyUsage] of a key of the control plane.
func (c *Client) ManagementKeyUsage(ctx context.Context, id string, q UsageQuery, opts ...CallOption) (KeyUsage, error) {
	return c.usage(ctx, []string{"v1", "management-keys", id, "usage"}, q, opts)
}

func (c *Client) usage(ctx context.Context, path []string, q UsageQuery, opts []CallOption) (out KeyUsage, err error) {
	o := collect(opts)
	_, err = c.do(ctx, call{method: http.MethodGet, path: path, query: o.query(q.values()), opts: o}, &out)
	return out, err
}
