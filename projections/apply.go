package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyledger/keyledger/eventstore"
)

// applier takes events into one set of tables, from one checkpoint on. After an
// error it is of no use: what is stored tells whether the last batch was written.
type applier struct {
	*Projector
	to     Writer
	folder folder
	at     Checkpoint // what the tables hold
	// live says that the events take effect here, in the live tables or the first:
	// it counts them and raises the alarm of void ones.
	live  bool
	took  func()    // called when at has moved
	began time.Time // when the last write began
}

func (p *Projector) applier(to Writer, at Checkpoint, live bool) *applier {
	return &applier{Projector: p, to: to, at: at, live: live, took: func() {}, folder: folder{store: to, cache: newCache(p.cfg.CacheSize)}}
}

// follow takes in what comes, for ever: it returns an error.
func (a *applier) follow(ctx context.Context) error {
	t := a.tail(ctx, a.at.Seq+1)
	defer t.close()
	for run := range t.runs {
		run = a.gather(ctx, run, t.runs)
		a.began = time.Now()
		if err := a.apply(ctx, run.Events); err != nil {
			return err
		}
		if run.CaughtUp {
			a.Projector.took(a.at.Seq, true)
		}
	}
	return t.err
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

// linger returns how long the next write is to wait for more: not at all before
// the tables were level with the log.
func (a *applier) linger() time.Duration {
	if !a.Status().CaughtUp {
		return 0
	}
	return max(0, time.Until(a.began.Add(a.cfg.Linger)))
}

// apply takes in events, in one batch.
func (a *applier) apply(ctx context.Context, events []eventstore.Event) error {
	if len(events) == 0 {
		return nil
	}
	a.sawHead(events[len(events)-1].Seq)
	began := time.Now()
	batch, err := a.folder.fold(ctx, a.at, events)
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
	if err := a.to.Write(ctx, batch); err != nil {
		return fmt.Errorf("write events %d to %d: %w", batch.From.Seq+1, batch.To.Seq, err)
	}
	a.at = batch.To
	a.took()
	if a.live {
		a.account(ctx, batch, time.Since(began))
	}
	return nil
}

// account counts what was written, and raises the alarm of events without effect.
func (a *applier) account(ctx context.Context, batch Batch, took time.Duration) {
	a.metrics.events.Add(float64(len(batch.Audit)))
	a.metrics.batch.Observe(float64(len(batch.Audit)))
	a.metrics.apply.Observe(took.Seconds())
	for i := range batch.Audit {
		e := &batch.Audit[i]
		if e.Void == "" {
			continue
		}
		a.metrics.void.WithLabelValues(string(e.Void)).Inc()
		a.log.ErrorContext(ctx, "alarm: event is void",
			slog.String("reason", string(e.Void)), slog.Uint64("seq", e.Seq), slog.String("event_id", e.EventID),
			slog.String("action", string(e.Action)), slog.String("account", string(e.Account)),
			slog.String("key_id", e.Subject), slog.String("actor", string(e.Actor)))
	}
}

// checkStored makes sure that the tables hold what was written to them: a build
// gives the error of a write to a later call.
func (a *applier) checkStored(ctx context.Context) error {
	stored, err := a.to.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	if !stored.is(a.at) {
		return fmt.Errorf("%w: it is at seq %d, not %d", ErrCheckpointMoved, stored.Seq, a.at.Seq)
	}
	return nil
}

// is reports whether both are of the same event.
func (c Checkpoint) is(other Checkpoint) bool {
	return c.Seq == other.Seq && c.EventID == other.EventID
}
