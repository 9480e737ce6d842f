package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// plan is one command on its way: what it is called, which aggregate it is about,
// and how to decide and answer it.
type plan struct {
	request   Request
	identity  identity
	aggregate eventstore.Aggregate
	// keyType is the type that the key must have; one of the other type does not
	// exist for this command.
	keyType domain.KeyType
	// fresh says that the aggregate should not exist yet, so that the first try
	// need not load it.
	fresh bool
	// decide returns the events that the command leads to, for this aggregate and
	// after it for others; none if it changes nothing.
	decide func(k domain.Key, now time.Time) (own []domain.KeyEvent, others []eventstore.Change, err error)
	// answer makes the outcome. history is the aggregate's, up to the command's last
	// event; appended is what this call appended, nil on a repeat.
	answer func(ctx context.Context, history, appended []eventstore.Event) (Outcome, error)
}

// source says where a try takes the aggregate's history from.
type source int

const (
	assumed source = iota // no event yet; the append will tell
	nearest               // any server's copy, which may be old
	leader                // the stream leader's
)

// execute carries out a plan, and writes the one line and the metrics about it.
func (h *Handler) execute(ctx context.Context, p plan) (Outcome, error) {
	start := time.Now()
	outcome, tries, err := h.tryUntilSettled(ctx, p)
	took := time.Since(start)
	h.metrics.observe(p.identity.name, outcome, err, tries, took)

	attrs := []slog.Attr{
		slog.String("command", string(p.identity.name)), slog.String("command_id", p.identity.id),
		slog.String("request_id", p.request.RequestID), slog.String("actor", string(p.identity.actor)),
		slog.String("account", string(p.aggregate.Account)), slog.String("key_id", p.aggregate.ID),
		slog.Uint64("seq", outcome.Seq), slog.Bool("replayed", outcome.Replayed),
		slog.Int("tries", tries), slog.Duration("took", took),
	}
	switch kind := domain.KindOf(err); kind {
	case "":
		h.logger.LogAttrs(ctx, slog.LevelInfo, "command done", attrs...)
	case domain.KindInternal, domain.KindUnavailable:
		attrs = append(attrs, slog.String("code", domain.CodeOf(err)), slog.String("error", err.Error()))
		h.logger.LogAttrs(ctx, slog.LevelError, "command failed", attrs...)
	default:
		attrs = append(attrs, slog.String("code", domain.CodeOf(err)))
		h.logger.LogAttrs(ctx, slog.LevelInfo, "command refused", attrs...)
	}
	return outcome, err
}

// tryUntilSettled tries a command until its outcome is certain or the time is up.
// A successful append is certain, since the log checked it, and so is a first
// outcome that was found. A refusal, or that there is nothing to change, is certain
// only by what the leader says.
func (h *Handler) tryUntilSettled(ctx context.Context, p plan) (Outcome, int, error) {
	bounded, cancel := context.WithTimeout(ctx, h.retryFor)
	defer cancel()
	done, err := h.turns.take(bounded, p.aggregate)
	if err != nil { // nothing was tried
		return Outcome{}, 0, giveUp(ctx, err, nil, errors.New("no turn came"))
	}
	defer done()
	from := nearest
	if p.fresh {
		from = assumed
	}
	var doubt, rival error // an append whose outcome is not known yet; one that came second
	for tries := 1; ; tries++ {
		outcome, settled, err := h.try(bounded, p, from)
		switch {
		case settled || err != nil && !retriable(err) && from == leader:
			return outcome, tries, err
		case !retriable(err): // a refusal by what may be old
			from = leader
			continue
		}
		switch {
		case errors.Is(err, eventstore.ErrUnknownOutcome):
			doubt = err
		case errors.Is(err, eventstore.ErrConflict):
			rival = err
		case domain.KindOf(err) == domain.KindUnavailable:
			rival = nil // something else is in the way now
		}
		from = leader
		if !pause(bounded, tries) {
			return Outcome{}, tries, giveUp(ctx, err, doubt, rival)
		}
	}
}

