package server

import (
	"context"
	"iter"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/verify"
)

// Issuer carries out the commands that make keys.
type Issuer interface {
	CreateKey(context.Context, command.Request, command.NewKey) (command.Outcome, error)
	RotateKey(context.Context, command.Request, command.Target, command.Rotation) (command.Outcome, error)
}

// Changer carries out the commands that change keys.
type Changer interface {
	UpdateKey(context.Context, command.Request, command.Target, command.KeyChanges) (command.Outcome, error)
	RevokeKey(context.Context, command.Request, command.Target, string) (command.Outcome, error)
}

// Commands carries out commands; *command.Handler does.
type Commands interface {
	Issuer
	Changer
}

// KeyReader reads the key table; the read stores of projections do.
type KeyReader interface {
	Keys(context.Context, projections.KeyQuery) (projections.KeyPage, error)
	Key(ctx context.Context, id domain.KeyID, at *projections.Moment) (projections.KeyRecord, error)
	CountKeys(context.Context, projections.KeyQuery) (projections.Count, error)
}

// UsageReader reads how often keys were used; the read stores of projections do.
type UsageReader interface {
	DailyUse(ctx context.Context, id domain.KeyID, from, to projections.Day) ([]projections.DayUse, error)
}

// AuditReader reads the audit log, and what of it belongs to a time; the read stores
// of projections do.
type AuditReader interface {
	Audit(context.Context, projections.AuditQuery) (projections.AuditPage, error)
	Moment(context.Context, projections.At) (projections.Moment, error)
}

// Projections is what keeps the tables up to date; *projections.Projector is it.
type Projections interface {
	Status() projections.Status
	Rebuild(context.Context) error
	Check(context.Context, func(projections.Difference) error) (projections.CheckResult, error)
}

// Describer describes the tables; the read stores of projections do.
type Describer interface {
	Info(context.Context) (projections.Info, error)
}

// Checker checks tokens.
type Checker interface {
	// Verify checks a customer's key.
	Verify(token string, r verify.Requirement) verify.Result
	// Authenticate checks a management key.
	Authenticate(token string) (domain.Authority, verify.Result)
	// Identify finds a customer's key by its token.
	Identify(token string) (domain.KeyID, domain.AccountID, verify.Code)
}

// Directory says whose keys are.
type Directory interface {
	// Owner returns the key that holds a mac.
	Owner(domain.Mac) (domain.KeyID, bool)
	// Find returns the account and the type of a key.
	Find(domain.KeyID) (domain.AccountID, domain.KeyType, bool)
}

// Verifier is the memory of all keys; *verify.Verifier is it.
type Verifier interface {
	Checker
	Directory
	Applier
}

// Applier is something made from the log that answers are read from: the verifier
// and the projector are.
type Applier interface {
	// WaitFor returns nil once the event with this seq has taken effect, or the
	// error of the context. Where it is known that this will take longer, the error
	// is of domain.KindUnavailable and comes at once.
	WaitFor(ctx context.Context, seq uint64) error
}

// History reads the event log; *eventstore.Log does.
type History interface {
	Replay(context.Context, eventstore.Filter) iter.Seq2[eventstore.Event, error]
	Follow(context.Context, eventstore.Filter) iter.Seq2[eventstore.Event, error]
	// Head returns the last seq, from the log's leader.
	Head(context.Context) (uint64, error)
}

// Outcomes knows what became of commands that came over NATS; intake.Records does.
type Outcomes interface {
	// Outcome returns a KindNotFound error where nothing is known.
	Outcome(ctx context.Context, account domain.AccountID, id string) (client.CommandOutcome, error)
}

// DeadLetters keeps commands that can never be carried out; intake.Records does.
type DeadLetters interface {
	// DeadLetters returns dead letters from a seq on, and the seq to go on from; 0 if
	// there are no more.
	DeadLetters(ctx context.Context, of eventstore.Senders, from uint64, limit int) ([]client.DeadLetter, uint64, error)
	DeadLetter(ctx context.Context, seq uint64) (client.DeadLetter, error)
	// Resend publishes the command again, on behalf of an actor.
	Resend(ctx context.Context, seq uint64, by domain.ActorID) (client.Resent, error)
}

// Part is something that the server is made of.
type Part struct {
	Name string
	// Check returns nil if the part is ready, or why it is not. It must return
	// within a second or so and never hold a secret in its error.
	Check func(context.Context) error
	// Optional says that commands and checks do without it: while it is not ready,
	// GET /readyz shows so, and the server is ready all the same.
	Optional bool
}
