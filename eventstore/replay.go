package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
)

// timeSlack is how much earlier than [Filter.FromTime] the stream is entered:
// nodes stamp events by their own clocks, the stream by its own.
const timeSlack = time.Minute

// Filter selects a part of history. The zero value selects everything.
type Filter struct {
	Account  domain.AccountID   // "" means all
	Key      domain.KeyID       // "" means all aggregates
	Types    []domain.EventType // empty means all
	FromSeq  uint64             // 0 means from the first
	ToSeq    uint64             // last seq to return; 0 means no bound
	FromTime time.Time          // by [Event.Time]; zero means from the first
}

// subject returns the NATS filter; "" for everything.
func (f Filter) subject() (string, error) {
	switch {
	case f.Account == "" && f.Key == "":
		return "", nil
	case f.Account != "" && !domain.ValidID(string(f.Account)):
		return "", invalidFilter("account")
	case f.Key != "" && !domain.ValidID(string(f.Key)):
		return "", invalidFilter("key")
	}
	account := or(string(f.Account), "*")
	if f.Key == "" {
		return SubjectPrefix + "." + account + ".>", nil
	}
	return SubjectPrefix + "." + account + "." + string(KindKey) + "." + string(f.Key), nil
}

func invalidFilter(member string) error {
	return domain.Invalid("invalid_id", "/"+member, "not the form of an id", "use 1 to 64 letters, digits, '-' and '_'")
}

// selects reports whether the filter wants the event, once NATS has looked at its subject.
func (f Filter) selects(e Event) bool {
	return e.Seq >= f.FromSeq && !e.Time.Before(f.FromTime) &&
		(len(f.Types) == 0 || slices.Contains(f.Types, e.Type()))
}

// Replay iterates over the selected events up to what is the end of the log at
// the call. After an error the iteration ends.
func (l *Log) Replay(ctx context.Context, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := l.replay(ctx, f, yield); err != nil {
			yield(Event{}, fmt.Errorf("replay the log: %w", err))
		}
	}
}

// Follow is [Log.Replay] that goes on with new events until the context ends,
// the filter's ToSeq is passed or the caller stops. The end of the context is not
// reported as an error.
func (l *Log) Follow(ctx context.Context, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		subject, err := f.subject()
		if err == nil {
			err = l.iterate(ctx, f, subject, f.ToSeq, yield)
		}
		if err != nil && ctx.Err() == nil {
			yield(Event{}, fmt.Errorf("follow the log: %w", err))
		}
	}
}

// replay finds the last event that the subject filter matches, by asking the
// leader, and reads up to it: without that, the end could not be told from a
// follower that lags.
func (l *Log) replay(ctx context.Context, f Filter, yield func(Event, error) bool) error {
	subject, err := f.subject()
	if err != nil {
		return err
	}
	last, err := l.lastOf(ctx, "find the end", or(subject, SubjectPrefix+".>"), Leader)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if last.Sequence < f.FromSeq || last.Time.Before(f.FromTime.Add(-timeSlack)) {
		return nil
	}
	to := last.Sequence
	if f.ToSeq > 0 && f.ToSeq < to {
		// The last match may lie anywhere at or before ToSeq; what comes after it
		// ends the reading.
		to = f.ToSeq
	}
	return l.iterate(ctx, f, subject, to, yield)
}

var errEnough = errors.New("enough")

// iterate yields what the filter selects up to seq to; to 0 means for ever.
func (l *Log) iterate(ctx context.Context, f Filter, subject string, to uint64, yield func(Event, error) bool) error {
	r := &reader{log: l, subject: subject, next: max(f.FromSeq, 1), pull: pullFew}
	// A start beyond the end is moved to the end by the server.
	r.contiguous = subject == "" && f.FromTime.IsZero() && f.FromSeq <= l.head.Load()+1
	// No event is older than 1970, and a time before the year 0 has no form in JSON.
	if start := f.FromTime.Add(-timeSlack); f.FromSeq == 0 && start.After(time.Unix(0, 0)) {
		r.from = start
	}
	r.handle = func(_ context.Context, b Batch) error {
		for _, e := range b.Events {
			if to > 0 && e.Seq > to {
				return errEnough
			}
			if f.selects(e) && !yield(e, nil) {
				return errEnough
			}
			if to > 0 && e.Seq == to {
				return errEnough
			}
		}
		return nil
	}
	if err := r.run(ctx); !errors.Is(err, errEnough) {
		return err
	}
	return nil
}
