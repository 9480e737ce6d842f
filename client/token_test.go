package client_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
)

func TestNewToken(t *testing.T) {
	for _, tt := range []struct {
		spec   client.TokenSpec
		prefix string // "": refused
	}{
		{client.TokenSpec{Environment: "live"}, "sk_live_"},
		{client.TokenSpec{Environment: "test"}, "sk_test_"},
		{client.TokenSpec{Environment: "live", Brand: "acme"}, "acme_sk_live_"},
		{client.TokenSpec{}, ""},
		{client.TokenSpec{Environment: "Live"}, ""},
		{client.TokenSpec{Environment: "live", Brand: "Acme!"}, ""},
	} {
		token, err := client.NewToken(tt.spec)
		if tt.prefix == "" {
			if err == nil {
				t.Errorf("%+v: accepted", tt.spec)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", tt.spec, err)
			continue
		}
		format, err := domain.NewTokenFormat(tt.spec.Brand)
		if err != nil {
			t.Fatal(err)
		}
		text := token.Reveal()
		if !strings.HasPrefix(text, tt.prefix) || !format.Matches(text) {
			t.Errorf("%+v: not a token of this form", tt.spec)
		}
		sum := sha256.Sum256([]byte(text))
		if token.SHA256() != hex.EncodeToString(sum[:]) || client.TokenOf(text) != token {
			t.Errorf("%+v: another hash", tt.spec)
		}
	}
	if (client.Token{}).SHA256() != "" {
		t.Error("the hash of no token")
	}
}

func TestTokenDoesNotShow(t *testing.T) {
	token, err := client.NewToken(client.TokenSpec{Environment: "live"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+"\n", token, struct{ T client.Token }{token})
	}
	slog.New(slog.NewJSONHandler(&out, nil)).InfoContext(t.Context(), "token", slog.Any("token", token))
	if err := json.NewEncoder(&out).Encode(map[string]any{"t": token}); err != nil {
		t.Fatal(err)
	}
	secret := token.Reveal()[8:]
	if strings.Contains(out.String(), secret) || strings.Contains(out.String(), hex.EncodeToString([]byte(secret))) {
		t.Error("the token shows")
	}
}

// A caller learns under which id its command was sent, whatever came back.
func TestCommandIDIsTold(t *testing.T) {
	status := http.StatusCreated
	var seen string
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get(client.HeaderIdempotencyKey)
		writeJSON(t, w, status, client.KeyResult{})
	})
	out, err := c.CreateKey(t.Context(), client.CreateKeyRequest{})
	if err != nil || out.CommandID == "" || out.CommandID != seen {
		t.Errorf("sent under %q, told %q, %v", seen, out.CommandID, err)
	}
	id := client.NewCommandID()
	status = http.StatusServiceUnavailable
	out, err = c.RevokeKey(t.Context(), "key_x", client.RevokeKeyRequest{}, client.WithIdempotencyKey(id))
	if err == nil || out.CommandID != id || seen != id || !domain.ValidID(id) {
		t.Errorf("sent under %q, told %q, want %q, %v", seen, out.CommandID, id, err)
	}
}
