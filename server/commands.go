package server

import (
	"context"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
)

// keyOutput is the answer to a command about a key, or a read of one.
type keyOutput struct {
	ETag     string `header:"ETag" doc:"The key's version: the sequence number of its last event."`
	Replayed string `header:"Idempotent-Replayed" doc:"true: the command had been done before; this is its first outcome."`
	Lag      string `header:"Keyledger-Lag" doc:"true: the command is done, but not all readers here show it yet."`
	Body     client.KeyResult
}

// newKeyOutput is the answer to a command that made a key.
type newKeyOutput struct {
	Location string `header:"Location" doc:"The path of the new key."`
	ETag     string `header:"ETag" doc:"The key's version: the sequence number of its last event."`
	Replayed string `header:"Idempotent-Replayed" doc:"true: the command had been done before; this is its first outcome, without the token."`
	Lag      string `header:"Keyledger-Lag" doc:"true: the command is done, but not all readers here show it yet."`
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
		RequestID: x.requestID, TraceParent: traceParent(x.request.Header.Get("Traceparent")),
	}, nil
}

// target finds the account of the key that a command names. Callers of one account
// reach no other, and the log says whether they have such a key; for callers of
// the instance, the key table knows whose it is.
func (s *Server) target(ctx context.Context, t domain.KeyType, p idParam) (command.Target, error) {
	id, err := p.read()
	if err != nil {
		return command.Target{}, err
	}
	x := exchangeOf(ctx)
	x.keyID = id
	if !x.authority.Instance() {
		return command.Target{Account: x.authority.Account, Type: t, ID: id}, nil
	}
	record, err := s.findKey(ctx, t, p)
	if err != nil {
		return command.Target{}, err
	}
	return command.Target{Account: record.Account, Type: t, ID: id}, nil
}

// settle waits for a command's effect and makes the answer, from the outcome and
// not from the tables.
func (s *Server) settle(ctx context.Context, o command.Outcome) (answer keyOutput, settled bool) {
	x := exchangeOf(ctx)
	x.account, x.keyID, x.seq = o.Key.Account, o.Key.ID, o.Seq
	settled = s.await(ctx, o.Seq)
	answer = keyOutput{
		ETag: etag(o.KeySeq),
		Body: client.KeyResult{Key: wireKey(o.Key, o.KeySeq, s.now()), Seq: o.Seq},
	}
	if !o.Token.IsZero() {
		answer.Body.Token = o.Token.Reveal()
	}
	if o.Replayed {
		answer.Replayed = "true"
	}
	if !settled {
		answer.Lag = "true"
	}
	return answer, settled
}

// settleNew is settle for commands that make a key under the given path.
func (s *Server) settleNew(ctx context.Context, path string, o command.Outcome) (answer *newKeyOutput, settled bool) {
	a, settled := s.settle(ctx, o)
	return &newKeyOutput{
		Location: path + "/" + string(o.Key.ID), ETag: a.ETag, Replayed: a.Replayed, Lag: a.Lag, Body: a.Body,
	}, settled
}

// checkOwner refuses a key whose client-made token another key got first: the race
// is decided by the order of the log, and the loser is void everywhere.
func (s *Server) checkOwner(k domain.Key) error {
	if owner, known := s.cfg.Verifier.Owner(k.Mac); known && owner != k.ID {
		return command.TokenInUse()
	}
	return nil
}
