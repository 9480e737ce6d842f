package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyledger/keyledger/eventstore"
)

// applier writes events to the store, from one checkpoint on.
type applier struct {
	*Projector
	folder folder
	at     Checkpoint // what the store holds
	began  time.Time  // when the last write to the live tables began
}

// applyAll writes what comes until runs is closed.
func (a *applier) applyAll(ctx context.Context, runs <-chan eventstore.Batch) error {
	for run := range runs {
		run = a.gather(ctx, run, runs)
		a.began = time.Now()
		if n := len(run.Events); n > 0 {
			a.sawHead(run.Events[n-1].Seq)
			if err := a.apply(ctx, run.Events); err != nil {
				return err
			}
		}
		if run.CaughtUp {
			if err := a.caughtUp(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// gather adds the runs that wait already, and those that come while it lingers, up
// to the batch size: the fuller a transaction, the cheaper each event.
func (a *applier) gather(ctx context.Context, run eventstore.Batch, runs <-chan eventstore.Batch) eventstore.Batch {
	linger := time.NewTimer(a.linger())
	defer linger.Stop()
	for len(run.Events) < a.cfg.BatchSize {
		var more eventstore.Batch
		var ok bool
		select { // what is there first, whatever the time
		case more, ok = <-runs:
		default:
			select {
			case more, ok = <-runs:
			case <-a.hurry:
			case <-linger.C:
			case <-ctx.Done():
			}
		}
		if !ok {
			return run
		}
		run.Events = append(run.Events, more.Events...)
		run.CaughtUp = more.CaughtUp
	}
	return run
}

// linger returns how long the next write is to wait for more: not at all in a
// build, or before the tables were level with the log.
func (a *applier) linger() time.Duration {
	if a.building || !a.Status().CaughtUp {
		return 0
	}
	return max(0, time.Until(a.began.Add(a.cfg.Linger)))
}

// apply takes in events, in one batch.
func (a *applier) apply(ctx context.Context, events []eventstore.Event) error {
	batch, err := a.fold(ctx, events)
	if bad, ok := errors.AsType[*EventError](err); ok {
		// What comes before the event that stops us is as good as ever.
		if n := int(bad.Seq - a.at.Seq - 1); n > 0 && n < len(events) { //nolint:gosec // below the size of a slice
			if err := a.apply(ctx, events[:n]); err != nil {
				return err
			}
		}
	}
	if err != nil {
		return err
	}
	if err := a.write(ctx, batch); err != nil {
		return err
	}
	a.at = batch.To
	a.advance(a.at.Seq, !a.building, false)
	a.metrics.events.Add(float64(len(events)))
	for i := range batch.Audit {
		if entry := &batch.Audit[i]; entry.Void != "" {
			a.alarm(ctx, entry)
		}
	}
	return nil
}

// fold makes the batch of the events, trying again while the store cannot be read.
func (a *applier) fold(ctx context.Context, events []eventstore.Event) (batch Batch, err error) {
	err = a.retry(ctx, func(ctx context.Context) error {
		batch, err = a.folder.fold(ctx, a.at, events)
		return err
	})
	return batch, err
}

// write writes the batch once, however often it takes: after an error the
// checkpoint tells whether the batch is in the store.
func (a *applier) write(ctx context.Context, batch Batch) error {
	wait := a.backoff()
	for {
		err := a.cfg.Store.Write(ctx, batch)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("write events %d to %d: %w", batch.From.Seq+1, batch.To.Seq, err)
		if !passing(err) {
			return err
		}
		a.waiting(ctx, err, wait)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		stored, readErr := a.cfg.Store.Checkpoint(ctx)
		switch {
		case readErr != nil && !passing(readErr):
			return fmt.Errorf("read the checkpoint: %w", readErr)
		case readErr != nil || stored == batch.From: // Write checks again in any case
		case stored == batch.To:
			return nil
		default:
			return moved(stored, batch.From)
		}
	}
}

func moved(stored, want Checkpoint) error {
	return fmt.Errorf("%w: it is at seq %d, not after %d", ErrCheckpointMoved, stored.Seq, want.Seq)
}

// caughtUp ends the first build, if there was one, the first time.
func (a *applier) caughtUp(ctx context.Context) error {
	if !a.Status().CaughtUp {
		// A build that failed to write the last batch is empty again, and not to be ended.
		if err := a.retry(ctx, a.checkStored); err != nil {
			return fmt.Errorf("read the checkpoint: %w", err)
		}
		if err := a.retry(ctx, a.cfg.Store.FinishBuild); err != nil {
			return fmt.Errorf("finish the build of the tables: %w", err)
		}
		a.building = false
	}
	a.advance(a.at.Seq, true, true)
	return nil
}

// checkStored makes sure that the store holds what it was given.
func (a *applier) checkStored(ctx context.Context) error {
	stored, err := a.cfg.Store.Checkpoint(ctx)
	if err == nil && stored != a.at {
		err = moved(stored, a.at)
	}
	return err
}

// retry does it until there is no error, or one that does not pass.
func (a *applier) retry(ctx context.Context, do func(context.Context) error) error {
	wait := a.backoff()
	for {
		err := do(ctx)
		if err == nil || !passing(err) {
			return err
		}
		a.waiting(ctx, err, wait)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// alarm tells of an event without effect.
func (a *applier) alarm(ctx context.Context, e *AuditEntry) {
	a.metrics.void.WithLabelValues(string(e.Void)).Inc()
	a.log.ErrorContext(ctx, "alarm: event is void",
		slog.String("reason", string(e.Void)), slog.Uint64("seq", e.Seq), slog.String("event_id", e.EventID),
		slog.String("action", string(e.Action)), slog.String("account", string(e.Account)),
		slog.String("key_id", e.Subject), slog.String("actor", string(e.Actor)))
}
