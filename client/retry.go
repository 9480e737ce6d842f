package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	defaultAttempts = 4
	defaultMinWait  = 200 * time.Millisecond
	defaultMaxWait  = 10 * time.Second
)

// Retry says how calls are repeated after a network error, 429, 502, 503 or 504;
// not after a certificate that is not trusted.
// Repeating is safe for every call of this package: reads change nothing, and
// commands carry the same Idempotency-Key over all attempts of a call.
type Retry struct {
	// Attempts is how often a call is sent at most. 0: 4; 1: never repeated.
	Attempts int
	// MinWait is the first wait's upper end; it doubles each time, and the
	// actual wait is drawn evenly between half of it and all of it. 0: 200 ms.
	MinWait time.Duration
	// MaxWait bounds each wait. A server that asks for more by Retry-After gets
	// no further attempt: the error says when to come back. 0: 10 seconds.
	MaxWait time.Duration
}

func (r Retry) withDefaults() Retry {
	if r.Attempts <= 0 {
		r.Attempts = defaultAttempts
	}
	if r.MinWait <= 0 {
		r.MinWait = defaultMinWait
	}
	if r.MaxWait <= 0 {
		r.MaxWait = defaultMaxWait
	}
	return r
}

// wait returns how long to wait after failure number n (from 0), and whether to
// try again at all.
func (r Retry) wait(n int, err error) (time.Duration, bool) {
	if !retryable(err) {
		return 0, false
	}
	after := time.Duration(0)
	if e, ok := errors.AsType[*Error](err); ok {
		after = e.RetryAfter
	}
	if after > r.MaxWait {
		return 0, false
	}
	return max(after, r.backoff(n)), true
}

// backoff draws from the upper half of a doubling window, so that clients that
// failed together do not come back together.
func (r Retry) backoff(n int) time.Duration {
	window := r.MaxWait
	if n < 30 { // beyond that the shift overflows, and MaxWait was passed long ago
		window = min(r.MinWait<<n, r.MaxWait)
	}
	return window/2 + rand.N(window/2+1) //nolint:gosec // jitter is no secret
}

// retryable reports whether the same call may succeed later.
func retryable(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		switch e.Status {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	_, ok := errors.AsType[*transportError](err)
	return ok && !untrusted(err)
}

// untrusted reports whether the server's certificate was refused. It will be the
// same one next time.
func untrusted(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// attempts runs one attempt after another until one succeeds, cannot succeed, or
// there were enough. The caller's context ends it at any point.
func (c *Client) attempts(ctx context.Context, spec call, attempt func(context.Context) error) error {
	for n := 0; ; n++ {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return &transportError{call: spec.String(), err: ctx.Err()}
		}
		wait, again := c.retry.wait(n, err)
		if !again || n+1 >= c.retry.Attempts {
			return err
		}
		c.logRetry(ctx, spec, err, wait)
		if ended := sleep(ctx, wait); ended != nil {
			return fmt.Errorf("%w; not tried again: %w", err, ended)
		}
	}
}

func (c *Client) logRetry(ctx context.Context, spec call, err error, wait time.Duration) {
	c.logger.WarnContext(ctx, "trying again", slog.String("call", spec.String()),
		slog.String("error", err.Error()), slog.Duration("wait", wait))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
