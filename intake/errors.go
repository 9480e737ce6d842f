package intake

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/go-json-experiment/json"

	"github.com/keyledger/keyledger/domain"
)

// passing reports whether the same message may go better later: nothing is wrong
// with it.
func passing(err error) bool {
	return err != nil && (domain.KindOf(err) == domain.KindUnavailable ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

// lasting reports whether an error is an answer: it would be the same again.
func lasting(err error) bool {
	_, isDead := errors.AsType[deadError](err)
	return isDead || domain.KindOf(err) != domain.KindInternal && !passing(err)
}

// maxFaults is how often a command may meet a fault of ours before it is put aside.
const maxFaults = 5

// ours makes a dead command of one that met a fault of ours too often: it would hold
// up what comes after it about the same key for ever. An operator can send it again.
// The text of a panic stays in the log, and out of what anybody else sees.
func (i *Intake) ours(ctx context.Context, w *work, err error) error {
	if err == nil || lasting(err) {
		return err
	}
	if p, ok := errors.AsType[middleware.RecoveredPanicError](err); ok {
		i.cfg.Logger.ErrorContext(ctx, "a command made the server panic", slog.Uint64("sent_seq", w.delivery.Sequence), slog.String("stack", p.Stacktrace))
		err = errPanic
	}
	if w.delivery.Attempt < maxFaults {
		return err
	}
	i.cfg.Logger.ErrorContext(ctx, "alarm: a command met a fault again and again, and is put aside",
		slog.Uint64("sent_seq", w.delivery.Sequence), slog.String("error", err.Error()))
	return deadError{domain.NewError(domain.KindInternal, "internal", "something is wrong on the server", "have the operator look at the log, and send the dead letter again")}
}

var errPanic = errors.New("a panic")

// asDead makes a dead command's reason of an error about its form.
func asDead(err error) error {
	if e, ok := errors.AsType[*domain.Error](err); ok {
		return deadError{e}
	}
	return err
}

func marshal(v any) ([]byte, error) { return json.Marshal(v) }
