package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
)

// TestIdempotencyStorm sends one command from many clients at once: it is carried
// out once, whatever it is, and its token is shown to one of them. However the
// server ends, a repeat after that gets the same outcome without the token. There
// is no window in which that holds: a repeat finds its command in the log, and
// nothing there grows old (package command has the same test with a clock that is
// a year further).
func TestIdempotencyStorm(t *testing.T) {
	const clients = 64
	program, dataDir := mustBuild(t), filepath.Join(t.TempDir(), "data")
	p := mustServe(t, program, dataDir)
	ctx, over := t.Context(), newTransport(t, clients)
	target, err := p.client(p.operator()).CreateKey(ctx, client.CreateKeyRequest{Name: "old", Environment: "live", FullAccess: true})
	if err != nil {
		t.Fatal(err)
	}
	name := "renamed"
	commands := []struct {
		name  string
		token bool // it shows one
		send  func(context.Context, *client.Client, ...client.CallOption) (client.Outcome, error)
	}{
		{"create", true, func(ctx context.Context, c *client.Client, opts ...client.CallOption) (client.Outcome, error) {
			return c.CreateKey(ctx, client.CreateKeyRequest{Name: "new", Environment: "test", Scopes: []string{"invoices:read"}}, opts...)
		}},
		{"update", false, func(ctx context.Context, c *client.Client, opts ...client.CallOption) (client.Outcome, error) {
			return c.UpdateKey(ctx, target.Key.ID, client.UpdateKeyRequest{Name: &name}, opts...)
		}},
		{"rotate", true, func(ctx context.Context, c *client.Client, opts ...client.CallOption) (client.Outcome, error) {
			return c.RotateKey(ctx, target.Key.ID, client.RotateKeyRequest{Overlap: "1h"}, opts...)
		}},
		{"revoke", false, func(ctx context.Context, c *client.Client, opts ...client.CallOption) (client.Outcome, error) {
			return c.RevokeKey(ctx, target.Key.ID, client.RevokeKeyRequest{Reason: "storm"}, opts...)
		}},
	}
	firsts := make([]client.Outcome, len(commands))
	for n, command := range commands {
		outcomes := make([]client.Outcome, clients)
		var group sync.WaitGroup
		start := make(chan struct{})
		for i := range clients {
			group.Go(func() {
				c := p.clientOver(p.operator(), over)
				<-start
				var err error
				if outcomes[i], err = command.send(ctx, c, client.WithIdempotencyKey("storm")); err != nil {
					t.Errorf("%s, client %d: %v", command.name, i, err)
				}
			})
		}
		close(start)
		group.Wait()
		tokens, did := 0, 0
		for _, o := range outcomes {
			if o.Key.ID != outcomes[0].Key.ID || o.Seq != outcomes[0].Seq || o.Key.Name != outcomes[0].Key.Name {
				t.Errorf("%s: key %s at %d and key %s at %d: two outcomes", command.name, o.Key.ID, o.Seq, outcomes[0].Key.ID, outcomes[0].Seq)
			}
			if o.Token != "" {
				tokens++
				firsts[n].Token = o.Token
			}
			if !o.Replayed {
				did++
			}
		}
		firsts[n].KeyResult = client.KeyResult{Key: outcomes[0].Key, Seq: outcomes[0].Seq, Token: firsts[n].Token}
		if did != 1 || command.token && tokens != 1 || !command.token && tokens != 0 {
			t.Errorf("%s: %d of %d clients were told that they did it, %d were shown a token", command.name, did, clients, tokens)
		}
	}
	history := mustReadLog(t, p.client(p.operator()))
	// The operator, the old key, and the events of four commands, one of which makes two.
	if want := uint64(7); history.Head() != want || len(history.Keys()) != 4 {
		t.Errorf("%d events and %d keys, want %d and 4", history.Head(), len(history.Keys()), want)
	}

	for _, end := range []struct {
		name string
		end  func()
	}{{"kill -9", p.kill}, {"an orderly stop", func() { p.stop() }}} {
		end.end()
		p = mustServe(t, program, dataDir)
		for n, command := range commands {
			again, err := command.send(ctx, p.client(p.operator()), client.WithIdempotencyKey("storm"))
			if err != nil {
				t.Fatalf("%s after %s: %v", command.name, end.name, err)
			}
			if again.Key.ID != firsts[n].Key.ID || again.Seq != firsts[n].Seq || again.Token != "" || !again.Replayed {
				t.Errorf("%s after %s: key %s at %d, replayed %t, token shown %t; want %s at %d without a token",
					command.name, end.name, again.Key.ID, again.Seq, again.Replayed, again.Token != "", firsts[n].Key.ID, firsts[n].Seq)
			}
		}
		if head := mustReadLog(t, p.client(p.operator())).Head(); head != history.Head() {
			t.Errorf("repeats after %s appended %d events", end.name, head-history.Head())
		}
		// The token that was shown once works on, though nobody was shown it again.
		result, err := p.client(p.operator()).Verify(ctx, client.VerifyRequest{Key: firsts[0].Token})
		if err != nil || !result.Valid || result.KeyID != firsts[0].Key.ID {
			t.Errorf("the token of the created key after %s: %s %v", end.name, result.Code, err)
		}
	}
	conflict, err := p.client(p.operator()).CreateKey(ctx, client.CreateKeyRequest{Name: "other", Environment: "test", FullAccess: true}, client.WithIdempotencyKey("storm"))
	mustRefuseWith(t, err, 409, domain.CodeIdempotencyConflict, fmt.Sprintf("a create with other content became %s", conflict.Key.ID))
}
