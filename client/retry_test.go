package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"iter"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// mustFake makes a client whose requests never leave the process, so that its
// waits can run on the fake clock of synctest.
func mustFake(t *testing.T, retry Retry, answer roundTripper) *Client {
	t.Helper()
	c, err := New(Config{BaseURL: "https://keys.example.com", HTTPClient: &http.Client{Transport: answer}, Retry: retry})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWaitsGrowWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		c := mustFake(t, Retry{Attempts: 8}, func(*http.Request) (*http.Response, error) {
			at = append(at, time.Since(start))
			return nil, errors.New("connection refused")
		})
		if _, err := c.Scopes(t.Context()); err == nil || err.Error() != "GET /v1/scopes: connection refused" {
			t.Errorf("error %v", err)
		}
		if len(at) != 8 {
			t.Fatalf("%d attempts, want 8", len(at))
		}
		window := 200 * time.Millisecond
		for i := 1; i < len(at); i++ {
			if wait := at[i] - at[i-1]; wait < window/2 || wait > window {
				t.Errorf("wait %d is %v, want %v to %v", i, wait, window/2, window)
			}
			window = min(2*window, 10*time.Second)
		}
	})
}

func TestRetryAfterIsHonouredWithinBounds(t *testing.T) {
	answer := func(header http.Header) *http.Response {
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: header, Body: http.NoBody}
	}
	tests := map[string]struct {
		header   http.Header
		attempts int
		wait     time.Duration
	}{
		"seconds": {http.Header{"Retry-After": {"3"}}, 2, 3 * time.Second},
		"a date": {http.Header{
			"Retry-After": {"Mon, 02 Jan 2006 15:04:09 GMT"}, "Date": {"Mon, 02 Jan 2006 15:04:05 GMT"},
		}, 2, 4 * time.Second},
		"longer than allowed": {http.Header{"Retry-After": {"3600"}}, 1, time.Hour},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts, start := 0, time.Now()
				c := mustFake(t, Retry{Attempts: 2}, func(*http.Request) (*http.Response, error) {
					attempts++
					return answer(tc.header), nil
				})
				_, err := c.Scopes(t.Context())
				e, ok := errors.AsType[*Error](err)
				if !ok || e.RetryAfter != tc.wait {
					t.Errorf("error %v says %v, want %v", err, e.RetryAfter, tc.wait)
				}
				waited := time.Since(start)
				if attempts != tc.attempts || attempts == 2 && waited != tc.wait || attempts == 1 && waited != 0 {
					t.Errorf("%d attempts in %v", attempts, waited)
				}
			})
		})
	}
}

// A certificate that was refused is the same one at the next attempt.
func TestUntrustedCertificateIsNotTriedAgain(t *testing.T) {
	for name, ask := range map[string]func(*Client) error{
		"a call":                func(c *Client) error { _, err := c.Scopes(t.Context()); return err },
		"a stream":              func(c *Client) error { return lastError(c.Events(t.Context(), EventQuery{})) },
		"a stream that goes on": func(c *Client) error { return lastError(c.Follow(t.Context(), EventQuery{})) },
	} {
		t.Run(name, func(t *testing.T) {
			attempts := 0
			c := mustFake(t, Retry{}, func(*http.Request) (*http.Response, error) {
				attempts++
				return nil, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
			})
			err := ask(c)
			if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok || attempts != 1 {
				t.Errorf("%v after %d attempts", err, attempts)
			}
		})
	}
}

func lastError(events iter.Seq2[EventRecord, error]) (last error) {
	for _, err := range events {
		last = err
	}
	return last
}
