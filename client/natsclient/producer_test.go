package natsclient_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/client/natsclient"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

func create() client.CreateKeyRequest {
	return client.CreateKeyRequest{Name: "Production Server", Environment: "live", Scopes: []string{"invoices:read"}}
}

func told(keyID string) (client.CommandOutcome, *client.CommandReply) {
	return done(keyID), &client.CommandReply{Key: &client.Key{ID: keyID, Name: "Production Server"}}
}

func TestCommandsAreSentAsDocumented(t *testing.T) {
	n := mustNode(t)
	n.answer(func(sent) (client.CommandOutcome, *client.CommandReply) { return told("key_a") })
	p := n.mustProducer("")
	name := "new name"
	created, err := p.CreateKey(t.Context(), create())
	if err != nil || created.Key == nil || created.Key.ID != "key_a" || created.Seq != 7 || !strings.HasPrefix(created.Token.Reveal(), "sk_live_") {
		t.Fatalf("created %+v, %v", created, err)
	}
	if _, err := p.UpdateKey(t.Context(), "key_a", client.UpdateKeyRequest{Name: &name, ExpiresOn: client.Null[string]()}); err != nil {
		t.Fatal(err)
	}
	rotated, err := p.RotateKey(t.Context(), "key_a", "test", client.RotateKeyRequest{Overlap: "24h"}, natsclient.WithServerToken())
	if err != nil || !rotated.Token.IsZero() {
		t.Fatalf("rotated %+v, %v", rotated, err)
	}
	if _, err := p.RevokeKey(t.Context(), "key_a", client.RevokeKeyRequest{Reason: "lost"}, natsclient.WithID("order-1")); err != nil {
		t.Fatal(err)
	}
	want := []struct{ command, data string }{
		{"create_key", fmt.Sprintf(`{"environment":"live","name":"Production Server","scopes":["invoices:read"],"token_sha256":%q}`, created.Token.SHA256())},
		{"update_key", `{"expires_on":null,"key_id":"key_a","name":"new name"}`},
		{"rotate_key", `{"key_id":"key_a","overlap":"24h"}`},
		{"revoke_key", `{"key_id":"key_a","reason":"lost"}`},
	}
	seen := n.commands()
	if len(seen) != len(want) {
		t.Fatalf("%d commands, want %d", len(seen), len(want))
	}
	ids := map[string]bool{}
	for i, s := range seen {
		data, err := json.Marshal(s.event.Data)
		if err != nil {
			t.Fatal(err)
		}
		if s.subject != "keyledger.commands.default."+n.keyID+"."+want[i].command || string(data) != want[i].data ||
			s.event.Type != "keyledger.command."+want[i].command+".v1" || s.event.SpecVersion != "1.0" || s.event.Source == "" {
			t.Errorf("%+v, data %s", s, data)
		}
		if err := eventstore.CheckReply(s.reply, domain.KeyID(n.keyID)); err != nil {
			t.Errorf("the reply goes to %s: %v", s.reply, err)
		}
		ids[s.event.ID] = true
	}
	if len(ids) != len(want) || !ids["order-1"] || !ids[created.ID] {
		t.Errorf("ids %v", ids)
	}
}

func TestServerTokenIsTold(t *testing.T) {
	n := mustNode(t)
	token, err := client.NewToken(client.TokenSpec{Environment: "live"})
	if err != nil {
		t.Fatal(err)
	}
	n.answer(func(sent) (client.CommandOutcome, *client.CommandReply) {
		o, r := told("key_a")
		r.Token = token.Reveal()
		return o, r
	})
	out, err := n.mustProducer("").CreateKey(t.Context(), create(), natsclient.WithServerToken())
	if err != nil || out.Token != token {
		t.Errorf("%+v, %v", out, err)
	}
	if hash, given := n.commands()[0].event.Data["token_sha256"]; given {
		t.Errorf("a hash was sent: %v", hash)
	}
	text, err := json.Marshal(out)
	if err != nil || bytes.Contains(text, []byte(token.Reveal())) || strings.Contains(fmt.Sprintf("%+v", out), token.Reveal()) {
		t.Error("the token shows")
	}
}

