package server_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/server/servertest"
)

func TestVerifyThePast(t *testing.T) {
	p := mustPast(t)
	token, id := p.created.Token, p.created.Key.ID
	bound := p.MustManagementKey(t, "acme", domain.ScopeVerify, domain.ScopeAuditRead)
	foreign := p.MustManagementKey(t, "other", domain.ScopeVerify, domain.ScopeAuditRead)
	after := func(d time.Duration) *time.Time { at := p.start.Add(d); return &at }
	tests := []struct {
		name   string
		caller string
		ask    client.VerifyRequest
		code   string
		asOf   uint64
		named  bool
	}{
		{"before it was made", p.Operator, client.VerifyRequest{Key: token, At: after(-time.Second)}, "UNKNOWN", p.created.Seq - 1, false},
		{"when it was made", p.Operator, client.VerifyRequest{Key: token, At: after(0), Scopes: []string{"invoices:write"}}, "VALID", p.created.Seq, true},
		{"a scope that came later", p.Operator, client.VerifyRequest{Key: token, At: after(time.Minute), Scopes: []string{"payouts:read"}}, "INSUFFICIENT_SCOPE", p.created.Seq, true},
		{"the scope", p.Operator, client.VerifyRequest{Key: token, At: after(time.Hour), Scopes: []string{"payouts:read"}}, "VALID", p.renamed.Seq, true},
		{"a scope that was taken", p.Operator, client.VerifyRequest{Key: token, At: after(time.Hour), Scopes: []string{"invoices:read"}}, "INSUFFICIENT_SCOPE", p.renamed.Seq, true},
		{"just before the end", p.Operator, client.VerifyRequest{Key: token, At: after(2*time.Hour - time.Microsecond)}, "VALID", p.renamed.Seq, true},
		{"revoked", p.Operator, client.VerifyRequest{Key: token, At: after(2 * time.Hour)}, "REVOKED", p.revoked.Seq, true},
		{"by id", p.Operator, client.VerifyRequest{KeyID: id, At: after(time.Minute)}, "VALID", p.created.Seq, true},
		{"by id, revoked", p.Operator, client.VerifyRequest{KeyID: id, At: after(2 * time.Hour)}, "REVOKED", p.revoked.Seq, true},
		{"another environment", p.Operator, client.VerifyRequest{KeyID: id, At: after(time.Minute), Environment: "test"}, "WRONG_ENVIRONMENT", p.created.Seq, true},
		{"another's resource", p.Operator, client.VerifyRequest{KeyID: id, At: after(time.Minute), Account: "other"}, "RESOURCE_NOT_ACCESSIBLE", p.created.Seq, true},
		{"nobody's id", p.Operator, client.VerifyRequest{KeyID: "key_AAAAAAAAAAAAAAAA", At: after(time.Minute)}, "UNKNOWN", p.created.Seq, false},
		{"a management key's id", p.Operator, client.VerifyRequest{KeyID: mustOperatorID(t, p.Stack), At: after(time.Minute)}, "UNKNOWN", p.created.Seq, false},
		{"a management key", p.Operator, client.VerifyRequest{Key: p.Operator, At: after(time.Minute)}, "UNKNOWN", p.created.Seq, false},
		{"nonsense", p.Operator, client.VerifyRequest{Key: "nonsense", At: after(time.Minute)}, "MALFORMED", p.created.Seq, false},
		{"nothing", p.Operator, client.VerifyRequest{At: after(time.Minute)}, "MISSING", p.created.Seq, false},
		{"one's own key", bound.Token, client.VerifyRequest{Key: token, At: after(time.Minute)}, "VALID", p.created.Seq, true},
		{"another account's key", foreign.Token, client.VerifyRequest{Key: token, At: after(time.Minute)}, "UNKNOWN", p.created.Seq, false},
		{"another account's id", foreign.Token, client.VerifyRequest{KeyID: id, At: after(time.Minute)}, "UNKNOWN", p.created.Seq, false},
		{"1971", p.Operator, client.VerifyRequest{KeyID: id, At: new(time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC))}, "UNKNOWN", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v client.VerifyResult
			p.MustDo(t, 200, servertest.Request{Path: "/v1/verify", Token: tt.caller, Body: tt.ask}, &v)
			if v.Code != tt.code || v.Valid != (tt.code == "VALID") || v.AsOfSeq != tt.asOf || v.Valid != (v.Cause == "") {
				t.Errorf("answer %+v, want %s as of %d", v, tt.code, tt.asOf)
			}
			if tt.named != (v.KeyID == id) || tt.named != (v.Account == "acme") {
				t.Errorf("the answer names %q of %q", v.KeyID, v.Account)
			}
		})
	}
}

