package deadlines

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// mostPause bounds the pause after a batch that took long because the log was away.
const mostPause = time.Second

const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
)

// turn is one leader's work, from taking the lease to losing it.
type turn struct {
	*Worker
	size  int           // of the next batch
	retry time.Duration // how long to wait if the log fails
}

// lead writes what is due until ctx, which is the lease, ends, or the clock is not
// believed any more.
func (w *Worker) lead(ctx context.Context) error {
	w.leading.Store(true)
	defer w.leading.Store(false)
	defer w.readmitAll()
	t := &turn{Worker: w, size: w.cfg.BatchSize, retry: retryFirst}
	if !t.catchUp(ctx) {
		return ctx.Err()
	}
	for ctx.Err() == nil {
		w.readmit()
		now, err := w.clock.check(ctx)
		if errors.Is(err, errDoubt) {
			return err
		}
		if err != nil {
			w.logger.WarnContext(ctx, "deadlines cannot be written now; trying on", slog.String("error", err.Error()))
			t.back(ctx)
			continue
		}
		jobs, first := w.index.take(now, t.size)
		if len(jobs) == 0 {
			w.logger.DebugContext(ctx, "no deadline is due", slog.Time("first", time.UnixMicro(first).UTC()))
			w.idle(ctx, now, first)
			continue
		}
		for _, group := range grouped(jobs, w.cfg.Notices, now) {
			if !t.write(ctx, group, now) {
				break // what is due has changed
			}
		}
	}
	return ctx.Err()
}

// idle waits until something is due, comes due earlier than was known, or the clock
// is to be looked at again.
func (w *Worker) idle(ctx context.Context, now time.Time, first int64) {
	wait := w.cfg.MaxWait
	if until := time.UnixMicro(first).Sub(now); first != never && until < wait {
		wait = until
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.index.sooner:
	case <-ctx.Done():
	}
}

// group is what one command of the clock is about: keys of which it asks the same.
type group struct {
	command domain.CommandName
	jobs    []job
}

// grouped parts jobs by what the clock asks of them, in the order of the first of each.
func grouped(jobs []job, leads []time.Duration, now time.Time) []group {
	var groups []group
	for _, j := range jobs {
		name := commandFor(j.key, leads, now).Command()
		i := slices.IndexFunc(groups, func(g group) bool { return g.command == name })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{command: name})
		}
		groups[i].jobs = append(groups[i].jobs, j)
	}
	return groups
}

// write appends what the rules say about a group, once the log has acknowledged it
// waits until the index knows, and pauses. It returns false if it was not written,
// after having seen to it that the next try will go better.
func (t *turn) write(ctx context.Context, g group, now time.Time) bool {
	changes, decided := t.decide(ctx, g.jobs, now)
	if len(changes) == 0 {
		return false
	}
	began := time.Now()
	events, err := t.cfg.Log.Append(ctx, eventstore.Meta{
		Time: now, Actor: domain.SystemActor, Command: g.command, CommandID: t.cfg.NewID(),
	}, changes...)
	took := time.Since(began)
	if err != nil {
		t.failed(ctx, decided, err)
		return false
	}
	t.done(ctx, g.command, events, decided, now, took)
	if t.index.await(ctx, events[len(events)-1].Seq) != nil {
		return false
	}
	sleep(ctx, min(time.Duration(float64(took)*(1-t.cfg.Duty)/t.cfg.Duty), mostPause))
	return true
}

// decide asks the rules about each key. A key of which they want nothing is due by a
// fault of this package: it is set aside so that the others get on.
func (t *turn) decide(ctx context.Context, jobs []job, now time.Time) (changes []eventstore.Change, decided []job) {
	changes, decided = make([]eventstore.Change, 0, len(jobs)), make([]job, 0, len(jobs))
	for _, j := range jobs {
		own, err := domain.Decide(j.key, commandFor(j.key, t.cfg.Notices, now), now)
		if err == nil && len(own) == 0 {
			err = errors.New("nothing is to be written, though something is due")
		}
		if err != nil {
			t.setAside(ctx, j, err, stuckFirst)
			continue
		}
		events := make([]domain.Event, len(own))
		for i, e := range own {
			events[i] = e
		}
		changes = append(changes, eventstore.Change{
			Aggregate: eventstore.KeyAggregate(j.key.Account, j.key.ID), ExpectedSeq: j.seq, Events: events,
		})
		decided = append(decided, j)
	}
	return changes, decided
}

// done notes that a batch was stored.
func (t *turn) done(ctx context.Context, command domain.CommandName, events []eventstore.Event, jobs []job, now time.Time, took time.Duration) {
	t.size, t.retry = min(2*t.size, t.cfg.BatchSize), retryFirst
	for _, e := range events {
		t.metrics.written.WithLabelValues(string(e.Type())).Inc()
	}
	t.forget(jobs)
	late := now.Sub(time.UnixMicro(slices.MinFunc(jobs, func(a, b job) int { return cmp.Compare(a.due, b.due) }).due))
	t.logger.InfoContext(ctx, "deadlines written", slog.String("command", string(command)),
		slog.String("command_id", events[0].CommandID), slog.Int("keys", len(jobs)),
		slog.Uint64("seq", events[len(events)-1].Seq), slog.Duration("took", took), slog.Duration("late", late))
}

// failed makes the next try go better than the one that failed. A batch that fails
// is tried in halves, so that one key does not hold up the others; a key that fails
// alone is set aside.
func (t *turn) failed(ctx context.Context, jobs []job, err error) {
	if ctx.Err() != nil {
		return
	}
	attrs := []slog.Attr{slog.Int("keys", len(jobs)), slog.String("error", err.Error())}
	switch conflict := errors.Is(err, eventstore.ErrConflict); {
	case conflict || errors.Is(err, eventstore.ErrUnknownOutcome):
		t.metrics.conflicts.Inc()
		t.logger.LogAttrs(ctx, slog.LevelInfo, "deadlines were not written as decided; deciding again", attrs...)
		t.halve(len(jobs))
		if conflict && len(jobs) == 1 {
			t.setAside(ctx, jobs[0], err, rivalFirst)
		}
		if !conflict {
			t.back(ctx)
		}
		t.catchUp(ctx)
	case domain.KindOf(err) == domain.KindUnavailable || errors.Is(err, context.DeadlineExceeded):
		t.logger.LogAttrs(ctx, slog.LevelWarn, "deadlines cannot be written now; trying on", attrs...)
		t.back(ctx)
	case len(jobs) == 1:
		t.setAside(ctx, jobs[0], err, stuckFirst)
	default:
		t.logger.LogAttrs(ctx, slog.LevelWarn, "deadlines cannot be written together; trying fewer", attrs...)
		t.halve(len(jobs))
	}
}

func (t *turn) halve(tried int) { t.size = max(1, min(t.size, tried)/2) }

// back waits, longer each time.
func (t *turn) back(ctx context.Context) {
	sleep(ctx, t.retry)
	t.retry = min(2*t.retry, retryMost)
}

// catchUp waits until the index knows all that the log held when it was asked. It
// returns false if ctx ended before.
func (t *turn) catchUp(ctx context.Context) bool {
	for {
		head, err := t.cfg.Log.Head(ctx)
		if err == nil {
			return t.index.await(ctx, head) == nil
		}
		if ctx.Err() != nil {
			return false
		}
		t.logger.WarnContext(ctx, "the end of the log is not known; asking again", slog.String("error", err.Error()))
		t.back(ctx)
	}
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
