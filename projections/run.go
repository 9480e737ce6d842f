package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// historyTries is how often an event that the log must have is asked for, before
// its absence counts: a replica that answers may be behind.
const historyTries = 6

// closeTimeout bounds what is done after the context has ended, or failed.
const closeTimeout = 10 * time.Second

// Run keeps the tables up to date until the context ends, and returns nil then: it
// writes to them, and builds the first, or follows while another process does, to
// take over when that one ends. Errors that may pass (the store is away, its disk
// is full, the log is not reachable) show in [Projector.Status] while it tries
// again. It returns an error when going on would be wrong: *[HistoryError],
// *[EventError], what the tail cannot read, or a store that is broken. Call it once.
func (p *Projector) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	watching.Go(func() { p.watchHead(watch) })

	wait := p.backoff()
	for {
		progress, err := p.turn(ctx)
		if ctx.Err() != nil {
			p.stop(context.Cause(ctx))
			return nil
		}
		if progress {
			wait = p.backoff()
		}
		switch {
		case err == nil:
		case replaced(err):
			if !progress {
				_ = wait.sleep(ctx) // the next turn looks at ctx
			}
		case passing(err):
			p.waiting(ctx, err, wait)
		default:
			p.stop(err)
			p.log.ErrorContext(ctx, "projector stopped", slog.Any("error", err))
			return fmt.Errorf("project events: %w", err)
		}
	}
}

// turn asks for the lead once, and leads or follows. It reports whether it got on.
func (p *Projector) turn(ctx context.Context) (progress bool, err error) {
	lead, err := p.cfg.Store.Lead(ctx)
	if domain.CodeOf(err) == CodeFollower {
		err := p.follow(ctx)
		return err == nil, err
	}
	if err != nil {
		return false, fmt.Errorf("ask for the lead: %w", err)
	}
	p.leads(true)
	defer func() {
		p.leads(false)
		// The turn has failed already, and the next shows whether the lead is free.
		_ = bounded(ctx, lead.Close)
	}()
	return p.lead(ctx, lead)
}

// lead writes to the live tables from the stored checkpoint on, until something
// fails. It reports whether it wrote anything.
func (p *Projector) lead(ctx context.Context, lead Lead) (progress bool, err error) {
	cp, err := lead.Checkpoint(ctx)
	if errors.Is(err, ErrNoTables) {
		if err := p.firstBuild(ctx); err != nil {
			return false, err
		}
		cp, err = lead.Checkpoint(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("read the checkpoint: %w", err)
	}
	if err := p.verify(ctx, cp); err != nil {
		return false, err
	}
	state, err := p.cfg.Store.State(ctx)
	if err != nil {
		return false, fmt.Errorf("read the state of the tables: %w", err)
	}
	p.begins(cp.Seq, state)
	a := p.applier(lead, cp, true)
	a.took = func() { p.took(a.at.Seq, false) }
	var watching sync.WaitGroup
	defer watching.Wait()
	tables, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	watching.Go(func() { lost(p.watchTables(tables, state.Generation)) })
	err = a.follow(tables)
	if cause := context.Cause(tables); cause != nil && ctx.Err() == nil {
		err = cause
	}
	return a.at != cp, err
}

// awayTries is how many times in a row the tables must not be found before their
// writer begins anew: a pool that is busy for a moment is no reason.
const awayTries = 3

// watchTables looks whether the tables that are written to are still the live ones
// and within reach, and returns why not. Without events to write, nothing else would
// notice that they were swapped, dropped or lost.
func (p *Projector) watchTables(ctx context.Context, generation uint64) error {
	for failed := 0; ; {
		if err := sleep(ctx, p.cfg.LeadEvery); err != nil {
			return err
		}
		state, err := p.cfg.Store.State(ctx)
		switch {
		case err != nil:
			if failed++; failed == awayTries {
				return fmt.Errorf("read the state of the tables: %w", err)
			}
		case !state.Live:
			return ErrNoTables
		case state.Generation != generation:
			return ErrCheckpointMoved
		default:
			failed = 0
		}
	}
}

// follow looks how far the tables are, which another process writes to, until it is
// time to ask for the lead again: seldom, and often while somebody waits.
func (p *Projector) follow(ctx context.Context) error {
	for until := time.Now().Add(p.cfg.LeadEvery); ; {
		looked := time.Now()
		state, err := p.cfg.Store.State(ctx)
		if err != nil {
			return fmt.Errorf("read the state of the tables: %w", err)
		}
		p.saw(state)
		wait := time.Until(until)
		if wait <= 0 {
			return nil
		}
		if p.awaited() {
			wait = min(wait, lookEvery)
		}
		timer := time.NewTimer(wait)
		select {
		case <-p.hurry:
			err = sleep(ctx, time.Until(looked.Add(lookEvery)))
		case <-timer.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

// lookEvery is how often a follower looks how far the tables are while somebody waits.
const lookEvery = 5 * time.Millisecond

// watchHead keeps asking for the end of the log, so that the lag shows whatever the
// store does.
func (p *Projector) watchHead(ctx context.Context) {
	for {
		if head, err := p.cfg.Log.Head(ctx); err == nil {
			p.sawHead(head)
			p.nudge() // a follower holds the tables against it
		}
		if sleep(ctx, p.cfg.LeadEvery) != nil {
			return
		}
	}
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
func passing(err error) bool {
	return domain.KindOf(err) == domain.KindUnavailable || domain.CodeOf(err) == CodeBuildRunning
}

// replaced reports whether the tables are not those that were written to: they were
// swapped or are gone, or another process has written. That is no fault.
func replaced(err error) bool {
	return errors.Is(err, ErrCheckpointMoved) || errors.Is(err, ErrNoTables)
}

// waiting notes an error that may pass, and waits.
func (p *Projector) waiting(ctx context.Context, err error, wait *backoff) {
	if p.Status().Err == nil {
		p.log.WarnContext(ctx, "projector waits and tries again", slog.Any("error", err))
	}
	p.fail(err, wait.tries+1)
	p.metrics.retries.Inc()
	_ = wait.sleep(ctx) // the caller looks at ctx
}

func (p *Projector) backoff() *backoff { return &backoff{next: p.cfg.RetryMin, max: p.cfg.RetryMax} }

// backoff is a wait that doubles.
type backoff struct {
	next, max time.Duration
	tries     int
}

func (b *backoff) sleep(ctx context.Context) error {
	wait := b.next
	b.next = min(2*b.next, b.max)
	b.tries++
	return sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bounded does what must be done although the context may have ended.
func bounded(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return do(ctx)
}
