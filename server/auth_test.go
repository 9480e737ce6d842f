package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/server/servertest"
)

// TestAuthentication asks with every sort of credential on every sort of route:
// behind huma and plain.
func TestAuthentication(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	ordinary := s.MustCreateKey(t, client.CreateKeyRequest{FullAccess: true})
	revoked := s.MustManagementKey(t, "default", domain.ScopeOperate, domain.ScopeVerify, domain.ScopeAuditRead, domain.ScopeKeysRead)
	s.MustDo(t, 200, servertest.Request{Method: "POST", Path: "/v1/management-keys/" + revoked.Key.ID + "/revoke", Token: s.Operator}, nil)
	powerless := s.MustManagementKey(t, "default", domain.ScopeCommands)

	typo := s.Operator[:len(s.Operator)-1] + swap(s.Operator[len(s.Operator)-1])
	const bearer = `Bearer realm="keyledger"`
	const invalid = bearer + `, error="invalid_token"`
	credentials := []struct {
		name      string
		header    []string
		status    int
		code      string
		challenge string
	}{
		{"none", nil, 401, "missing_credential", bearer},
		{"empty", []string{""}, 401, "invalid_token", invalid},
		{"scheme alone", []string{"Bearer"}, 401, "invalid_token", invalid},
		{"another scheme", []string{"Basic " + s.Operator}, 401, "invalid_token", invalid},
		{"no scheme", []string{s.Operator}, 401, "invalid_token", invalid},
		{"two tokens", []string{"Bearer " + s.Operator + " " + s.Operator}, 401, "invalid_token", invalid},
		{"a list", []string{"Bearer " + s.Operator + ",Bearer x"}, 401, "invalid_token", invalid},
		{"nonsense", []string{"Bearer nonsense"}, 401, "invalid_token", invalid},
		{"a typo", []string{"Bearer " + typo}, 401, "invalid_token", invalid},
		{"an ordinary key", []string{"Bearer " + ordinary.Token}, 401, "invalid_token", invalid},
		{"a revoked key", []string{"Bearer " + revoked.Token}, 401, "invalid_token", invalid},
		{"very long", []string{"Bearer " + strings.Repeat("x", 10_000)}, 401, "invalid_token", invalid},
		{"two headers", []string{"Bearer " + s.Operator, "Bearer " + s.Operator}, 400, "two_credentials", ""},
	}
	routes := []struct {
		method, path, body string
		scope              domain.Scope
	}{
		{"GET", "/v1/keys", "", domain.ScopeKeysRead},
		{"POST", "/v1/keys", goodKey, domain.ScopeKeysWrite},
		{"POST", "/v1/verify", `{"key":"x"}`, domain.ScopeVerify},
		{"GET", "/v1/events", "", domain.ScopeAuditRead},
		{"GET", "/v1/management-keys", "", domain.ScopeOperate},
		{"GET", "/v1/scopes", "", ""},
	}
	for _, route := range routes {
		do := func(t *testing.T, header []string) servertest.Answer {
			t.Helper()
			r := servertest.Request{Method: route.method, Path: route.path}
			if route.body != "" {
				r.Body = route.body
			}
			req := s.NewRequest(t, t.Context(), r)
			if header != nil {
				req.Header["Authorization"] = header
			}
			return mustSend(t, req)
		}
		for _, c := range credentials {
			t.Run(route.method+" "+route.path+" "+c.name, func(t *testing.T) {
				a := do(t, c.header)
				mustProblem(t, a, c.status, c.code)
				if got := a.Header.Get("WWW-Authenticate"); got != c.challenge {
					t.Errorf("WWW-Authenticate %q, want %q", got, c.challenge)
				}
				if a.Header.Get("Cache-Control") != "no-store" {
					t.Error("the refusal may be cached")
				}
			})
		}
		for _, scheme := range []string{"Bearer", "bearer", "BEARER"} {
			if a := do(t, []string{scheme + " " + s.Operator}); a.Status/100 != 2 {
				t.Errorf("%s %s with %s: status %d: %s", route.method, route.path, scheme, a.Status, a.Body)
			}
		}
		if route.scope == "" {
			continue
		}
		t.Run(route.method+" "+route.path+" without the scope", func(t *testing.T) {
			a := do(t, []string{"Bearer " + powerless.Token})
			mustProblem(t, a, 403, "insufficient_scope")
			if got, want := a.Header.Get("WWW-Authenticate"), bearer+`, error="insufficient_scope", scope="`+string(route.scope)+`"`; got != want {
				t.Errorf("WWW-Authenticate %q, want %q", got, want)
			}
		})
	}
	t.Run("the body is not read before the credential", func(t *testing.T) {
		a := s.Do(t, servertest.Request{Path: "/v1/keys", Token: "nonsense", Body: strings.Repeat("x", 100<<10)})
		mustProblem(t, a, 401, "invalid_token")
	})
}

