package server

import (
	"context"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/wire"
)

// keyOutput is the answer to a command about a key, or a read of one.
type keyOutput struct {
	ETag     string `header:"ETag" doc:"The key's version: the sequence number of its last event."`
	Replayed string `header:"Idempotent-Replayed" doc:"true: the command had been done before; this is its first outcome."`
	Body     client.KeyResult
}

// newKeyOutput is the answer to a command that made a key.
type newKeyOutput struct {
	Location string `header:"Location" doc:"The path of the new key."`
	ETag     string `header:"ETag" doc:"The key's version: the sequence number of its last event."`
	Replayed string `header:"Idempotent-Replayed" doc:"true: the command had been done before; this is its first outcome, without the token."`
	Body     client.KeyResult
}

// request makes what every command comes with.
func (s *Server) request(ctx context.Context, idempotencyKey, ifMatch string) (command.Request, error) {
	match, err := readIfMatch(ifMatch)
	if err != nil {
		return command.Request{}, err
	}
	x := exchangeOf(ctx)
	return command.Request{
		Authority: x.authority, ID: idempotencyKey, IfMatch: match,
		RequestID: x.requestID, TraceParent: wire.TraceParent(x.request.Header.Get("Traceparent")),
	}, nil
}

// target finds the account of the key that a request names; a key that the caller
// may not see does not exist. The verifier knows it, so that neither commands nor
// refusals need the database. A key that it does not know may have been made
// elsewhere just now: before that is said, it comes level with the end of the log.
// It does so for keys that the caller may not see too, so that the time an answer
// takes does not tell which of them exist.
func (s *Server) target(ctx context.Context, t domain.KeyType, p idParam) (command.Target, error) {
	id, err := p.read()
	if err != nil {
		return command.Target{}, err
	}
	x := exchangeOf(ctx)
	x.keyID = id
	account, visible := s.find(x.authority, t, id)
	if !visible {
		if _, err := s.awaitHead(ctx, &s.verifier); err != nil {
			return command.Target{}, err
		}
		if account, visible = s.find(x.authority, t, id); !visible {
			return command.Target{}, domain.KeyNotFound()
		}
	}
	x.account = account
	return command.Target{Account: account, Type: t, ID: id}, nil
}

// find asks the verifier for a key of the given type within the authority's reach.
func (s *Server) find(a domain.Authority, t domain.KeyType, id domain.KeyID) (account domain.AccountID, visible bool) {
	account, keyType, known := s.cfg.Verifier.Find(id)
	return account, known && keyType == t && a.Reaches(account)
}

// done notes what a caller is about to be told of, by a refusal too.
func (s *Server) done(o command.Outcome, err error) (command.Outcome, error) {
	s.acknowledge(o.Seq, err != nil || o.Key.Type == domain.KeyTypeManagement)
	return o, err
}

// answer makes the answer to a command, from its outcome.
func (s *Server) answer(ctx context.Context, o command.Outcome) *keyOutput {
	x := exchangeOf(ctx)
	x.account, x.keyID, x.seq = o.Key.Account, o.Key.ID, o.Seq
	answer := &keyOutput{
		ETag: etag(o.KeySeq),
		Body: client.KeyResult{Key: wire.Key(o.Key, o.KeySeq, s.now()), Seq: o.Seq},
	}
	if !o.Token.IsZero() {
		answer.Body.Token = o.Token.Reveal()
	}
	if o.Replayed {
		answer.Replayed = "true"
	}
	return answer
}

// answerNew is answer for commands that make a key under the given path.
func (s *Server) answerNew(ctx context.Context, path string, o command.Outcome) *newKeyOutput {
	a := s.answer(ctx, o)
	return &newKeyOutput{Location: path + "/" + string(o.Key.ID), ETag: a.ETag, Replayed: a.Replayed, Body: a.Body}
}

// checkOwner refuses a key whose client-made token another key got first: the race
// is decided by the order of the log, and the loser is void everywhere. Until the
// verifier has come so far nobody knows, and the caller is told so.
func (s *Server) checkOwner(ctx context.Context, o command.Outcome) error {
	if err := s.await(ctx, &s.verifier, o.Seq); err != nil {
		return err
	}
	if owner, known := s.cfg.Verifier.Owner(o.Key.Mac); known && owner != o.Key.ID {
		return command.TokenInUse()
	}
	return nil
}
