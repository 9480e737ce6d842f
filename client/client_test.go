package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
)

// mustClient makes a client of a server with the given handler; its waits are short.
func mustClient(t *testing.T, handler http.HandlerFunc, change ...func(*client.Config)) *client.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	cfg := client.Config{
		BaseURL: server.URL, Token: client.StaticToken("canary-token"),
		Retry: client.Retry{MinWait: time.Millisecond, MaxWait: 10 * time.Millisecond},
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func writeJSON(t *testing.T, w http.ResponseWriter, status int, v any) {
	t.Helper()
	w.Header().Set("Content-Type", client.MediaTypeJSON)
	if _, ok := v.(client.Problem); ok {
		w.Header().Set("Content-Type", client.MediaTypeProblem)
	}
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesBadAddresses(t *testing.T) {
	for address, allowed := range map[string]bool{
		"http://127.0.0.1:8080":        true,
		"http://[::1]:8080":            true,
		"http://localhost:8080/":       true,
		"https://keys.example.com/kl/": true,
		"http://keys.example.com":      false, // the token in clear
		"http://127.0.0.1.example.com": false,
		"https://u:p@keys.example.com": false,
		"https://keys.example.com?a=b": false,
		"ftp://keys.example.com":       false,
		"keys.example.com:8080":        false,
		"":                             false,
	} {
		if _, err := client.New(client.Config{BaseURL: address}); (err == nil) != allowed {
			t.Errorf("%q: %v, want allowed %t", address, err, allowed)
		}
	}
	if _, err := client.New(client.Config{BaseURL: "http://keys.example.com", AllowPlaintext: true}); err != nil {
		t.Errorf("plain http allowed by name: %v", err)
	}
}

func TestCommandKeepsItsIdempotencyKeyOverRetries(t *testing.T) {
	var seen []string
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get(client.HeaderIdempotencyKey))
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != `{"name":"n","environment":"live"}` {
			t.Errorf("body %q, %v", body, err)
		}
		switch len(seen) {
		case 1:
			writeJSON(t, w, http.StatusServiceUnavailable, client.Problem{Code: "unavailable"})
		case 2:
			panic(http.ErrAbortHandler) // the connection breaks: nobody knows what happened
		case 3:
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			w.Header().Set(client.HeaderReplayed, "true")
			writeJSON(t, w, http.StatusCreated, client.KeyResult{Key: client.Key{ID: "key_a"}, Seq: 7})
		}
	})
	req := client.CreateKeyRequest{Name: "n", Environment: "live"}
	out, err := c.CreateKey(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if out.Key.ID != "key_a" || out.Seq != 7 || !out.Replayed {
		t.Errorf("outcome %+v", out)
	}
	if len(seen) != 4 || seen[0] == "" || slices.ContainsFunc(seen, func(k string) bool { return k != seen[0] }) {
		t.Errorf("idempotency keys %q: want the same one four times", seen)
	}
	first := seen[0]
	if _, err := c.CreateKey(t.Context(), req); err != nil || seen[4] == first {
		t.Errorf("another call, %v: key %q again", err, first)
	}
	if _, err := c.CreateKey(t.Context(), req, client.WithIdempotencyKey("order-1")); err != nil || seen[5] != "order-1" {
		t.Errorf("a named call, %v: key %q", err, seen[5])
	}
}

func TestRefusalsAreErrors(t *testing.T) {
	attempts := 0
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		attempts++
		if got := r.Header.Get("If-Match"); got != `"12"` {
			t.Errorf("If-Match %s", got)
		}
		writeJSON(t, w, http.StatusPreconditionFailed, client.Problem{
			Title: "Precondition Failed", Detail: "the key has changed", Code: "version_mismatch",
			Fix: "read it again", RequestID: "req-1",
			Errors: []client.ProblemField{{Pointer: "/name", Detail: "is taken"}, {Parameter: "id", Detail: "is odd"}},
		})
	})
	_, err := c.UpdateKey(t.Context(), "key_a", client.UpdateKeyRequest{}, client.WithIfMatch(12))
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("%v is no *client.Error", err)
	}
	if e.Status != 412 || e.Code != "version_mismatch" || e.Fix != "read it again" || e.RequestID != "req-1" {
		t.Errorf("error %+v", e)
	}
	if want := "the key has changed; /name: is taken; id: is odd (412 version_mismatch, request req-1)"; err.Error() != want {
		t.Errorf("text %q, want %q", err, want)
	}
	if attempts != 1 {
		t.Errorf("%d attempts of what cannot succeed", attempts)
	}
}

