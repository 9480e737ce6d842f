package server

import (
	"context"
	"net/http"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
)

const pathCommand = "/v1/commands/{id}"

// commandRoutes registers what became of commands.
func (s *Server) commandRoutes() {
	handle(s, endpointOf(http.MethodGet, pathCommand, "get-command", tagCommands, "Say what became of a command", "",
		"Of a command that came over NATS, for 7 days: what it led to, or why it was not carried out. "+
			"Of any command that changed something, for ever: from the audit log, by its id. "+
			"One that still waits, or that changed nothing over HTTP, is not found. "+
			"Takes a management key with keyledger.commands or keyledger.audit:read.").
		answers(exampleOutcome()), s.getCommand)
	s.deadLetterRoutes()
}

// getCommandInput is what is asked of a command.
type getCommandInput struct {
	ID      commandIDParam `path:"id"`
	Account string         `query:"account" doc:"The account that the command was about. Absent: the caller's own, or default for instance keys."`
}

type getCommandOutput struct {
	Body client.CommandOutcome
}

func (s *Server) getCommand(ctx context.Context, in *getCommandInput) (*getCommandOutput, error) {
	a := exchangeOf(ctx).authority
	if a.May(domain.ScopeCommands) != nil && a.May(domain.ScopeAuditRead) != nil {
		return nil, missingScope(domain.ScopeCommands)
	}
	id, err := in.ID.read()
	if err != nil {
		return nil, err
	}
	account, err := a.ResolveAccount(domain.AccountID(in.Account))
	if err == nil {
		account, err = domain.ParseAccountID(string(account))
	}
	if err != nil {
		return nil, aboutParameters(err)
	}
	var outcome client.CommandOutcome
	outcome, err = s.cfg.Outcomes.Outcome(ctx, account, id)
	if domain.KindOf(err) == domain.KindNotFound || domain.CodeOf(err) == "invalid_id" {
		var found bool
		if outcome, found, err = s.auditedOutcome(ctx, account, id); err == nil && !found {
			err = eventstore.NoOutcome()
		}
	}
	if err != nil {
		return nil, err
	}
	return &getCommandOutput{Body: outcome}, nil
}

// auditedOutcome looks for what a command did in the audit log.
func (s *Server) auditedOutcome(ctx context.Context, account domain.AccountID, id string) (o client.CommandOutcome, found bool, err error) {
	if err := s.await(ctx, &s.tables, 0); err != nil {
		return o, false, err
	}
	release, err := s.reads.acquire(ctx, exchangeOf(ctx).authority.Actor, false)
	if err != nil {
		return o, false, err
	}
	defer release()
	q := projections.AuditQuery{Account: account, CommandID: id, PageSize: 1}
	for {
		page, err := s.cfg.Audit.Audit(ctx, q)
		if err != nil {
			return o, false, fromTables(err)
		}
		if len(page.Entries) > 0 {
			e := page.Entries[0]
			at := e.Time.UTC().Truncate(time.Microsecond)
			return client.CommandOutcome{
				ID: id, Command: string(e.Command), Outcome: client.OutcomeDone, KeyID: e.Subject, Seq: e.Seq, Producer: string(e.Actor), Time: &at,
			}, true, nil
		}
		if q.Page = page.Next; q.Page == "" {
			return o, false, nil
		}
	}
}

func exampleOutcome() client.CommandOutcome {
	at := exampleTime()
	return client.CommandOutcome{
		ID: "ticket-4711", Command: string(domain.CommandRevokeKey), Outcome: client.OutcomeDone,
		KeyID: exampleID, Seq: 57, Producer: "key_9bQwXr3LmZ0vTc7K", Time: &at,
	}
}
