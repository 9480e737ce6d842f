package server_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/server/servertest"
)

// TestWalk is the product page's walk over HTTP.
func TestWalk(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})

	var created client.KeyResult
	answer := s.MustDo(t, http.StatusCreated, servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: client.CreateKeyRequest{
		Name: "Production Server", Environment: "live", Scopes: []string{"payouts:read", "invoices:read"},
		ExpiresOn: new("2099-12-31"), Description: "the main one", Metadata: map[string]string{"team": "billing"},
		AllowedIPs: []string{"203.0.113.0/24"},
	}}, &created)
	k := created.Key
	if !strings.HasPrefix(created.Token, "sk_live_"+strings.TrimPrefix(k.ID, "key_")) {
		t.Error("the token does not carry the key's id behind sk_live_")
	}
	if got, want := answer.Header.Get("Location"), "/v1/keys/"+k.ID; got != want {
		t.Errorf("Location %q, want %q", got, want)
	}
	if got, want := answer.Header.Get("ETag"), `"`+strconv.FormatUint(k.Seq, 10)+`"`; got != want {
		t.Errorf("ETag %s, want %s", got, want)
	}
	if got := answer.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	if k.Status != "active" || k.FullAccess || k.Expiring || k.ExpiresAt == nil || !k.ExpiresAt.Equal(time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("the key is %+v", k)
	}

	// Shown once: the token is in no later answer.
	for _, path := range []string{"/v1/keys", "/v1/keys/" + k.ID, "/v1/keys/" + k.ID + "/events", "/v1/events"} {
		if a := s.MustDo(t, 200, servertest.Request{Path: path, Token: s.Operator}, nil); strings.Contains(string(a.Body), created.Token[25:57]) {
			t.Errorf("%s shows the secret again", path)
		}
	}
	var got client.KeyResult
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + k.ID, Token: s.Operator}, &got)
	if want, have := mustJSON(t, k), mustJSON(t, got.Key); want != have {
		t.Errorf("created as %s\nread as    %s", want, have)
	}

	ask := client.VerifyRequest{Key: created.Token, Scopes: []string{"invoices:read"}, Environment: "live", IP: "203.0.113.9"}
	if v := mustVerify(t, s, ask); !v.Valid || v.Code != "VALID" || v.KeyID != k.ID || v.Cause != "" || v.AsOfSeq < created.Seq {
		t.Errorf("verify: %+v", v)
	}

	var updated client.KeyResult
	s.MustDo(t, 200, servertest.Request{Method: http.MethodPatch, Path: "/v1/keys/" + k.ID, Token: s.Operator,
		Body: `{"name":"POS Integration","expires_at":null,"scopes":["clients:*"],"allowed_ips":[],"metadata":{}}`}, &updated)
	if u := updated.Key; u.Name != "POS Integration" || u.ExpiresAt != nil || u.Scopes[0] != "clients:*" || len(u.AllowedIPs) != 0 || len(u.Metadata) != 0 || u.Seq <= k.Seq || u.UpdatedAt == nil {
		t.Errorf("updated: %+v", u)
	}

	var rotated client.KeyResult
	s.MustDo(t, 201, servertest.Request{Path: "/v1/keys/" + k.ID + "/rotate", Token: s.Operator, Body: `{"overlap":"1h"}`}, &rotated)
	if r := rotated.Key; r.RotatedFrom != k.ID || r.Name != "POS Integration" || rotated.Token == "" || rotated.Token == created.Token {
		t.Errorf("rotated: %+v", r)
	}
	for _, token := range []string{created.Token, rotated.Token} {
		if v := mustVerify(t, s, client.VerifyRequest{Key: token}); !v.Valid {
			t.Errorf("in the overlap, a token is %s", v.Code)
		}
	}

	var revoked client.KeyResult
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + k.ID + "/revoke", Token: s.Operator, Body: `{"reason":"laptop lost"}`}, &revoked)
	if r := revoked.Key; r.Status != "revoked" || r.RevokeReason != "laptop lost" || r.RevokedAt == nil || r.ReplacedBy != rotated.Key.ID {
		t.Errorf("revoked: %+v", r)
	}
	if v := mustVerify(t, s, client.VerifyRequest{Key: created.Token}); v.Valid || v.Code != "REVOKED" || v.Cause == "" || v.Solution == "" {
		t.Errorf("after the revocation: %+v", v)
	}
	again := s.MustDo(t, 200, servertest.Request{Method: http.MethodPost, Path: "/v1/keys/" + k.ID + "/revoke", Token: s.Operator}, nil)
	if again.Header.Get("ETag") != `"`+strconv.FormatUint(revoked.Key.Seq, 10)+`"` {
		t.Error("revoking again changed the key")
	}

	var page client.KeyPage
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys?status=revoked&q=pos", Token: s.Operator}, &page)
	if len(page.Keys) != 1 || page.Keys[0].ID != k.ID || page.NextPageToken != "" {
		t.Errorf("list of revoked keys: %+v", page)
	}
	var scopes client.ScopeList
	s.MustDo(t, 200, servertest.Request{Path: "/v1/scopes", Token: s.Operator}, &scopes)
	if len(scopes.Scopes) != domain.DefaultCatalogue().Len() || len(scopes.ManagementScopes) == 0 || scopes.Scopes[0].Description == "" {
		t.Errorf("scopes: %+v", scopes)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