func TestAnswersOfOthers(t *testing.T) {
	tests := map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"a proxy's page": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html>")
		}, "Bad Gateway (502)"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusFound)
		}, "Found (302)"},
		"a page that is no JSON": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "hello secret")
		}, "GET /v1/keys/key_a: the answer is not what keyledger would send; is this its address?"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := mustClient(t, tc.handler)
			if _, err := c.Key(t.Context(), "key_a"); err == nil || err.Error() != tc.want {
				t.Errorf("error %v, want %s", err, tc.want)
			}
		})
	}
}

func TestIDsAreOnePathSegment(t *testing.T) {
	var path string
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.EscapedPath()
		writeJSON(t, w, http.StatusOK, client.KeyResult{})
	})
	for id, want := range map[string]string{
		"key_a":     "/v1/keys/key_a",
		"a/revoke":  "/v1/keys/a%2Frevoke",
		"..":        "/v1/keys/%2E%2E",
		"a?b#c d\n": "/v1/keys/a%3Fb%23c%20d%0A",
	} {
		if _, err := c.Key(t.Context(), id); err != nil || path != want {
			t.Errorf("%q: path %s, %v; want %s", id, path, err, want)
		}
	}
	if _, err := c.Key(t.Context(), ""); err == nil {
		t.Error("an empty id was sent: it would name the list")
	}
}

func TestKeysGoesOverAllPages(t *testing.T) {
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("status") != "active" || q.Get("min_seq") != "9" || q.Get("page_size") != "2" {
			t.Errorf("query %s", r.URL.RawQuery)
		}
		switch q.Get("page_token") {
		case "":
			writeJSON(t, w, http.StatusOK, client.KeyPage{Keys: []client.Key{{ID: "a"}, {ID: "b"}}, NextPageToken: "two"})
		case "two":
			writeJSON(t, w, http.StatusOK, client.KeyPage{Keys: []client.Key{{ID: "c"}}})
		}
	})
	var ids []string
	for key, err := range c.Keys(t.Context(), client.KeyQuery{Status: "active", PageSize: 2}, client.WithMinSeq(9)) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, key.ID)
	}
	if got := strings.Join(ids, ""); got != "abc" {
		t.Errorf("keys %s", got)
	}
}

func TestReadyIsAskedOnce(t *testing.T) {
	attempts := 0
	want := client.Readiness{Parts: []client.ReadinessPart{{Name: "log", Error: "history was replaced"}}}
	c := mustClient(t, func(w http.ResponseWriter, _ *http.Request) {
		attempts++
		writeJSON(t, w, http.StatusServiceUnavailable, want)
	})
	got, err := c.Ready(t.Context())
	if err != nil || got.Ready || !slices.Equal(got.Parts, want.Parts) || attempts != 1 {
		t.Errorf("%+v, %v after %d attempts", got, err, attempts)
	}
}

func TestTimeoutsAndCancellation(t *testing.T) {
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	handler := func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-block:
		case <-r.Context().Done():
		}
	}
	t.Run("an attempt is bounded", func(t *testing.T) {
		c := mustClient(t, handler, func(cfg *client.Config) { cfg.Timeout = 10 * time.Millisecond })
		_, err := c.Scopes(t.Context())
		var timeout interface{ Timeout() bool }
		if !errors.As(err, &timeout) || !timeout.Timeout() || err.Error() != "GET /v1/scopes: no answer in time" {
			t.Errorf("error %v", err)
		}
	})
	t.Run("the caller's context ends it", func(t *testing.T) {
		c := mustClient(t, handler)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := c.Scopes(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

// A token is in the Authorization header and nowhere else: not in errors, logs,
// or what printing the configuration or the client shows.
func TestTheTokenDoesNotPrint(t *testing.T) {
	var logs bytes.Buffer
	cfg := client.Config{
		BaseURL: "http://127.0.0.1:1", Token: client.StaticToken("canary-token"),
		Retry:  client.Retry{Attempts: 2, MinWait: time.Millisecond},
		Logger: slog.New(slog.NewTextHandler(&logs, nil)),
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Verify(t.Context(), client.VerifyRequest{Key: "canary-key"})
	if err == nil {
		t.Fatal("a call to nobody succeeded")
	}
	cfg.Token = client.StaticToken("canary-token\nX-Evil: 1")
	broken, newErr := client.New(cfg)
	if newErr != nil {
		t.Fatal(newErr)
	}
	_, headerErr := broken.Scopes(t.Context())
	if headerErr == nil {
		t.Fatal("a token with a line break was sent")
	}
	shown := fmt.Sprintf("%v %+v %#v %v %v %+v", cfg, cfg, cfg, err, headerErr, c) + logs.String()
	if strings.Contains(shown, "canary") {
		t.Errorf("shown: %s", shown)
	}
	if !strings.Contains(logs.String(), "trying again") {
		t.Errorf("the second attempt was not logged: %s", logs.String())
	}
}