// swap returns another character of the alphabet.
func swap(c byte) string {
	if c == 'a' {
		return "b"
	}
	return "a"
}

func mustSend(t *testing.T, req *http.Request) servertest.Answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // a test's
	return servertest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: mustReadAll(t, resp.Body)}
}

// TestNobodyGrantsMore makes keys with a management key that may do little.
func TestNobodyGrantsMore(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	var small client.KeyResult
	s.MustDo(t, 201, servertest.Request{Path: "/v1/management-keys", Token: s.Operator, Body: client.CreateManagementKeyRequest{
		Name: "small", Account: "acme", Scopes: []string{"keyledger.keys:read", "keyledger.keys:write", "keyledger.operate"},
		Grants: &client.Grants{Environments: []string{"test"}, Scopes: []string{"invoices:read", "clients:*"}}, ExpiresOn: new("2098-01-01"),
	}}, &small)
	tests := []struct {
		name, path, body string
		status           int
		code             string
	}{
		{"within", "/v1/keys", `{"name":"n","environment":"test","scopes":["invoices:read","clients:write"],"expires_on":"2097-01-01"}`, 201, ""},
		{"another environment", "/v1/keys", `{"name":"n","environment":"live","scopes":["invoices:read"],"expires_on":"2097-01-01"}`, 403, "ceiling_exceeded"},
		{"another scope", "/v1/keys", `{"name":"n","environment":"test","scopes":["invoices:write"],"expires_on":"2097-01-01"}`, 403, "ceiling_exceeded"},
		{"full access", "/v1/keys", `{"name":"n","environment":"test","full_access":true,"expires_on":"2097-01-01"}`, 403, "ceiling_exceeded"},
		{"a longer life", "/v1/keys", `{"name":"n","environment":"test","scopes":["invoices:read"],"expires_on":"2099-01-01"}`, 403, "ceiling_exceeded"},
		{"an endless life", "/v1/keys", `{"name":"n","environment":"test","scopes":["invoices:read"]}`, 403, "ceiling_exceeded"},
		{"another account", "/v1/keys", `{"name":"n","environment":"test","scopes":["invoices:read"],"expires_on":"2097-01-01","account":"other"}`, 403, "ceiling_exceeded"},
		{"a management scope that it lacks", "/v1/management-keys", `{"name":"n","scopes":["keyledger.audit:read"],"expires_on":"2097-01-01"}`, 403, "ceiling_exceeded"},
		{"wider grants", "/v1/management-keys", `{"name":"n","scopes":["keyledger.keys:read"],"grants":{"environments":["live"],"scopes":["invoices:read"]},"expires_on":"2097-01-01"}`, 403, "ceiling_exceeded"},
		{"an instance key", "/v1/management-keys", `{"name":"n","scopes":["keyledger.keys:read"],"account":"_root","expires_on":"2097-01-01"}`, 403, "ceiling_exceeded"},
		{"an ordinary scope for a management key", "/v1/management-keys", `{"name":"n","scopes":["invoices:read"],"expires_on":"2097-01-01"}`, 400, "unknown_scope"},
		{"a wildcard for a management key", "/v1/management-keys", `{"name":"n","scopes":["*"],"expires_on":"2097-01-01"}`, 400, "unknown_scope"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := s.Do(t, servertest.Request{Path: tt.path, Token: small.Token, Body: tt.body})
			if tt.status == 201 {
				if a.Status != 201 || !strings.Contains(string(a.Body), `"account":"acme"`) {
					t.Errorf("status %d: %s", a.Status, a.Body)
				}
				return
			}
			mustProblem(t, a, tt.status, tt.code)
		})
	}
	// The same holds for changes: of a key that another made, too.
	wide := s.MustCreateKey(t, client.CreateKeyRequest{Account: "acme", Environment: "test", FullAccess: true})
	for body, status := range map[string]int{
		`{"name":"m"}`:                  200,
		`{"scopes":["payouts:read"]}`:   200, // less than it has
		`{"scopes":["invoices:write"]}`: 403,
		`{"full_access":true}`:          403,
	} {
		if status == 403 { // after the key was made smaller
			s.MustDo(t, 200, servertest.Request{Method: "PATCH", Path: "/v1/keys/" + wide.Key.ID, Token: s.Operator, Body: `{"scopes":["payouts:read"]}`}, nil)
		}
		if a := s.Do(t, servertest.Request{Method: "PATCH", Path: "/v1/keys/" + wide.Key.ID, Token: small.Token, Body: body}); a.Status != status {
			t.Errorf("PATCH %s: status %d, want %d: %s", body, a.Status, status, a.Body)
		}
	}
	a := s.Do(t, servertest.Request{Method: "POST", Path: "/v1/keys/" + wide.Key.ID + "/rotate", Token: small.Token})
	mustProblem(t, a, 403, "ceiling_exceeded") // the new key would hold payouts:read
}
