package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/feed"
	"github.com/keyledger/keyledger/wire"
)

// work is one message on its way through the router's middleware.
type work struct {
	delivery feed.Delivery
	sent     eventstore.Sent
	request  request
	stored   eventstore.StoredOutcome // under its id, before it was handled; zero: none
	told     bool                     // stored is of this very message: outcome is what it says
	done     command.Outcome
	outcome  client.CommandOutcome // zero until something became of it
}

type workKey struct{}

// workOf returns what the outermost middleware put into the message's context.
func workOf(m *message.Message) *work {
	if w, ok := m.Context().Value(workKey{}).(*work); ok {
		return w
	}
	return newWork(m)
}

func newWork(m *message.Message) *work {
	d := feed.DeliveryOf(m)
	return &work{delivery: d, sent: sentOf(d, m)}
}

// handle reads a command and carries it out; it is the router's handler. Who sent it
// is looked at before what is wrong with it.
func (i *Intake) handle(m *message.Message) error {
	w := workOf(m)
	r, readErr := read(w.delivery.Subject, m.Metadata, m.Payload)
	w.request = r
	if r.address.Producer == "" {
		return readErr
	}
	if r.id != "" {
		if err := i.recall(m.Context(), w); err != nil || w.told {
			return err
		}
	}
	authority, err := i.authority(m.Context(), r.address.Producer)
	if err != nil {
		return err
	}
	if !authority.Reaches(r.address.Account) {
		return forgedAccount("/account")
	}
	if readErr != nil {
		return readErr
	}
	if err := authority.May(domain.ScopeCommands); err != nil {
		return err
	}
	w.done, err = i.carryOut(m.Context(), w, authority)
	return err
}

func (i *Intake) carryOut(ctx context.Context, w *work, a domain.Authority) (command.Outcome, error) {
	outcome, err := w.request.carry(ctx, i.cfg.Commands, command.Request{
		Authority: a, ID: w.request.id, RequestID: fmt.Sprintf("nats-%d", w.delivery.Sequence), TraceParent: w.request.trace,
	})
	makes := w.request.address.Command == domain.CommandCreateKey || w.request.address.Command == domain.CommandRotateKey
	if err != nil || !outcome.Token.IsZero() || !makes {
		return outcome, err
	}
	return outcome, i.checkOwner(ctx, outcome)
}

// authority finds out what a producer may do. That it may nothing is believed only
// of a verifier that has read the log to its end: the key may have been made just now.
func (i *Intake) authority(ctx context.Context, producer domain.KeyID) (domain.Authority, error) {
	if a, active := i.cfg.Producers.Active(producer); active {
		return a, nil
	}
	head, err := i.cfg.Log.Head(ctx)
	if err != nil {
		return domain.Authority{}, err
	}
	if err := i.applied(ctx, head); err != nil {
		return domain.Authority{}, err
	}
	if a, active := i.cfg.Producers.Active(producer); active {
		return a, nil
	}
	if !i.cfg.Producers.Ready() {
		return domain.Authority{}, notCaughtUp(nil)
	}
	return domain.Authority{}, dead(CodeUnknownProducer, "the producer in the subject is no management key that is good now",
		"send commands with a management key that is neither revoked nor expired")
}

// checkOwner refuses a key whose client-made token another key got first.
func (i *Intake) checkOwner(ctx context.Context, o command.Outcome) error {
	if err := i.applied(ctx, o.Seq); err != nil {
		return err
	}
	if owner, known := i.cfg.Producers.Owner(o.Key.Mac); known && owner != o.Key.ID {
		return command.TokenInUse()
	}
	return nil
}

// applied waits until the verifier has taken in the event with this seq.
func (i *Intake) applied(ctx context.Context, seq uint64) error {
	const most = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if err := i.cfg.Producers.WaitFor(ctx, seq); err != nil {
		return notCaughtUp(err)
	}
	return nil
}

func notCaughtUp(cause error) error {
	return &domain.Error{
		Kind: domain.KindUnavailable, Code: "not_caught_up", Cause: cause,
		Message: "this node has not read the log to its end", Fix: "wait: the command is tried again",
	}
}