// try takes the history from a source, decides by it, and appends.
func (h *Handler) try(ctx context.Context, p plan, from source) (outcome Outcome, settled bool, err error) {
	history, err := h.read(ctx, p.aggregate, from)
	if err != nil {
		return Outcome{}, false, err
	}
	refused := Outcome{Seq: history.LastSeq}
	first, err := p.identity.first(history)
	if err != nil {
		return refused, true, err
	}
	if len(first) > 0 {
		outcome, err = p.answer(ctx, first, nil)
		return outcome, err == nil, err
	}
	now := h.now().UTC().Truncate(time.Microsecond) // what PostgreSQL can hold
	own, others, err := p.decideOn(history, now)
	if err != nil {
		return refused, from == leader, err
	}
	if len(own) == 0 {
		outcome, err = p.answer(ctx, history.Events, nil)
		outcome.Replayed = false
		return outcome, from == leader, err
	}
	changes := append([]eventstore.Change{change(p.aggregate, history.LastSeq, own)}, others...)
	appended, err := h.log.Append(ctx, eventstore.Meta{
		Time: now, Actor: p.identity.actor, Command: p.identity.name, CommandID: p.identity.id, CommandHash: p.identity.hash,
		RequestID: p.request.RequestID, TraceParent: p.request.TraceParent,
	}, changes...)
	if err != nil {
		return Outcome{}, false, fmt.Errorf("append events of %s: %w", p.aggregate.ID, err)
	}
	outcome, err = p.answer(ctx, history.Events, appended)
	return outcome, true, err
}

func (p plan) decideOn(history eventstore.History, now time.Time) ([]domain.KeyEvent, []eventstore.Change, error) {
	key := fold(history.Events)
	if key.Exists() && key.Type != p.keyType {
		return nil, nil, domain.KeyNotFound()
	}
	if err := checkMatch(p.request.IfMatch, history.LastSeq); err != nil {
		return nil, nil, err
	}
	return p.decide(key, now)
}

func (h *Handler) read(ctx context.Context, a eventstore.Aggregate, from source) (eventstore.History, error) {
	consistency := eventstore.Nearest
	switch from {
	case assumed:
		return eventstore.History{}, nil
	case leader:
		consistency = eventstore.Leader
	case nearest:
	}
	history, err := h.log.Load(ctx, a, consistency)
	if err != nil {
		return eventstore.History{}, fmt.Errorf("load %s: %w", a.ID, err)
	}
	return history, nil
}

// retriable reports whether the same command may go better in a moment.
func retriable(err error) bool {
	return errors.Is(err, eventstore.ErrConflict) || errors.Is(err, eventstore.ErrUnknownOutcome) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || domain.KindOf(err) == domain.KindUnavailable
}

// pause waits before another try, longer each time and at random, so that rivals
// for one key do not meet again. It returns false when the time is up.
func pause(ctx context.Context, tries int) bool {
	const shortest, longest = time.Millisecond, 250 * time.Millisecond
	limit := min(shortest<<min(tries, 16), longest)
	timer := time.NewTimer(rand.N(limit)) //nolint:gosec // spreading load, not a secret
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// giveUp explains why the tries ended: with err, after doubt and rival, if there were any.
func giveUp(ctx context.Context, err, doubt, rival error) error {
	switch {
	case doubt != nil:
		return &domain.Error{
			Kind: domain.KindUnavailable, Code: "outcome_unknown", Cause: errors.Join(doubt, err),
			Message: "the log did not answer in time, and whether the command was carried out is not known",
			Fix:     "send it again with the same idempotency key: it will be carried out once",
		}
	case ctx.Err() != nil:
		return &domain.Error{
			Kind: domain.KindUnavailable, Code: "canceled", Cause: errors.Join(ctx.Err(), err),
			Message: "the request ended before the command was carried out", Fix: "send it again",
		}
	case rival != nil:
		return &domain.Error{
			Kind: domain.KindUnavailable, Code: domain.CodeContention, Cause: errors.Join(rival, err),
			Message: "too many commands change this key at once", Fix: "send the command again",
		}
	case domain.KindOf(err) == domain.KindUnavailable:
		return err
	default:
		return &domain.Error{
			Kind: domain.KindUnavailable, Code: eventstore.CodeLogUnavailable, Cause: err,
			Message: "the log did not answer in time; nothing was changed", Fix: "send the command again",
		}
	}
}

func checkMatch(ifMatch *uint64, lastSeq uint64) error {
	if ifMatch == nil || *ifMatch == lastSeq || lastSeq == 0 {
		return nil // a key that does not exist is not found, whatever was expected
	}
	return domain.NewError(domain.KindPrecondition, domain.CodeVersionMismatch,
		"the key has changed since you read it", "read the key again, and repeat the change with its new ETag if it still makes sense")
}

func change(a eventstore.Aggregate, expected uint64, own []domain.KeyEvent) eventstore.Change {
	events := make([]domain.Event, len(own))
	for i, e := range own {
		events[i] = e
	}
	return eventstore.Change{Aggregate: a, ExpectedSeq: expected, Events: events}
}

// fold returns the key that the events make; events of other aggregates are not expected.
func fold(events []eventstore.Event) domain.Key {
	var key domain.Key
	for _, e := range events {
		if own, ok := e.Data.(domain.KeyEvent); ok {
			key = domain.Evolve(key, own)
		}
	}
	return key
}
