package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/server/servertest"
)

// TestVerifyCodes reaches every code that this door can answer, and checks that
// what must not be told is not told.
func TestVerifyCodes(t *testing.T) {
	clock := newClock()
	s := servertest.MustStart(t, servertest.Config{Now: clock.now})
	k := s.MustCreateKey(t, client.CreateKeyRequest{Account: "acme", Scopes: []string{"invoices:*"}, AllowedIPs: []string{"203.0.113.0/24"}})
	full := s.MustCreateKey(t, client.CreateKeyRequest{Account: "acme", FullAccess: true, Environment: "test"})
	revoked := s.MustCreateKey(t, client.CreateKeyRequest{})
	s.MustDo(t, 200, servertest.Request{Method: "POST", Path: "/v1/keys/" + revoked.Key.ID + "/revoke", Token: s.Operator}, nil)
	inAnHour := clock.now().Add(time.Hour)
	expiring := s.MustCreateKey(t, client.CreateKeyRequest{ExpiresAt: &inAnHour})
	rotated := s.MustCreateKey(t, client.CreateKeyRequest{})
	s.MustDo(t, 201, servertest.Request{Path: "/v1/keys/" + rotated.Key.ID + "/rotate", Token: s.Operator, Body: `{"overlap":"30m"}`}, nil)
	if v := mustVerify(t, s, client.VerifyRequest{Key: rotated.Token}); v.Code != "VALID" {
		t.Fatalf("in the overlap: %+v", v)
	}
	if v := mustVerify(t, s, client.VerifyRequest{Key: expiring.Token}); v.Code != "VALID" || v.ExpiresAt == nil || !v.ExpiresAt.Equal(inAnHour.Truncate(time.Microsecond)) {
		t.Fatalf("before the expiry: %+v", v)
	}
	clock.add(time.Hour)

	elsewhere := mustForeignToken(t)
	tests := []struct {
		name string
		ask  client.VerifyRequest
		code string
		of   string // the key that the answer may name
	}{
		{"valid", client.VerifyRequest{Key: k.Token, Scopes: []string{"invoices:read", "invoices:write"}, Environment: "live", Account: "acme", IP: "203.0.113.7"}, "VALID", k.Key.ID},
		{"full access", client.VerifyRequest{Key: full.Token, Scopes: []string{"webhooks:write"}}, "VALID", full.Key.ID},
		{"missing", client.VerifyRequest{}, "MISSING", ""},
		{"malformed", client.VerifyRequest{Key: "nonsense"}, "MALFORMED", ""},
		{"a typo", client.VerifyRequest{Key: k.Token[:len(k.Token)-1] + swap(k.Token[len(k.Token)-1])}, "MALFORMED", ""},
		{"unknown", client.VerifyRequest{Key: elsewhere}, "UNKNOWN", ""},
		{"a management key", client.VerifyRequest{Key: s.Operator}, "UNKNOWN", ""},
		{"revoked", client.VerifyRequest{Key: revoked.Token}, "REVOKED", revoked.Key.ID},
		{"past its overlap", client.VerifyRequest{Key: rotated.Token}, "REVOKED", rotated.Key.ID},
		{"expired", client.VerifyRequest{Key: expiring.Token}, "EXPIRED", expiring.Key.ID},
		{"wrong environment", client.VerifyRequest{Key: k.Token, Environment: "test"}, "WRONG_ENVIRONMENT", k.Key.ID},
		{"another's resource", client.VerifyRequest{Key: k.Token, Account: "other"}, "RESOURCE_NOT_ACCESSIBLE", k.Key.ID},
		{"another address", client.VerifyRequest{Key: k.Token, IP: "198.51.100.1"}, "IP_NOT_ALLOWED", k.Key.ID},
		{"no address", client.VerifyRequest{Key: k.Token}, "IP_NOT_ALLOWED", k.Key.ID},
		{"insufficient scope", client.VerifyRequest{Key: k.Token, IP: "203.0.113.7", Scopes: []string{"payouts:read"}}, "INSUFFICIENT_SCOPE", k.Key.ID},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := mustVerify(t, s, tt.ask)
			if v.Code != tt.code || v.Valid != (tt.code == "VALID") || v.KeyID != tt.of {
				t.Errorf("answer %+v, want %s of %q", v, tt.code, tt.of)
			}
			if v.Valid != (v.Cause == "") || v.Valid != (v.Solution == "") {
				t.Errorf("cause %q, solution %q", v.Cause, v.Solution)
			}
			if tt.of == "" && (v.Account != "" || v.Environment != "" || v.Scopes != nil || v.ExpiresAt != nil) {
				t.Errorf("the answer tells of a key: %+v", v)
			}
		})
	}
}

func TestVerifyBadRequests(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	tests := []struct {
		name, body, code, pointer string
		status                    int
	}{
		{"empty", "", "body_missing", "", 400},
		{"unknown member", `{"key":"x","scope":[]}`, "unknown_member", "/scope", 400},
		{"another case", `{"Key":"x"}`, "unknown_member", "/Key", 400},
		{"duplicate", `{"key":"x","key":"y"}`, "duplicate_member", "/key", 400},
		{"null", `{"key":"x","environment":null}`, "validation_failed", "/environment", 400},
		{"environment", `{"key":"x","environment":"prod"}`, "validation_failed", "/environment", 400},
		{"account", `{"key":"x","account":"a b"}`, "invalid_account", "/account", 400},
		{"address", `{"key":"x","ip":"203.0.113.7:80"}`, "validation_failed", "/ip", 400},
		{"unknown scope", `{"key":"x","scopes":["invoices:read","invoices:raed"]}`, "unknown_scope", "/scopes/1", 400},
		{"wildcard", `{"key":"x","scopes":["*"]}`, "unknown_scope", "/scopes/0", 400},
		{"many scopes", `{"key":"x","scopes":["` + strings.Repeat(`invoices:read","`, 64) + `invoices:read"]}`, "validation_failed", "/scopes", 400},
		{"65 KiB", `{"key":"` + strings.Repeat("x", 65<<10) + `"}`, "body_too_large", "", 413},
		{"a token as a name", `{"` + s.Operator + `":"x"}`, "unknown_member", "", 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := s.Do(t, servertest.Request{Path: "/v1/verify", Token: s.Operator, Body: tt.body})
			p := mustProblem(t, a, tt.status, tt.code)
			if tt.pointer != "" && (len(p.Errors) != 1 || p.Errors[0].Pointer != tt.pointer) {
				t.Errorf("errors %+v, want one at %s", p.Errors, tt.pointer)
			}
			if strings.Contains(string(a.Body), s.Operator[20:40]) {
				t.Error("the answer repeats a token")
			}
		})
	}
}

// mustForeignToken makes a well-formed token that nobody has.
func mustForeignToken(t *testing.T) string {
	t.Helper()
	token, err := domain.TokenFormat{}.NewToken(domain.KeyTypeAPI, domain.EnvironmentLive, "key_AAAAAAAAAAAAAAAA", zeros{})
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

// zeros is entropy for tokens that need none.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
