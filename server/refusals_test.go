package server_test

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// waits notes the highest seq that was waited for.
type waits struct{ highest atomic.Uint64 }

func (w *waits) note(seq uint64) {
	for {
		before := w.highest.Load()
		if seq <= before || w.highest.CompareAndSwap(before, seq) {
			return
		}
	}
}

type waitingTables struct {
	server.Applier
	waits
}

func (w *waitingTables) WaitFor(ctx context.Context, seq uint64) error {
	w.note(seq)
	return w.Applier.WaitFor(ctx, seq)
}

type waitingVerifier struct {
	server.Verifier
	waits
}

func (w *waitingVerifier) WaitFor(ctx context.Context, seq uint64) error {
	w.note(seq)
	return w.Verifier.WaitFor(ctx, seq)
}

// TestReadsShowWhatRefusalsRestOn has a command refused for what another node wrote.
// Whoever reads next must see why: the reads wait for that event.
func TestReadsShowWhatRefusalsRestOn(t *testing.T) {
	var tables waitingTables
	var verifier waitingVerifier
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
		tables.Applier, verifier.Verifier = c.Tables, c.Verifier
		c.Tables, c.Verifier = &tables, &verifier
	}})
	elsewhere := command.Request{Authority: domain.Authority{
		Actor: "key_elsewhere", Account: domain.RootAccount, Scopes: domain.Scopes{domain.ScopeKeysWrite},
		Grants: domain.Grants{Environments: []domain.Environment{domain.EnvironmentLive, domain.EnvironmentTest}, Scopes: domain.Scopes{domain.FullAccess}},
	}}
	tests := []struct {
		name   string
		change func(command.Target) (command.Outcome, error) // done elsewhere
		path   string                                        // behind the key's
		method string
		body   string
		status int
		code   string
		shows  func(client.Key) bool
		verify string
	}{
		{
			"412 for a version that is past",
			func(target command.Target) (command.Outcome, error) {
				return s.Commands.UpdateKey(t.Context(), elsewhere, target, command.KeyChanges{Name: new("elsewhere")})
			},
			"", http.MethodPatch, `{"description":"here"}`, http.StatusPreconditionFailed, "version_mismatch",
			func(k client.Key) bool { return k.Name == "elsewhere" }, "VALID",
		},
		{
			"409 for a key that is revoked",
			func(target command.Target) (command.Outcome, error) {
				return s.Commands.RevokeKey(t.Context(), elsewhere, target, "elsewhere")
			},
			"/rotate", http.MethodPost, `{}`, http.StatusConflict, "key_revoked",
			func(k client.Key) bool { return k.Status == "revoked" && k.RevokeReason == "elsewhere" }, "REVOKED",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			made := s.MustCreateKey(t, client.CreateKeyRequest{})
			path := "/v1/keys/" + made.Key.ID
			s.MustDo(t, 200, servertest.Request{Path: path, Token: s.Operator}, nil)
			done, err := tt.change(command.Target{Account: domain.AccountID(made.Key.Account), Type: domain.KeyTypeAPI, ID: domain.KeyID(made.Key.ID)})
			if err != nil {
				t.Fatal(err)
			}
			if tables.highest.Load() >= done.Seq || verifier.highest.Load() >= done.Seq {
				t.Fatal("the server knew of the change before its refusal")
			}
			r := servertest.Request{Method: tt.method, Path: path + tt.path, Token: s.Operator, Body: tt.body}
			if tt.status == http.StatusPreconditionFailed {
				r.Header = map[string]string{"If-Match": `"` + strconv.FormatUint(made.Key.Seq, 10) + `"`}
			}
			mustProblem(t, s.Do(t, r), tt.status, tt.code)

			var read client.KeyResult
			s.MustDo(t, 200, servertest.Request{Path: path, Token: s.Operator}, &read)
			if !tt.shows(read.Key) || tables.highest.Load() < done.Seq {
				t.Errorf("after the refusal the key reads %+v, having waited for %d, want %d", read.Key, tables.highest.Load(), done.Seq)
			}
			if v := mustVerify(t, s, client.VerifyRequest{Key: made.Token}); v.Code != tt.verify || verifier.highest.Load() < done.Seq {
				t.Errorf("after the refusal the key is %s, having waited for %d, want %d", v.Code, verifier.highest.Load(), done.Seq)
			}
		})
	}
}
