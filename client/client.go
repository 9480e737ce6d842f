package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultTimeout   = 30 * time.Second
	defaultUserAgent = "keyledger-go"

	// A page of the largest events is 1,000 × 40 KiB; nothing longer is an answer of keyledger.
	maxResponseBytes = 64 << 20
	maxErrorBytes    = 64 << 10
)

// TokenSource returns the token of a management key. It is asked before every
// attempt, so that a token that was replaced on disk is picked up. A function
// holds the token because functions do not print.
type TokenSource func(context.Context) (string, error)

// StaticToken is the source of a token that does not change.
func StaticToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// Config says how to reach a server. Only BaseURL is required.
type Config struct {
	// BaseURL is where the server answers, for example https://keys.example.com.
	BaseURL string
	// Token authenticates the calls. nil: they carry no credential, which is
	// enough for [Client.Ready] and the like.
	Token TokenSource
	// HTTPClient makes the requests. Its redirect policy is not used: a redirect
	// is an error, because following one could carry the token elsewhere.
	// nil: a client with the default transport.
	HTTPClient *http.Client
	// Timeout bounds one attempt of a call, its answer included. It does not
	// bound [Client.Events] and [Client.Follow], only how long they wait for the
	// answer to begin. 0: 30 seconds.
	Timeout time.Duration
	// Retry says how calls are repeated. The zero value is a good one.
	Retry Retry
	// UserAgent is sent along. "": keyledger-go.
	UserAgent string
	// AllowPlaintext permits http:// to hosts beyond loopback, where anyone on
	// the way can read the token. false: [New] refuses such a BaseURL.
	AllowPlaintext bool
	// Logger is told of attempts that are repeated; never of a token or a body.
	// nil: nobody is told.
	Logger *slog.Logger
}

// Client calls a keyledger server. It is safe for concurrent use.
type Client struct {
	base      *url.URL
	token     TokenSource
	http      *http.Client
	timeout   time.Duration
	retry     Retry
	userAgent string
	logger    *slog.Logger
}

// New makes a client. It does not call the server.
func New(cfg Config) (*Client, error) {
	base, err := parseBaseURL(cfg.BaseURL, cfg.AllowPlaintext)
	if err != nil {
		return nil, err
	}
	c := &Client{
		base: base, token: cfg.Token, timeout: cfg.Timeout, retry: cfg.Retry.withDefaults(),
		userAgent: cfg.UserAgent, logger: cfg.Logger,
	}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	if c.userAgent == "" {
		c.userAgent = defaultUserAgent
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	hc := http.Client{}
	if cfg.HTTPClient != nil {
		hc = *cfg.HTTPClient
	}
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &hc
	return c, nil
}

func parseBaseURL(s string, allowPlaintext bool) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("client: BaseURL must be http:// or https:// and a host, for example https://keys.example.com")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("client: BaseURL must not hold a user, a query or a fragment; credentials go into Token")
	}
	if u.Scheme == "http" && !allowPlaintext && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("client: http://%s would send the token in clear; use https, or set AllowPlaintext", u.Host)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// call is one logical call: what stays the same over its attempts.
type call struct {
	method string
	path   []string // segments, escaped one by one when sent
	query  url.Values
	body   any // marshalled to JSON; nil: no body
	opts   callOptions
	accept string // "": application/json
}

// do runs a call and decodes its answer into out, unless out is nil.
func (c *Client) do(ctx context.Context, spec call, out any) (http.Header, error) {
	body, err := marshalBody(spec)
	if err != nil {
		return nil, err
	}
	var header http.Header
	err = c.attempts(ctx, spec, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errTimeout)
		defer cancel()
		resp, err := c.send(ctx, spec, body)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		header = resp.Header
		return c.decode(ctx, spec, resp.Body, out)
	})
	return header, err
}

func marshalBody(spec call) ([]byte, error) {
	if spec.body == nil {
		return nil, nil
	}
	body, err := json.Marshal(spec.body)
	if err != nil {
		// The text of err may quote the value, and a body may hold a key.
		return nil, fmt.Errorf("%s: the request cannot be written as JSON", spec)
	}
	return body, nil
}

