package servertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
)

func loadToken(path string) (domain.Secret, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return domain.Secret{}, nil
	}
	return domain.NewSecret(strings.TrimSpace(string(text))), err
}

// Request is one HTTP request of a test, as raw as the test wants it.
type Request struct {
	Method string // "": GET without a body, POST with one
	Path   string // with its query, not escaped any further
	Token  string // bearer; "": no Authorization header
	// Body: nil for none, a string or []byte as it is, anything else as JSON.
	Body   any
	Header map[string]string // added last; "" removes
}

// Answer is the answer to a [Request], read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request and reads the answer.
func (s *Stack) Do(tb testing.TB, r Request) Answer {
	tb.Helper()
	resp, err := http.DefaultClient.Do(s.NewRequest(tb, tb.Context(), r))
	if err != nil {
		tb.Fatalf("%s %s: %v", r.Method, r.Path, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatalf("%s %s: read the answer: %v", r.Method, r.Path, err)
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}
}

// NewRequest makes the request that Do sends.
func (s *Stack) NewRequest(tb testing.TB, ctx context.Context, r Request) *http.Request { //nolint:revive // the test comes first, as everywhere
	tb.Helper()
	var body io.Reader
	switch b := r.Body.(type) {
	case nil:
	case string:
		body = strings.NewReader(b)
	case []byte:
		body = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			tb.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
		if body != nil {
			method = http.MethodPost
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL+r.Path, body)
	if err != nil {
		tb.Fatal(err)
	}
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	if body != nil {
		req.Header.Set("Content-Type", client.MediaTypeJSON)
	}
	for name, value := range r.Header {
		if value == "" {
			req.Header.Del(name)
		} else {
			req.Header.Set(name, value)
		}
	}
	return req
}

// MustDo is Do for a request that must be answered with the given status; the
// answer is decoded into out unless that is nil.
func (s *Stack) MustDo(tb testing.TB, status int, r Request, out any) Answer {
	tb.Helper()
	a := s.Do(tb, r)
	if a.Status != status {
		tb.Fatalf("%s %s: status %d, want %d: %s", r.Method, r.Path, a.Status, status, a.Body)
	}
	if out != nil {
		if err := json.Unmarshal(a.Body, out); err != nil {
			tb.Fatalf("%s %s: decode the answer: %v", r.Method, r.Path, err)
		}
	}
	return a
}

// MustCreateKey makes a key with the operator's token. Members of the request that
// are missing and needed are filled in.
func (s *Stack) MustCreateKey(tb testing.TB, r client.CreateKeyRequest) client.KeyResult {
	tb.Helper()
	if r.Name == "" {
		r.Name = "a key"
	}
	if r.Environment == "" {
		r.Environment = "live"
	}
	if r.Scopes == nil && !r.FullAccess {
		r.Scopes = []string{"invoices:read"}
	}
	var out client.KeyResult
	s.MustDo(tb, http.StatusCreated, Request{Path: "/v1/keys", Token: s.Operator, Body: r}, &out)
	return out
}

// MustManagementKey makes a management key with the operator's token. Without
// grants it may grant everything.
func (s *Stack) MustManagementKey(tb testing.TB, account string, scopes ...domain.Scope) client.KeyResult {
	tb.Helper()
	r := client.CreateManagementKeyRequest{
		Name: "of " + account, Account: account,
		Grants: &client.Grants{Environments: []string{"live", "test"}, Scopes: []string{"*"}},
	}
	for _, scope := range scopes {
		r.Scopes = append(r.Scopes, string(scope))
	}
	var out client.KeyResult
	s.MustDo(tb, http.StatusCreated, Request{Path: "/v1/management-keys", Token: s.Operator, Body: r}, &out)
	return out
}