// settle says what became of a message: stores the outcome and sends the reply. It
// returns a deadError for the poison queue, nil if the message is done with, and
// anything else to have it come again.
func (i *Intake) settle(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		_, err := next(m)
		w := workOf(m)
		if passing(err) {
			return nil, err
		}
		if w.told && err == nil {
			return nil, i.tellAgain(m, w)
		}
		if err = i.ours(m.Context(), w, err); err != nil && !lasting(err) {
			return nil, err
		}
		w.outcome = i.outcomeOf(w, err)
		if tellErr := i.tellUntilTold(m.Context(), w, err); tellErr != nil {
			return nil, tellErr
		}
		return nil, asPoison(m, w, err)
	}
}

// tellAgain says what was said before about the same message.
func (i *Intake) tellAgain(m *message.Message, w *work) error {
	err := toldError(w.outcome)
	if replyErr := i.reply(w, err); replyErr != nil {
		return replyErr
	}
	return asPoison(m, w, err)
}

// asPoison returns err if it is for the poison queue, and nil otherwise.
func asPoison(m *message.Message, w *work, err error) error {
	if _, isDead := errors.AsType[deadError](err); isDead {
		feed.Terminate(m, w.outcome.Code)
		return err
	}
	return nil
}

// tellUntilTold is tell, tried again a few times: once this work is dropped, the
// token that it holds is gone.
func (i *Intake) tellUntilTold(ctx context.Context, w *work, err error) error {
	const tries = 10
	for n, pause := 1, i.cfg.RetryFirst; ; n, pause = n+1, min(2*pause, i.cfg.RetryMost) {
		tellErr := i.tell(ctx, w, err)
		if tellErr == nil || !passing(tellErr) || n == tries {
			return tellErr
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return tellErr
		}
	}
}

// tell stores the outcome, then sends it to who waits for it, with the token.
func (i *Intake) tell(ctx context.Context, w *work, err error) error {
	if w.request.id != "" {
		if err := i.store(ctx, w, err); err != nil {
			return err
		}
	}
	return i.reply(w, err)
}

// store stores the outcome. What cannot be said to be the command of this id does
// not take its place.
func (i *Intake) store(ctx context.Context, w *work, err error) error {
	body, marshalErr := marshal(w.outcome)
	if marshalErr != nil {
		return marshalErr
	}
	o := eventstore.StoredOutcome{Body: body, Sent: w.sent}
	_, isDead := errors.AsType[deadError](err)
	if !isDead && domain.CodeOf(err) != domain.CodeIdempotencyConflict {
		return i.streams.PutOutcome(ctx, w.request.address.Account, w.request.id, o)
	}
	after := uint64(0)
	if w.sent.Repeats(w.stored.Sent) { // it says the same: what became of it last is its outcome
		after = w.stored.Seq
	}
	return i.streams.PutOutcomeAfter(ctx, w.request.address.Account, w.request.id, o, after)
}

// reply sends the outcome to who waits for it.
func (i *Intake) reply(w *work, err error) error {
	r := w.request
	if r.reply == "" {
		return nil
	}
	reply := client.CommandReply{CommandOutcome: w.outcome}
	if err == nil {
		key := wire.Key(w.done.Key, w.done.KeySeq, i.cfg.Now())
		reply.Key = &key
		if !w.done.Token.IsZero() {
			reply.Token = w.done.Token.Reveal()
		}
	}
	body, err := marshal(reply)
	if err != nil {
		return err
	}
	if err := i.cfg.Reply(r.reply, body); err != nil {
		return &domain.Error{
			Kind: domain.KindUnavailable, Code: eventstore.CodeLogUnavailable, Cause: err,
			Message: "the reply could not be sent", Fix: "wait: it is tried again",
		}
	}
	return nil
}

func (i *Intake) outcomeOf(w *work, err error) client.CommandOutcome {
	now := i.cfg.Now().UTC()
	o := client.CommandOutcome{
		ID: w.request.id, Command: string(w.request.address.Command), Outcome: client.OutcomeDone,
		Producer: string(w.request.address.Producer), Time: &now,
	}
	if err == nil {
		o.KeyID, o.Seq, o.Replayed = string(w.done.Key.ID), w.done.Seq, w.done.Replayed
		return o
	}
	o.Outcome, o.Code, o.KeyID = client.OutcomeRefused, domain.CodeOf(err), string(w.request.key)
	if _, isDead := errors.AsType[deadError](err); isDead {
		o.Outcome = client.OutcomeDead
	}
	if e, ok := errors.AsType[*domain.Error](err); ok {
		shown := *e
		shown.Cause = nil // for logs only
		o.Message, o.Fix = shown.Error(), e.Fix
	}
	return o
}
