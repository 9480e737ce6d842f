package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// historyTries is how often an event that the log must have is asked for, before
// its absence counts: a replica that answers may be behind.
const historyTries = 6

// queuedRuns is how many runs of events may wait while a batch is written, so
// that reading and writing overlap.
const queuedRuns = 4

// Run follows the log until the context ends, and returns nil then. Errors that
// may pass (the store is busy, its disk is full, the log is not reachable) show
// in [Projector.Status] while it tries again. It returns an error when going on
// would be wrong: *[HistoryError], *[EventError], what the tail cannot read, or
// a store that is broken. Call it once.
func (p *Projector) Run(ctx context.Context) error {
	wait := p.backoff()
	for {
		progress, err := p.follow(ctx)
		switch {
		case ctx.Err() != nil:
			p.fail(context.Cause(ctx), true)
			return nil //nolint:nilerr // the end of the context is how it is stopped
		case passing(err) || errors.Is(err, ErrCheckpointMoved):
		default:
			p.fail(err, true)
			p.log.ErrorContext(ctx, "projector stopped", slog.Any("error", err))
			return fmt.Errorf("project events: %w", err)
		}
		if progress {
			wait = p.backoff()
		}
		p.waiting(ctx, err, wait)
	}
}

// follow takes in events from the stored checkpoint on, until something fails.
// It reports whether it wrote anything.
func (p *Projector) follow(ctx context.Context) (progress bool, err error) {
	cp, err := p.cfg.Store.Checkpoint(ctx)
	if err != nil {
		return false, fmt.Errorf("read the checkpoint: %w", err)
	}
	if err := p.verify(ctx, cp); err != nil {
		return false, err
	}
	// A store that is being built stays so over interruptions of the log.
	p.building = !p.Status().CaughtUp && (p.building || cp.Seq == 0)
	p.advance(cp.Seq, !p.building, false)
	a := &applier{Projector: p, at: cp, folder: folder{store: p.cfg.Store, cache: newCache(p.cfg.CacheSize)}}

	tail, stop := context.WithCancel(ctx)
	defer stop()
	runs := make(chan eventstore.Batch, queuedRuns)
	ended := make(chan error, 1)
	go func() {
		defer close(runs)
		ended <- p.cfg.Log.Tail(tail, cp.Seq+1, func(ctx context.Context, b eventstore.Batch) error {
			run := eventstore.Batch{Events: append([]eventstore.Event(nil), b.Events...), CaughtUp: b.CaughtUp}
			for i := range run.Events {
				run.Events[i].Raw = nil // not needed, and large
			}
			select {
			case runs <- run:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	err = a.applyAll(ctx, runs)
	stop()
	for range runs { // let the tail end
	}
	if tailErr := <-ended; err == nil {
		err = tailErr
	}
	return a.at != cp, err
}

// verify checks that the log holds the event of the checkpoint.
func (p *Projector) verify(ctx context.Context, cp Checkpoint) error {
	head, err := p.cfg.Log.Head(ctx)
	if err != nil {
		return fmt.Errorf("read the end of the log: %w", err)
	}
	p.sawHead(head)
	if cp.Seq == 0 {
		return nil
	}
	alarm := &HistoryError{Checkpoint: cp, Head: head, cause: eventstore.ErrHistoryReplaced}
	if cp.Seq > head {
		return alarm
	}
	wait := p.backoff()
	for range historyTries {
		e, err := p.cfg.Log.At(ctx, cp.Seq)
		switch {
		case err == nil && e.ID == cp.EventID:
			return nil
		case err == nil:
			alarm.FoundID = e.ID
			return alarm
		case !errors.Is(err, eventstore.ErrNoEvent):
			return fmt.Errorf("read event %d: %w", cp.Seq, err)
		}
		if err := wait.sleep(ctx); err != nil {
			return err
		}
	}
	return alarm
}

// passing reports whether an error is one to try again after.
func passing(err error) bool { return domain.KindOf(err) == domain.KindUnavailable }

// waiting notes an error that may pass, and waits.
func (p *Projector) waiting(ctx context.Context, err error, wait *backoff) {
	if p.Status().Err == nil {
		p.log.WarnContext(ctx, "projector waits and tries again", slog.Any("error", err))
	}
	p.fail(err, false)
	p.metrics.retries.Inc()
	_ = wait.sleep(ctx) // the caller looks at ctx
}

func (p *Projector) backoff() *backoff { return &backoff{next: p.cfg.RetryMin, max: p.cfg.RetryMax} }

// backoff is a wait that doubles.
type backoff struct{ next, max time.Duration }

func (b *backoff) sleep(ctx context.Context) error {
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	b.next = min(2*b.next, b.max)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