func TestVerifyThePastRefusals(t *testing.T) {
	p := mustPast(t)
	id, at := p.created.Key.ID, p.start.UTC().Format(time.RFC3339Nano)
	future := p.start.Add(24 * time.Hour).UTC().Format(time.RFC3339Nano)
	tests := []struct{ name, body, code, pointer string }{
		{"the future", `{"key":"x","at":"` + future + `"}`, "validation_failed", "/at"},
		{"before 1970", `{"key":"x","at":"1969-01-01T00:00:00Z"}`, "validation_failed", "/at"},
		{"no instant", `{"key":"x","at":"yesterday"}`, "validation_failed", "/at"},
		{"null", `{"key":"x","at":null}`, "validation_failed", "/at"},
		{"token and id", `{"key":"x","key_id":"` + id + `","at":"` + at + `"}`, "validation_failed", "/key_id"},
		{"an id alone", `{"key_id":"` + id + `"}`, "validation_failed", "/key_id"},
		{"no id", `{"key_id":"a b","at":"` + at + `"}`, "invalid_id", "/key_id"},
		{"a token as the id", `{"key_id":"` + p.created.Token + `","at":"` + at + `"}`, "invalid_id", "/key_id"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			problem := mustProblem(t, p.Do(t, servertest.Request{Path: "/v1/verify", Token: p.Operator, Body: tt.body}), 400, tt.code)
			if len(problem.Errors) != 1 || problem.Errors[0].Pointer != tt.pointer {
				t.Errorf("errors %+v, want one at %s", problem.Errors, tt.pointer)
			}
		})
	}
	checker := p.MustManagementKey(t, "acme", domain.ScopeVerify)
	ask := client.VerifyRequest{KeyID: id, At: &p.start}
	mustProblem(t, p.Do(t, servertest.Request{Path: "/v1/verify", Token: checker.Token, Body: ask}), 403, "insufficient_scope")
	auditor := p.MustManagementKey(t, "acme", domain.ScopeAuditRead)
	mustProblem(t, p.Do(t, servertest.Request{Path: "/v1/verify", Token: auditor.Token, Body: ask}), 403, "insufficient_scope")
}

// TestVerifyThePastWithAClockAhead makes the log's clock a day early by one event, so
// that whatever follows seems to have happened then: what had ended or changed by its
// own time must not pass.
func TestVerifyThePastWithAClockAhead(t *testing.T) {
	clock := newClock()
	s := servertest.MustStart(t, servertest.Config{Now: clock.now})
	create := func() client.KeyResult {
		t.Helper()
		return s.MustCreateKey(t, client.CreateKeyRequest{Account: "acme", Scopes: []string{"invoices:read"}})
	}
	revoke := func(k client.KeyResult) {
		t.Helper()
		s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + k.Key.ID + "/revoke", Token: s.Operator, Body: `{}`}, nil)
	}
	revoked, rotated, restricted, shortened, kept := create(), create(), create(), create(), create()
	clock.add(24 * time.Hour)
	create()
	clock.add(-23 * time.Hour) // an hour after the first keys
	before := clock.now().Add(-time.Minute)
	late, lateRevoked := create(), create()
	revoke(revoked)
	s.MustDo(t, 201, servertest.Request{Path: "/v1/keys/" + rotated.Key.ID + "/rotate", Token: s.Operator, Body: `{"overlap":"1m"}`}, nil)
	end := clock.now().Add(time.Minute).UTC().Format(time.RFC3339Nano)
	for id, body := range map[string]string{
		restricted.Key.ID: `{"scopes":["payouts:read"]}`, shortened.Key.ID: `{"expires_at":"` + end + `"}`,
	} {
		s.MustDo(t, 200, servertest.Request{Method: http.MethodPatch, Path: "/v1/keys/" + id, Token: s.Operator, Body: body}, nil)
	}
	revoke(lateRevoked)
	clock.add(time.Hour)
	after := clock.now().Add(-time.Minute)
	revoke(kept)
	for _, tt := range []struct {
		name         string
		key          client.KeyResult
		before, then string
	}{
		{"revoked", revoked, "VALID", "REVOKED"},
		{"rotated", rotated, "VALID", "REVOKED"},
		{"a scope was taken", restricted, "VALID", "INSUFFICIENT_SCOPE"},
		{"given an end", shortened, "VALID", "EXPIRED"},
		{"made", late, "UNKNOWN", "VALID"},
		{"made and revoked", lateRevoked, "UNKNOWN", "REVOKED"},
		{"revoked later", kept, "VALID", "VALID"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for at, want := range map[time.Time]string{before: tt.before, after: tt.then} {
				var v client.VerifyResult
				ask := client.VerifyRequest{KeyID: tt.key.Key.ID, At: &at, Scopes: []string{"invoices:read"}}
				s.MustDo(t, 200, servertest.Request{Path: "/v1/verify", Token: s.Operator, Body: ask}, &v)
				if v.Code != want {
					t.Errorf("at %s: %+v, want %s", at, v, want)
				}
			}
		})
	}
}