func TestLostReply(t *testing.T) {
	n := mustNode(t)
	n.answer(func(sent) (client.CommandOutcome, *client.CommandReply) { return done("key_a"), nil })
	out, err := n.mustProducer("").CreateKey(t.Context(), create())
	if err != nil || out.KeyID != "key_a" || out.Key != nil || out.Token.IsZero() {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestRefusals(t *testing.T) {
	n := mustNode(t)
	outcome := client.CommandOutcome{Outcome: client.OutcomeRefused, Code: "key_revoked", Message: "the key is revoked", Fix: "create one"}
	n.answer(func(sent) (client.CommandOutcome, *client.CommandReply) { return outcome, &client.CommandReply{} })
	p := n.mustProducer("")
	for _, what := range []string{client.OutcomeRefused, client.OutcomeDead} {
		outcome.Outcome = what
		out, err := p.RevokeKey(t.Context(), "key_a", client.RevokeKeyRequest{})
		refusal, ok := errors.AsType[*client.Error](err)
		if !ok || refusal.Code != "key_revoked" || refusal.Fix != "create one" || out.Outcome != what {
			t.Errorf("%s: %+v, %v", what, out, err)
		}
		if later, err := p.Outcome(t.Context(), out.ID); err == nil || later.Code != "key_revoked" {
			t.Errorf("%s, asked later: %+v, %v", what, later, err)
		}
	}
}

// A refusal is decided anew when the command is sent again; the old one is no answer.
func TestRefusalIsNotRemembered(t *testing.T) {
	n := mustNode(t)
	const id = "order-1"
	n.put(client.CommandOutcome{ID: id, Outcome: client.OutcomeRefused, Code: "old"})
	n.put(client.CommandOutcome{ID: "order-2", Outcome: client.OutcomeRefused, Code: "another's", Producer: "key_other"})
	hold := make(chan struct{})
	n.answer(func(sent) (client.CommandOutcome, *client.CommandReply) {
		<-hold
		return done("key_a"), nil
	})
	p := n.mustProducer("")
	got := make(chan error, 1)
	go func() {
		_, err := p.RevokeKey(t.Context(), "key_a", client.RevokeKeyRequest{}, natsclient.WithID(id))
		got <- err
	}()
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if out, err := p.Outcome(short, "order-2"); err == nil || out.Code != "" {
		t.Errorf("another producer's outcome is taken for one's own: %+v, %v", out, err)
	}
	select {
	case err := <-got:
		t.Errorf("an answer before there was one: %v", err)
	case <-time.After(3 * time.Second): // longer than it takes to ask for what is stored
	}
	close(hold)
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestOutcomeLater(t *testing.T) {
	n := mustNode(t)
	p := n.mustProducer("", func(c *natsclient.Config) { c.Timeout = 200 * time.Millisecond })
	out, err := p.CreateKey(t.Context(), create())
	pending, ok := errors.AsType[*natsclient.PendingError](err)
	if !ok || !pending.Durable || pending.ID != out.ID || out.Token.IsZero() || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%+v, %v", out, err)
	}
	sent, err := p.SendCreateKey(t.Context(), create())
	if err != nil || sent.ID == "" || sent.Token.IsZero() {
		t.Fatalf("%+v, %v", sent, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	got := make(chan error, 1)
	go func() {
		late, err := p.Outcome(ctx, sent.ID)
		if err == nil && late.KeyID != "key_b" {
			err = fmt.Errorf("%+v", late)
		}
		got <- err
	}()
	for id, key := range map[string]string{out.ID: "key_a", sent.ID: "key_b"} {
		o := done(key)
		o.ID = id
		n.put(o)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	if late, err := p.Outcome(ctx, out.ID); err != nil || late.KeyID != "key_a" {
		t.Errorf("%+v, %v", late, err)
	}
}

// While there is no connection nothing is kept to be sent later: a call that gave up
// leaves nothing behind, and one that waits sends its command once it can.
func TestCutOff(t *testing.T) {
	n := mustNode(t)
	n.answer(func(sent) (client.CommandOutcome, *client.CommandReply) { return told("key_a") })
	proxy := eventstoretest.MustProxy(t, strings.TrimPrefix(n.server.ClientURL(), "nats://"))
	var logged bytes.Buffer
	p := n.mustProducer("nats://"+proxy.Addr(), func(c *natsclient.Config) {
		c.Options = []nats.Option{nats.ReconnectWait(10 * time.Millisecond)}
		c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	})
	proxy.Hold()
	proxy.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := p.RevokeKey(ctx, "key_gave_up", client.RevokeKeyRequest{})
	if pending, ok := errors.AsType[*natsclient.PendingError](err); !ok || pending.Durable {
		t.Fatalf("%v", err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := p.RevokeKey(t.Context(), "key_waits", client.RevokeKeyRequest{})
		got <- err
	}()
	proxy.Release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	for _, s := range n.commands() {
		if s.event.Data["key_id"] != "key_waits" {
			t.Errorf("%v was sent by itself", s.event.Data)
		}
	}
	if strings.Contains(logged.String(), n.token) {
		t.Error("the token is in the log")
	}
}

func TestCloseEndsCalls(t *testing.T) {
	n := mustNode(t)
	p := n.mustProducer("")
	got := make(chan error, 1)
	go func() {
		_, err := p.RevokeKey(t.Context(), "key_a", client.RevokeKeyRequest{})
		got <- err
	}()
	stream, err := n.log.JetStream().Stream(t.Context(), string(eventstore.SideCommands))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command is stored", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs == 1
	})
	p.Close()
	p.Close()
	if _, ok := errors.AsType[*natsclient.PendingError](<-got); !ok {
		t.Error("the call did not say that its outcome is not known")
	}
	if _, err := p.SendRevokeKey(t.Context(), "key_a", client.RevokeKeyRequest{}); err == nil {
		t.Error("a closed producer sends")
	}
}

func TestMisuseIsRefusedHere(t *testing.T) {
	n := mustNode(t)
	p := n.mustProducer("")
	token, err := client.NewToken(client.TokenSpec{Environment: "live"})
	if err != nil {
		t.Fatal(err)
	}
	hashed := create()
	hashed.TokenSHA256 = strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		req  client.CreateKeyRequest
		opts []natsclient.Option
	}{
		"an id and no token":       {create(), []natsclient.Option{natsclient.WithID("order-1")}},
		"a wildcard for an id":     {create(), []natsclient.Option{natsclient.WithID("*"), natsclient.WithToken(token)}},
		"a token for an id":        {create(), []natsclient.Option{natsclient.WithID(token.Reveal()), natsclient.WithToken(token)}},
		"two tokens":               {create(), []natsclient.Option{natsclient.WithToken(token), natsclient.WithServerToken()}},
		"another token's hash":     {hashed, []natsclient.Option{natsclient.WithToken(token)}},
		"an environment of no one": {client.CreateKeyRequest{Name: "x"}, nil},
	} {
		if _, err := p.SendCreateKey(t.Context(), c.req, c.opts...); err == nil || strings.Contains(err.Error(), token.Reveal()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, cfg := range map[string]natsclient.Config{
		"nothing":        {},
		"no key id":      {Conn: n.conn},
		"an api key":     {URL: n.server.ClientURL(), Token: client.StaticToken(token.Reveal())},
		"a bad account":  {Conn: n.conn, KeyID: n.keyID, Account: "a.b"},
		"another's word": {URL: n.server.ClientURL(), KeyID: n.keyID, Token: client.StaticToken("wrong")},
	} {
		if p, err := natsclient.New(t.Context(), cfg); err == nil {
			p.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	if len(n.commands()) > 0 {
		t.Error("something was sent")
	}
}
