package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

const (
	// daysPerSweep is how many counts that are too old go with a batch at most.
	daysPerSweep = 2000
	// runsKept is for how long runs of reporters are remembered: longer than the
	// stream keeps their reports.
	runsKept = 60 * 24 * time.Hour
)

// UsagePosition implements projections.UsageWriter. It is asked for after an error: what
// was merged and could not be copied is tried again.
func (s *Store) UsagePosition(ctx context.Context) (at projections.UsagePosition, err error) {
	const doing = "read up to where uses were merged"
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return at, s.explain(doing, errClosed)
	}
	if err := s.uses.db.QueryRowContext(ctx, "SELECT stream, seq FROM position").Scan(&at.Stream, &at.Seq); err != nil {
		return at, s.explain(doing, errors.Join(ctx.Err(), err))
	}
	return at, s.explain(doing, s.copyUses(ctx))
}

// MergeUsage implements projections.UsageWriter.
func (s *Store) MergeUsage(ctx context.Context, b projections.UsageBatch) error {
	const doing = "merge uses"
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return s.explain(doing, errClosed)
	}
	used, err := s.uses.merge(ctx, b)
	if err != nil {
		return s.explain(doing, errors.Join(ctx.Err(), err))
	}
	s.uncopied.add(used)
	if s.build != nil {
		s.build.used.add(used)
	}
	return s.explain(doing, s.copyUses(ctx))
}

// merge merges a batch, and returns when keys were used by it.
func (u *usage) merge(ctx context.Context, b projections.UsageBatch) (map[domain.KeyID]int64, error) {
	tx, err := u.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	moved, err := tx.ExecContext(ctx, "UPDATE position SET stream = ?, seq = ? WHERE stream = ? AND seq = ?",
		b.To.Stream, signed(b.To.Seq), b.From.Stream, signed(b.From.Seq))
	if err := one(moved, err, projections.ErrUsageMoved); err != nil {
		return nil, err
	}
	merged := make(map[string]uint64)
	err = each(ctx, tx, "SELECT run, number FROM json_each(?) CROSS JOIN runs ON run = value", []any{list(b.Runs())}, func(v *values) (bool, error) {
		run := v.text()
		merged[run] = v.seq()
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	change := b.Fold(merged)
	used := make(map[domain.KeyID]int64, len(change.Last))
	for id, at := range change.Last {
		used[id] = at.UnixMicro()
	}
	w := usageWriter{tx: tx}
	w.each(ctx, "INSERT INTO uses VALUES (?, ?) ON CONFLICT DO UPDATE SET at = excluded.at WHERE at < excluded.at", func(put func(...any)) {
		for _, id := range slices.Sorted(maps.Keys(used)) { // as they lie in the table
			put(string(id), used[id])
		}
	})
	w.each(ctx, "INSERT INTO days VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = min(count + excluded.count, 1 << 53)", func(put func(...any)) {
		for _, day := range slices.SortedFunc(maps.Keys(change.Days), projections.KeyDay.Compare) {
			put(int64(day.Day), string(day.Key), signed(change.Days[day]))
		}
	})
	w.each(ctx, "INSERT INTO runs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET number = excluded.number, seen = excluded.seen", func(put func(...any)) {
		for run, number := range change.Runs {
			put(run, signed(number), b.Now.UnixMicro())
		}
	})
	w.each(ctx, fmt.Sprintf("DELETE FROM days WHERE (day, key_id) IN (SELECT day, key_id FROM days WHERE day < ? LIMIT %d)", daysPerSweep),
		func(put func(...any)) { put(int64(change.Since)) })
	w.each(ctx, "DELETE FROM runs WHERE seen < ?", func(put func(...any)) { put(b.Now.Add(-runsKept).UnixMicro()) })
	if w.err != nil {
		return nil, w.err
	}
	return used, tx.Commit()
}

// usageWriter executes statements in a transaction until one fails.
type usageWriter struct {
	tx  *sql.Tx
	err error
}

// each prepares a statement and executes it for all that rows puts.
func (w *usageWriter) each(ctx context.Context, statement string, rows func(put func(...any))) {
	if w.err != nil {
		return
	}
	prepared, err := w.tx.PrepareContext(ctx, statement)
	if err != nil {
		w.err = err
		return
	}
	rows(func(args ...any) {
		if w.err == nil {
			_, w.err = prepared.ExecContext(ctx, args...)
		}
	})
	w.err = errors.Join(w.err, prepared.Close())
}

// DailyUse implements projections.UsageReader.
func (s *Store) DailyUse(ctx context.Context, id domain.KeyID, from, to projections.Day) ([]projections.DayUse, error) {
	const doing = "read the use of a key"
	span, err := projections.Span(from, to)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	days, err := s.uses.daily(ctx, id, span)
	if s.closed.Load() {
		err = errClosed
	}
	if err != nil {
		return nil, s.explain(doing, errors.Join(ctx.Err(), err))
	}
	return days, nil
}

func (u *usage) daily(ctx context.Context, id domain.KeyID, span []projections.Day) ([]projections.DayUse, error) {
	days, err := json.Marshal(span)
	if err != nil {
		return nil, err
	}
	return collect(ctx, u.readers, "SELECT day, count FROM json_each(?) CROSS JOIN days ON day = value AND key_id = ? ORDER BY day",
		[]any{string(days), string(id)}, func(v *values) (projections.DayUse, error) {
			return projections.DayUse{Day: projections.Day(v.integer()), Count: v.seq()}, nil //nolint:gosec // it was one
		})
}
