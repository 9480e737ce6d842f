package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/keyledger/keyledger/eventstore"
)

// builder folds the log into a set of tables beside the live ones.
type builder struct {
	*applier
	build Build
}

// firstBuild makes the first tables of this schema version.
func (p *Projector) firstBuild(ctx context.Context) error {
	return p.job(ctx, JobBuild, func(ctx context.Context) error { return p.rebuild(ctx, true) })
}

// rebuild makes new tables and puts them in the place of the live ones.
func (p *Projector) rebuild(ctx context.Context, first bool) error {
	return p.building(ctx, first, func(ctx context.Context, b *builder) error {
		p.phase(PhaseIndexing)
		if err := b.build.Complete(ctx); err != nil {
			return fmt.Errorf("complete the tables: %w", err)
		}
		p.phase(PhaseCatchingUp)
		return b.read(ctx, func() (bool, error) {
			err := b.build.Swap(ctx)
			if errors.Is(err, ErrBehind) {
				return false, nil // what the live tables have, the log brings here too
			}
			if err != nil {
				return false, fmt.Errorf("swap the tables: %w", err)
			}
			return true, nil
		})
	})
}

// building makes tables that hold what the log holds, hands them on, and discards
// them unless they were swapped in.
func (p *Projector) building(ctx context.Context, first bool, then func(context.Context, *builder) error) error {
	build, err := p.cfg.Store.Build(ctx)
	if err != nil {
		return fmt.Errorf("begin tables: %w", err)
	}
	defer func() {
		if err := bounded(ctx, build.Discard); err != nil {
			p.log.WarnContext(ctx, "tables that were built are left behind", slog.Any("error", err))
		}
	}()
	b := &builder{build: build, applier: p.applier(build, Checkpoint{}, first)}
	b.took = func() { p.built(b.at.Seq, first) }
	if err := b.read(ctx, func() (bool, error) { return true, nil }); err != nil {
		return err
	}
	return then(ctx, b)
}

// read takes events into the tables. Whenever they are level with the log it asks
// whether that is all.
func (b *builder) read(ctx context.Context, level func() (enough bool, err error)) error {
	t := b.tail(ctx, b.at.Seq+1)
	defer t.close()
	var run eventstore.Batch
	for more := range t.runs {
		run.Events, run.CaughtUp = append(run.Events, more.Events...), more.CaughtUp
		if len(run.Events) < b.cfg.BatchSize && !run.CaughtUp {
			continue // the rest is on its way
		}
		if err := b.apply(ctx, run.Events); err != nil {
			return err
		}
		run.Events = nil
		if !run.CaughtUp {
			continue
		}
		if enough, err := level(); enough || err != nil {
			return err
		}
	}
	return t.err
}

// readTo takes in events up to a checkpoint of the live tables.
func (b *builder) readTo(ctx context.Context, to Checkpoint) error {
	t := b.tail(ctx, b.at.Seq+1)
	defer t.close()
	for b.at.Seq < to.Seq {
		run, ok := <-t.runs
		if !ok {
			return t.err
		}
		events := run.Events[:min(uint64(len(run.Events)), to.Seq-b.at.Seq)]
		if err := b.apply(ctx, events); err != nil {
			return err
		}
	}
	if !b.at.is(to) {
		return &HistoryError{Checkpoint: to, Head: b.Status().Head, FoundID: b.at.EventID, cause: eventstore.ErrHistoryReplaced}
	}
	return b.checkStored(ctx)
}
