package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
)

const (
	retryFirst = 20 * time.Millisecond
	retryMost  = 500 * time.Millisecond
)

// definiteError marks an answer that asking again would not change.
type definiteError struct{ err error }

func (e definiteError) Error() string { return e.err.Error() }
func (e definiteError) Unwrap() error { return e.err }

func definite(err error) error { return definiteError{err} }

// retry calls f, which must be harmless to repeat, until it succeeds, its error is
// definite, or LeaderWait or ctx ends. Each try has AckTimeout: a request to a
// leader that has just died is never answered, and must not use up the whole wait.
func (l *Log) retry(ctx context.Context, what string, f func(context.Context) error) error {
	waitCtx, cancel := context.WithTimeout(ctx, l.leaderWait)
	defer cancel()
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		try, cancelTry := context.WithTimeout(waitCtx, l.ackTimeout)
		err := f(try)
		cancelTry()
		if err == nil || isDefinite(err) {
			return unwrapDefinite(what, err)
		}
		if !sleep(waitCtx, pause) {
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", what, errors.Join(ctx.Err(), err))
			}
			return unavailable(what, err)
		}
	}
}

// sleep waits for d and reports whether ctx is still alive then.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func unwrapDefinite(what string, err error) error {
	if err == nil {
		return nil
	}
	if d, ok := errors.AsType[definiteError](err); ok {
		err = d.err
	}
	return fmt.Errorf("%s: %w", what, err)
}

// isDefinite reports whether the server said no, and would say so again.
func isDefinite(err error) bool {
	if _, ok := errors.AsType[definiteError](err); ok {
		return true
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode {
	case codeNoSuitablePeers, codeStreamNotFound:
		return false // while a cluster comes up
	case jetstream.JSErrCodeJetStreamNotEnabled, jetstream.JSErrCodeJetStreamNotEnabledForAccount, codeReplicasNotSupported:
		return true
	}
	return api.Code >= 400 && api.Code < 500 && api.Code != 429 && api.Code != 408
}

func unavailable(what string, cause error) error {
	return &domain.Error{
		Kind: domain.KindUnavailable, Code: CodeLogUnavailable, Message: what + ": the event log does not answer",
		Fix:   "try again; if it lasts, look at the NATS server's log and at the stream " + StreamName,
		Cause: cause,
	}
}
