package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// Tailer is the log as the verifier reads it; *eventstore.Log is one.
type Tailer interface {
	// Tail hands over every event from seq from on, in order and for ever.
	Tail(ctx context.Context, from uint64, handle func(context.Context, eventstore.Batch) error) error
}

// MissingPepperError says that a key which is still good was made with a pepper
// that the keyring does not have: its bearer would be told that it is unknown.
type MissingPepperError struct {
	PepperID string
	KeyID    domain.KeyID // the first such key
	Seq      uint64       // the event that made it
}

// Error implements error.
func (e *MissingPepperError) Error() string {
	return fmt.Sprintf("the keyring lacks the pepper %q, which key %s (event %d) and perhaps others still need; "+
		"put back the keyring file that has it", e.PepperID, e.KeyID, e.Seq)
}

// errFeedEnded says that the log stopped without a reason, which no log should.
var errFeedEnded = errors.New("the feed ended without an error")

// Run feeds the table from where it stands until the context ends (nil then) or
// the log cannot be followed; one call at a time. The verifier is ready while Run runs and has reached
// the end of the log once; afterwards it fails closed, and Run may be called again.
//
// A [*MissingPepperError] is found when the end is reached for the first time,
// since a key may have died by then, and in every batch after that.
func (v *Verifier) Run(ctx context.Context, log Tailer) error {
	v.progress.set(func() { v.progress.ended = nil })
	err := log.Tail(ctx, v.AsOf()+1, v.handle)
	if err == nil {
		err = cmp.Or(ctx.Err(), errFeedEnded)
	}
	v.progress.set(func() {
		v.progress.caughtUp.Store(false)
		v.progress.ended = err
	})
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return fmt.Errorf("feed the verifier after seq %d: %w", v.AsOf(), err)
}

func (v *Verifier) handle(ctx context.Context, batch eventstore.Batch) error {
	v.Apply(ctx, batch.Events)
	if !batch.CaughtUp && !v.progress.caughtUp.Load() {
		return nil
	}
	if err := v.checkPeppers(); err != nil {
		return err
	}
	v.progress.caughtUp.Store(true)
	return nil
}

// Apply takes events into the table, in the order of their seqs; those it has
// taken before are left out. When it returns, every check that begins sees them.
func (v *Verifier) Apply(ctx context.Context, events []eventstore.Event) {
	v.feedMu.Lock()
	defer v.feedMu.Unlock()
	asOf := v.progress.asOf.Load()
	for i := range events {
		if events[i].Seq > asOf {
			v.apply(ctx, &events[i])
			asOf = events[i].Seq
		}
	}
	if asOf != v.progress.asOf.Load() {
		v.progress.set(func() { v.progress.asOf.Store(asOf) })
	}
}

// checkPeppers returns a *MissingPepperError for the first key that is active but
// was made with a pepper which is not in the keyring.
func (v *Verifier) checkPeppers() error {
	v.feedMu.Lock()
	defer v.feedMu.Unlock()
	now := instantOf(v.now())
	var first *MissingPepperError
	for id, o := range v.fold.orphans {
		if v.record(id).status(now) != domain.StatusActive {
			delete(v.fold.orphans, id) // for good: what is dead stays dead
			continue
		}
		if first == nil || o.seq < first.Seq {
			first = &MissingPepperError{PepperID: o.pepperID, KeyID: id, Seq: o.seq}
		}
	}
	if first == nil {
		return nil
	}
	return first
}

// Stats counts what the table holds.
type Stats struct {
	Keys int // dead ones included
	Void int // events that count for nothing; see [Verifier.Apply]
}

// Stats returns the present counts.
func (v *Verifier) Stats() Stats {
	return Stats{Keys: int(v.keys.Load()), Void: int(v.voids.Load())}
}
