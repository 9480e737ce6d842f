package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// CheckResult is what a check found.
type CheckResult struct {
	At          Checkpoint // what the live tables held
	Rows        int64      // how many rows of all tables were compared
	Differences int
	Took        time.Duration
}

// Rebuild makes new tables from the log beside the live ones, and puts them in
// their place when they are level, at once for every reader. It returns
// [ErrBuildRunning] while a build, rebuild or check runs in this process or another.
// After any other error the live tables are as they were; *[HistoryError] says that
// they are not of this log. [Projector.Status] shows how far it is.
func (p *Projector) Rebuild(ctx context.Context) error {
	return p.job(ctx, JobRebuild, func(ctx context.Context) error {
		if _, err := p.verifyLive(ctx); err != nil {
			return err
		}
		if err := p.rebuild(ctx, false); err != nil {
			return err
		}
		p.swapped(ctx)
		return nil
	})
}

// Check makes tables from the log and holds the live ones against them. What
// differs is reported in the order of tables and rows; an error of report ends it.
// Events go on being taken in meanwhile. Errors are those of [Projector.Rebuild],
// and [ErrBuilding] while there are no live tables.
func (p *Projector) Check(ctx context.Context, report func(Difference) error) (CheckResult, error) {
	var result CheckResult
	began := p.cfg.Now()
	err := p.job(ctx, JobCheck, func(ctx context.Context) error {
		live, err := p.verifyLive(ctx)
		if err == nil && !live {
			err = ErrBuilding()
		}
		if err != nil {
			return err
		}
		return p.building(ctx, false, func(ctx context.Context, b *builder) (err error) {
			view, err := b.view(ctx)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, view.Close()) }()
			if err := b.readTo(ctx, view.At()); err != nil {
				return err
			}
			result.At = view.At()
			return p.compare(ctx, view, &result, report)
		})
	})
	result.Took = p.cfg.Now().Sub(began)
	return result, err
}

// compare reports what differs.
func (p *Projector) compare(ctx context.Context, view Comparison, result *CheckResult, report func(Difference) error) error {
	p.phase(PhaseComparing)
	looked := make(map[string]int64)
	progress := func(table string, rows int64) {
		looked[table] = rows
		p.update(func(j *Job) { j.Table, j.Rows = table, rows })
	}
	err := view.Differences(ctx, progress, func(d Difference) error {
		result.Differences++
		p.update(func(j *Job) { j.Differences = result.Differences })
		return report(d)
	})
	for _, rows := range looked {
		result.Rows += rows
	}
	if err != nil {
		return fmt.Errorf("compare the tables: %w", err)
	}
	return nil
}

// view opens a view of the live tables that are not behind the build.
func (b *builder) view(ctx context.Context) (Comparison, error) {
	wait := b.backoff()
	for {
		view, err := b.build.Compare(ctx)
		if err != nil {
			return nil, fmt.Errorf("open a view of the tables: %w", err)
		}
		if view.At().Seq >= b.at.Seq {
			return view, nil
		}
		b.nudge() // the live tables may linger
		if err := errors.Join(view.Close(), wait.sleep(ctx)); err != nil {
			return nil, err
		}
	}
}

// verifyLive checks that the live tables, if there are any, are of this log. What
// is built for them takes their place only then.
func (p *Projector) verifyLive(ctx context.Context) (live bool, err error) {
	state, err := p.cfg.Store.State(ctx)
	if err != nil {
		return false, fmt.Errorf("read the state of the tables: %w", err)
	}
	return state.Live, p.verify(ctx, state.At)
}

// swapped looks which tables are live now. A leader finds out at its next write.
func (p *Projector) swapped(ctx context.Context) {
	state, err := p.cfg.Store.State(ctx)
	if err != nil {
		return // the swap is done, and the next look shows it
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Generation = state.Generation
}

// job does what kind says and shows it in the status, one at a time.
func (p *Projector) job(ctx context.Context, kind JobKind, do func(context.Context) error) error {
	if !p.beginJob(kind) {
		return ErrBuildRunning()
	}
	p.log.InfoContext(ctx, "job on the tables begins", slog.String("job", string(kind)))
	err := do(ctx)
	job := p.endJob(err)
	took := slog.Duration("took", job.Ended.Sub(job.Began))
	if err != nil {
		p.log.WarnContext(ctx, "job on the tables failed", slog.String("job", string(kind)), took, slog.Any("error", err))
		return err
	}
	p.log.InfoContext(ctx, "job on the tables is done", slog.String("job", string(kind)), took,
		slog.Uint64("seq", job.Seq), slog.Int("differences", job.Differences))
	return nil
}

func (p *Projector) beginJob(kind JobKind) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status.Job.Running() {
		return false
	}
	p.status.Job = Job{Kind: kind, Phase: PhaseReading, Target: p.status.Head, Began: p.cfg.Now()}
	return true
}

func (p *Projector) endJob(err error) Job {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := &p.status.Job
	j.Phase, j.Ended, j.Err = PhaseDone, p.cfg.Now(), err
	if err != nil {
		j.Phase = PhaseFailed
	}
	return *j
}

// phase moves the running job on.
func (p *Projector) phase(phase JobPhase) { p.update(func(j *Job) { j.Phase = phase }) }

func (p *Projector) update(change func(*Job)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.status.Job)
}

// built notes how far a build is. The first one is what the status is about.
func (p *Projector) built(seq uint64, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Job.Seq = seq
	if first {
		p.moveTo(seq)
		p.status.Err, p.away = nil, false // what was away takes events again
	}
}
