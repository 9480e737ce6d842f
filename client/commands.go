package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// CommandOutcome says what became of a command, by its id: the id of the CloudEvent
// that was published, or the idempotency key. account "" means the management key's
// own, or default for instance keys. A command that still waits is not found.
func (c *Client) CommandOutcome(ctx context.Context, account, id string, opts ...CallOption) (CommandOutcome, error) {
	o := collect(opts)
	v := url.Values{}
	set(v, "account", account)
	var out CommandOutcome
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "commands", id}, query: o.query(v), opts: o}, &out)
	return out, err
}

// DeadLetterQuery narrows the dead letters. The zero value means all that the
// management key may see, oldest first.
type DeadLetterQuery struct {
	Account   string // only instance keys may name one
	PageSize  int    // letters a page, at most 1,000; 0: the server's choice
	PageToken string // the NextPageToken of another page; "": the first
}

// ListDeadLetters returns one page of the commands that can never be carried out.
func (c *Client) ListDeadLetters(ctx context.Context, q DeadLetterQuery, opts ...CallOption) (DeadLetterPage, error) {
	o := collect(opts)
	v := url.Values{}
	set(v, "account", q.Account)
	set(v, "page_token", q.PageToken)
	if q.PageSize != 0 {
		v.Set("page_size", strconv.Itoa(q.PageSize))
	}
	var page DeadLetterPage
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "dead-letters"}, query: o.query(v), opts: o}, &page)
	return page, err
}

// DeadLetters yields the dead letters of a query, page by page. An error ends the
// sequence.
func (c *Client) DeadLetters(ctx context.Context, q DeadLetterQuery, opts ...CallOption) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for {
			page, err := c.ListDeadLetters(ctx, q, opts...)
			if err != nil {
				yield(DeadLetter{}, err)
				return
			}
			for _, letter := range page.DeadLetters {
				if !yield(letter, nil) {
					return
				}
			}
			if q.PageToken = page.NextPageToken; q.PageToken == "" {
				return
			}
		}
	}
}

// DeadLetter returns one dead letter.
func (c *Client) DeadLetter(ctx context.Context, seq uint64, opts ...CallOption) (DeadLetter, error) {
	var out DeadLetter
	path := []string{"v1", "dead-letters", strconv.FormatUint(seq, 10)}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path, opts: collect(opts)}, &out)
	return out, err
}

// ResendDeadLetter publishes a dead command again, as its producer sent it. It is
// carried out once at most, however often it is sent.
func (c *Client) ResendDeadLetter(ctx context.Context, seq uint64, opts ...CallOption) (Resent, error) {
	var out Resent
	path := []string{"v1", "dead-letters", strconv.FormatUint(seq, 10), "resend"}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path, opts: collect(opts)}, &out)
	return out, err
}
