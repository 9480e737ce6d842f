package intake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-json-experiment/json"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/feed"
)

// sentOf says which message a work is about. What differs between a message and its
// repeat (headers, the time) is not in the digest.
func sentOf(d feed.Delivery, m *message.Message) eventstore.Sent {
	h := sha256.New()
	h.Write([]byte(d.Subject)) // of one line
	h.Write([]byte("\n"))
	h.Write(m.Payload)
	return eventstore.Sent{Seq: d.Sequence, Time: d.Time, Digest: hex.EncodeToString(h.Sum(nil))}
}

// recall looks for what was said about this very message before: its acknowledgement
// may have been lost after that. What changes nothing leaves no trace in the log, so
// that deciding it anew could carry out what was refused. A later repeat of the same
// command that was answered meanwhile counts as well.
//
// That a message comes for the first time is no reason not to look: the count of
// deliveries does not outlive every crash of the server.
func (i *Intake) recall(ctx context.Context, w *work) error {
	stored, err := i.streams.LeaderOutcome(ctx, w.request.address.Account, w.request.id)
	if domain.KindOf(err) == domain.KindNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	w.stored = stored
	if !stored.Sent.Same(w.sent) && !stored.Sent.Repeats(w.sent) {
		return nil
	}
	var o client.CommandOutcome
	if err := json.Unmarshal(stored.Body, &o); err != nil || o.Outcome == "" {
		return nil //nolint:nilerr // not of our making: it says nothing about the message
	}
	if o.Outcome == client.OutcomeDone {
		if w.done, err = i.leftBy(ctx, w.request.address.Account, o); err != nil {
			return err
		}
		o.Replayed = true // without the token, which nobody kept
	}
	w.told, w.outcome = true, o
	return nil
}

// leftBy returns the key as the command with this outcome left it.
func (i *Intake) leftBy(ctx context.Context, account domain.AccountID, o client.CommandOutcome) (command.Outcome, error) {
	done := command.Outcome{Seq: o.Seq, Replayed: true}
	history, err := i.cfg.Log.Load(ctx, eventstore.KeyAggregate(account, domain.KeyID(o.KeyID)), eventstore.Leader)
	if err != nil {
		return done, fmt.Errorf("load key %s: %w", o.KeyID, err)
	}
	for _, e := range history.Events {
		if own, ok := e.Data.(domain.KeyEvent); ok && e.Seq <= o.Seq {
			done.Key, done.KeySeq = domain.Evolve(done.Key, own), e.Seq
		}
	}
	return done, nil
}

// toldError is the error that led to an outcome that was told before: nil, a
// deadError for the poison queue, or a refusal.
func toldError(o client.CommandOutcome) error {
	switch o.Outcome {
	case client.OutcomeDead:
		return dead(o.Code, o.Message, o.Fix)
	case client.OutcomeRefused:
		return domain.NewError(domain.KindConflict, o.Code, o.Message, o.Fix)
	default:
		return nil
	}
}