// send makes one attempt and returns an answer of 2xx with its body still open;
// every other answer becomes an [*Error].
func (c *Client) send(ctx context.Context, spec call, body []byte) (*http.Response, error) {
	resp, err := c.roundTrip(ctx, spec, body)
	if err != nil || resp.StatusCode/100 == 2 {
		return resp, err
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, readError(resp)
}

// roundTrip makes one attempt and returns whatever answer came.
func (c *Client) roundTrip(ctx context.Context, spec call, body []byte) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	if slices.Contains(spec.path, "") {
		return nil, fmt.Errorf("%s: the id is empty", spec)
	}
	u := c.base.JoinPath(escaped(spec.path)...)
	u.RawQuery = spec.query.Encode()
	req, err := http.NewRequestWithContext(ctx, spec.method, u.String(), reader)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", spec, err)
	}
	if err := c.setHeaders(ctx, req, spec); err != nil {
		return nil, fmt.Errorf("%s: %w", spec, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &transportError{call: spec.String(), err: unwrapURLError(ctx, err)}
	}
	return resp, nil
}

// escaped makes one path segment of each part: an id with a slash, dots or a
// percent sign reaches the server as that id, not as another route.
func escaped(parts []string) []string {
	out := make([]string, len(parts))
	for i, part := range parts {
		switch out[i] = url.PathEscape(part); out[i] {
		case ".", "..":
			out[i] = strings.ReplaceAll(out[i], ".", "%2E")
		}
	}
	return out
}

func (c *Client) setHeaders(ctx context.Context, req *http.Request, spec call) error {
	h := req.Header
	h.Set("User-Agent", c.userAgent)
	h.Set("Accept", MediaTypeJSON)
	if spec.accept != "" {
		h.Set("Accept", spec.accept)
	}
	if req.Body != nil {
		h.Set("Content-Type", MediaTypeJSON)
	}
	if spec.opts.idempotencyKey != "" {
		h.Set(HeaderIdempotencyKey, spec.opts.idempotencyKey)
	}
	if spec.opts.requestID != "" {
		h.Set(HeaderRequestID, spec.opts.requestID)
	}
	if spec.opts.ifMatch != nil {
		h.Set("If-Match", strconv.Quote(strconv.FormatUint(*spec.opts.ifMatch, 10)))
	}
	if c.token == nil {
		return nil
	}
	token, err := c.token(ctx)
	if err != nil {
		return fmt.Errorf("get the token: %w", err)
	}
	// net/http would refuse the header with an error that quotes it.
	token = strings.TrimSpace(token)
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return errors.New("the token holds spaces or control characters: not the form of a token")
	}
	h.Set("Authorization", "Bearer "+token)
	return nil
}

func (c *Client) decode(ctx context.Context, spec call, body io.Reader, out any) error {
	data, err := io.ReadAll(io.LimitReader(body, maxResponseBytes+1))
	if err != nil {
		return &transportError{call: spec.String(), err: unwrapURLError(ctx, err)}
	}
	if len(data) > maxResponseBytes {
		return fmt.Errorf("%s: the answer is longer than %d bytes", spec, maxResponseBytes)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		// Not wrapped: the text may quote the answer, and an answer may hold a token.
		return fmt.Errorf("%s: %w", spec, errNotKeyledger)
	}
	return nil
}

// String names the call for errors and logs: method and path, no query, no body.
func (s call) String() string { return s.method + " /" + strings.Join(escaped(s.path), "/") }

// unwrapURLError drops net/http's wrapping, which repeats method and whole URL,
// and names a timeout of ours as such.
func unwrapURLError(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errTimeout) {
		return errTimeout
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	return err
}

// timeoutError is a [net.Error], like the timeouts of net/http.
type timeoutError struct{}

func (timeoutError) Error() string   { return "no answer in time" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

var errTimeout net.Error = timeoutError{}
