package main

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/client/natsclient"
)

// TestProducerInGo is natsclient against a node as it is shipped: every command, the
// ways to have a token, refusals, and what its key may not do.
func TestProducerInGo(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	token, id := w.mustProducerKey(t)
	producer := func(account string) (*natsclient.Producer, error) {
		return natsclient.New(t.Context(), natsclient.Config{
			URL: w.address(t).NATSURL, Token: client.StaticToken(token), Account: account, Timeout: within,
		})
	}
	p, err := producer("acme")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	// A check may come before the node's verifier has read what the inbox told.
	mustVerify := func(token client.Token, code, keyID string) {
		t.Helper()
		eventually(t, keyID+" is "+code, func() bool {
			var v client.VerifyResult
			r := w.cli(t, token.Reveal(), "verify", "--output", "json")
			if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
				t.Fatal(err)
			}
			return v.Code == code && v.KeyID == keyID
		})
	}
	create := client.CreateKeyRequest{Name: "POS", Environment: "live", Scopes: []string{"invoices:read"}}

	created, err := p.CreateKey(t.Context(), create)
	if err != nil || created.Key == nil || created.Key.CreatedBy != id || created.Key.Account != "acme" {
		t.Fatalf("%+v, %v", created, err)
	}
	mustVerify(created.Token, "VALID", created.KeyID)
	if out, err := p.CreateKey(t.Context(), create, natsclient.WithID(created.ID), natsclient.WithToken(created.Token)); err != nil || !out.Replayed || out.KeyID != created.KeyID {
		t.Errorf("sent again: %+v, %v", out, err)
	}
	name := "POS, Berlin"
	if out, err := p.UpdateKey(t.Context(), created.KeyID, client.UpdateKeyRequest{Name: &name}); err != nil || out.Key.Name != name {
		t.Errorf("%+v, %v", out, err)
	}
	rotated, err := p.RotateKey(t.Context(), created.KeyID, "live", client.RotateKeyRequest{Overlap: "1h"})
	if err != nil || rotated.Key.RotatedFrom != created.KeyID {
		t.Fatalf("%+v, %v", rotated, err)
	}
	mustVerify(rotated.Token, "VALID", rotated.KeyID)
	mustVerify(created.Token, "VALID", created.KeyID)
	if _, err := p.RevokeKey(t.Context(), created.KeyID, client.RevokeKeyRequest{Reason: "replaced"}); err != nil {
		t.Fatal(err)
	}
	mustVerify(created.Token, "REVOKED", created.KeyID)
	served, err := p.CreateKey(t.Context(), create, natsclient.WithServerToken())
	if err != nil {
		t.Fatal(err)
	}
	mustVerify(served.Token, "VALID", served.KeyID)

	code := func(_ natsclient.Outcome, err error) string {
		if refusal, ok := errors.AsType[*client.Error](err); ok {
			return refusal.Code
		}
		t.Helper()
		t.Errorf("no refusal: %v", err)
		return ""
	}
	for want, got := range map[string]string{
		"key_revoked":          code(p.UpdateKey(t.Context(), created.KeyID, client.UpdateKeyRequest{Name: &name})),
		"idempotency_conflict": code(p.CreateKey(t.Context(), create, natsclient.WithID(created.ID), natsclient.WithServerToken())),
		"token_in_use":         code(p.CreateKey(t.Context(), create, natsclient.WithToken(created.Token))),
		"ceiling_exceeded":     code(p.CreateKey(t.Context(), client.CreateKeyRequest{Name: "POS", Environment: "test", Scopes: create.Scopes})),
		"invalid_id":           code(p.RevokeKey(t.Context(), "no id", client.RevokeKeyRequest{})),
	} {
		if got != want {
			t.Errorf("refused as %q, want %q", got, want)
		}
	}

	other, err := producer("other")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if got := code(other.CreateKey(t.Context(), create)); got != "forbidden" {
		t.Errorf("another account's keys: %q", got)
	}
	w.must(t, "keys", "revoke", id, "--management", "--yes", "--reason", "gone")
	_, err = producer("acme")
	if got := code(natsclient.Outcome{}, err); got != "unauthorized" {
		t.Errorf("a revoked producer: %q", got)
	}
}
