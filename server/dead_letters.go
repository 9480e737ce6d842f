package server

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

const (
	pathDeadLetters = "/v1/dead-letters"
	pathDeadLetter  = "/v1/dead-letters/{seq}"
	pathResend      = pathDeadLetter + "/resend"
)

// deadLetterRoutes registers the commands that can never be carried out as they are.
func (s *Server) deadLetterRoutes() {
	const whose = " Management keys with keyledger.operate reach all of their account, keys of the instance those of every account; with keyledger.commands alone, a key reaches what was sent in its own name."
	handle(s, endpointOf(http.MethodGet, pathDeadLetters, "list-dead-letters", tagCommands, "List dead letters", "",
		"Commands that came over NATS and can never be carried out as they are, oldest first, with the reason, and without what they said, which a single one has. They are kept for 90 days."+whose).
		answers(client.DeadLetterPage{DeadLetters: []client.DeadLetter{exampleDeadLetter()}}), s.listDeadLetters)
	handle(s, endpointOf(http.MethodGet, pathDeadLetter, "get-dead-letter", tagCommands, "Get a dead letter", "",
		"What looks like a token was taken out of it."+whose).
		answers(exampleDeadLetter()), s.getDeadLetter)
	handle(s, endpointOf(http.MethodPost, pathResend, "resend-dead-letter", tagCommands, "Send a dead command again", "",
		"It is published on its subject as its producer sent it, with the same id, so that it is carried out once at most; nobody's inbox gets the reply. "+
			"One that something was taken out of cannot be sent again (409)."+whose).
		answers(client.Resent{ID: "ticket-4711", Account: "default", Subject: exampleSubject}), s.resendDeadLetter)
}

type listDeadLettersInput struct {
	Account   string    `query:"account" doc:"Of this account only. Only instance keys may name one; absent, they see all."`
	PageSize  sizeParam `query:"page_size" doc:"At most 1000."`
	PageToken string    `query:"page_token" doc:"The next_page_token of the page before."`
}

type deadLettersOutput struct {
	Body client.DeadLetterPage
}

// mayDeadLetters says whose dead letters a caller may see and send again: to send is
// to have a command carried out in its producer's name.
func mayDeadLetters(ctx context.Context) (eventstore.Senders, error) {
	a := exchangeOf(ctx).authority
	var of eventstore.Senders
	if !a.Instance() {
		of.Account = a.Account
	}
	if a.May(domain.ScopeOperate) == nil {
		return of, nil
	}
	of.Producer = domain.KeyID(a.Actor)
	return of, a.May(domain.ScopeCommands)
}

func (s *Server) listDeadLetters(ctx context.Context, in *listDeadLettersInput) (*deadLettersOutput, error) {
	of, err := mayDeadLetters(ctx)
	if err != nil {
		return nil, err
	}
	switch named := domain.AccountID(in.Account); {
	case named == "" || named == of.Account:
	case of.Account != "":
		_, err := exchangeOf(ctx).authority.ResolveAccount(named)
		return nil, aboutParameters(err)
	case !domain.ValidID(in.Account) || domain.ContainsToken(in.Account):
		return nil, badParameter("invalid_account", "account", "not the form of an account id", "use 1 to 64 letters, digits, '-' and '_'")
	default:
		of.Account = named
	}
	size, err := in.PageSize.read()
	if err != nil {
		return nil, err
	}
	from := uint64(0)
	if in.PageToken != "" {
		if from, err = readPosition(in.PageToken); err != nil {
			return nil, err
		}
	}
	list, next, err := s.cfg.DeadLetters.DeadLetters(ctx, of, from, size)
	if err != nil {
		return nil, err
	}
	for n := range list { // a page of a thousand could take 80 MiB, and as JSON six times that
		list[n].Body = ""
	}
	out := &deadLettersOutput{Body: client.DeadLetterPage{DeadLetters: list}}
	if next > 0 {
		out.Body.NextPageToken = position(next)
	}
	return out, nil
}

// deadSeqParam is the seq of a dead letter in a path.
type deadSeqParam string

// Schema implements huma.SchemaProvider.
func (deadSeqParam) Schema(huma.Registry) *huma.Schema {
	one := 1.0
	return &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &one, Examples: []any{3}}
}

type deadLetterInput struct {
	Seq deadSeqParam `path:"seq"`
}

type deadLetterOutput struct {
	Body client.DeadLetter
}

func (s *Server) getDeadLetter(ctx context.Context, in *deadLetterInput) (*deadLetterOutput, error) {
	letter, err := s.deadLetter(ctx, in)
	if err != nil {
		return nil, err
	}
	return &deadLetterOutput{Body: letter}, nil
}

// deadLetter reads a dead letter that the caller may see; others do not exist.
func (s *Server) deadLetter(ctx context.Context, in *deadLetterInput) (client.DeadLetter, error) {
	of, err := mayDeadLetters(ctx)
	if err != nil {
		return client.DeadLetter{}, err
	}
	seq, err := strconv.ParseUint(string(in.Seq), 10, 63)
	if err != nil || seq == 0 {
		return client.DeadLetter{}, badParameter(domain.CodeValidation, "seq", "not the seq of a dead letter", "use a whole number from 1, as the list shows it")
	}
	letter, err := s.cfg.DeadLetters.DeadLetter(ctx, seq)
	if err != nil {
		return letter, err
	}
	if !of.Include(domain.AccountID(letter.Account), domain.KeyID(letter.Producer)) {
		return client.DeadLetter{}, eventstore.NoDeadLetter()
	}
	return letter, nil
}

type resentOutput struct {
	Body client.Resent
}

func (s *Server) resendDeadLetter(ctx context.Context, in *deadLetterInput) (*resentOutput, error) {
	letter, err := s.deadLetter(ctx, in)
	if err != nil {
		return nil, err
	}
	by := exchangeOf(ctx).authority.Actor
	sent, err := s.cfg.DeadLetters.Resend(ctx, letter.Seq, by)
	if err != nil {
		return nil, err
	}
	s.cfg.Logger.InfoContext(ctx, "dead letter sent again",
		slog.String("by", string(by)), slog.Uint64("dead_seq", letter.Seq), slog.String("command", letter.Command), slog.String("command_id", letter.ID),
		slog.String("account", letter.Account), slog.String("producer", letter.Producer))
	return &resentOutput{Body: sent}, nil
}

const exampleSubject = "keyledger.commands.default.key_9bQwXr3LmZ0vTc7K.create_key"

func exampleDeadLetter() client.DeadLetter {
	return client.DeadLetter{
		Seq: 3, Time: exampleTime(), Account: "default", Producer: "key_9bQwXr3LmZ0vTc7K", Command: string(domain.CommandCreateKey), ID: "ticket-4711",
		Code: "unknown_member", Message: "the request is not valid; /colour: not a member of this request; names are case-sensitive", Fix: "see GET /docs for the members",
		Subject: exampleSubject, SentSeq: 815, Body: `{"specversion":"1.0","id":"ticket-4711","source":"billing","type":"keyledger.command.create_key.v1","data":{"colour":"red"}}`,
		BodyBytes: 121,
	}
}
