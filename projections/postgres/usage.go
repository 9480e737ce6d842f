package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

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

// UsagePosition implements projections.UsageWriter.
func (s *Store) UsagePosition(ctx context.Context) (at projections.UsagePosition, err error) {
	err = s.withUsage(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var seq int64
		err := tx.QueryRow(ctx, "SELECT stream, seq FROM keyledger.usage_position").Scan(&at.Stream, &seq)
		at.Seq = uint64(seq) //nolint:gosec // it was one
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil
		}
		return err
	})
	return at, s.explain("read up to where uses were merged", err)
}

// MergeUsage implements projections.UsageWriter. Those who merge take turns, by the
// row of the position.
func (s *Store) MergeUsage(ctx context.Context, b projections.UsageBatch) error {
	err := s.withUsage(ctx, func(ctx context.Context, tx pgx.Tx) error { return mergeUses(ctx, tx, b) })
	if errors.Is(err, projections.ErrUsageMoved) {
		return fmt.Errorf("merge uses in PostgreSQL (%s): %w", s.place, err)
	}
	return s.explain("merge uses", err)
}

// withUsage runs do in a transaction, on tables that are made where they are missing.
func (s *Store) withUsage(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	try := func() error {
		if err := s.ensureControl(ctx, s.begin); err != nil {
			return err
		}
		return s.begin(ctx, do)
	}
	err := try()
	if missing(err) { // dropped since they were found
		s.made.Store(false)
		err = try()
	}
	return err
}

func mergeUses(ctx context.Context, tx pgx.Tx, b projections.UsageBatch) error {
	if _, err := tx.Exec(ctx, "INSERT INTO keyledger.usage_position VALUES (true, 0, 0) ON CONFLICT DO NOTHING"); err != nil {
		return err
	}
	moved, err := tx.Exec(ctx, "UPDATE keyledger.usage_position SET stream = $1, seq = $2 WHERE stream = $3 AND seq = $4",
		b.To.Stream, signed(b.To.Seq), b.From.Stream, signed(b.From.Seq))
	if err != nil {
		return err
	}
	if moved.RowsAffected() != 1 {
		return projections.ErrUsageMoved
	}
	merged, err := mergedRuns(ctx, tx, b.Runs())
	if err != nil {
		return fmt.Errorf("read what was merged: %w", err)
	}
	change := b.Fold(merged)
	if err := writeRuns(ctx, tx, change.Runs, b.Now); err != nil {
		return fmt.Errorf("note what was merged: %w", err)
	}
	if err := writeDays(ctx, tx, change); err != nil {
		return fmt.Errorf("count uses by day: %w", err)
	}
	return writeUses(ctx, tx, change.Last)
}

func mergedRuns(ctx context.Context, tx pgx.Tx, runs []string) (map[string]uint64, error) {
	merged := make(map[string]uint64, len(runs))
	if len(runs) == 0 {
		return merged, nil
	}
	rows, err := tx.Query(ctx, "SELECT run, number FROM keyledger.usage_runs WHERE run = ANY($1)", runs)
	if err != nil {
		return nil, err
	}
	var run string
	var number int64
	_, err = pgx.ForEachRow(rows, []any{&run, &number}, func() error {
		merged[run] = uint64(number) //nolint:gosec // it was one
		return nil
	})
	return merged, err
}

func writeRuns(ctx context.Context, tx pgx.Tx, runs map[string]uint64, now time.Time) error {
	for run, number := range runs {
		const note = `INSERT INTO keyledger.usage_runs VALUES ($1, $2, $3)
			ON CONFLICT (run) DO UPDATE SET number = excluded.number, seen_at = excluded.seen_at`
		if _, err := tx.Exec(ctx, note, run, signed(number), now); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, "DELETE FROM keyledger.usage_runs WHERE seen_at < $1", now.Add(-runsKept))
	return err
}

func writeDays(ctx context.Context, tx pgx.Tx, change projections.UsageChange) error {
	n := len(change.Days)
	days, ids, counts := make([]time.Time, 0, n), make([]string, 0, n), make([]int64, 0, n)
	for _, day := range slices.SortedFunc(maps.Keys(change.Days), projections.KeyDay.Compare) {
		days, ids, counts = append(days, day.Day.Time()), append(ids, string(day.Key)), append(counts, signed(change.Days[day]))
	}
	if n > 0 {
		const count = `INSERT INTO keyledger.usage_days AS d (day, key_id, count)
			SELECT day, key_id, count FROM unnest($1::date[], $2::text[], $3::bigint[]) AS n (day, key_id, count)
			ON CONFLICT (day, key_id) DO UPDATE SET count = least(d.count + excluded.count, 1::bigint << 53)`
		if _, err := tx.Exec(ctx, count, days, ids, counts); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, fmt.Sprintf(`DELETE FROM keyledger.usage_days d USING (
		SELECT day, key_id FROM keyledger.usage_days WHERE day < $1::date ORDER BY day, key_id LIMIT %d) old
		WHERE d.day = old.day AND d.key_id = old.key_id`, daysPerSweep), change.Since.Time())
	return err
}

// writeUses notes when keys were used: in the table of its own, and in the live ones.
func writeUses(ctx context.Context, tx pgx.Tx, last map[domain.KeyID]time.Time) error {
	if len(last) == 0 {
		return nil
	}
	ids, times := make([]string, 0, len(last)), make([]time.Time, 0, len(last))
	for _, id := range slices.Sorted(maps.Keys(last)) {
		ids, times = append(ids, string(id)), append(times, last[id])
	}
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock_shared($1, $2)", lockClass, usageLock); err != nil {
		return err
	}
	const note = `INSERT INTO keyledger.usage AS u (key_id, last_used_at)
			SELECT key_id, at FROM unnest($1::text[], $2::timestamptz[]) AS n (key_id, at)
			ON CONFLICT (key_id) DO UPDATE SET last_used_at = excluded.last_used_at WHERE u.last_used_at < excluded.last_used_at`
	if _, err := tx.Exec(ctx, note, ids, times); err != nil {
		return err
	}
	live, _, err := liveSetOf(ctx, tx)
	if err != nil {
		if err == projections.ErrNoTables { //nolint:errorlint // just made
			return nil
		}
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE `+schemaName(live)+`.keys k SET last_used_at = n.at FROM unnest($1::text[], $2::timestamptz[]) AS n (key_id, at)
			WHERE k.key_id = n.key_id AND (k.last_used_at IS NULL OR k.last_used_at < n.at)`, ids, times)
	return err
}

// DailyUse implements projections.UsageReader.
func (s *Store) DailyUse(ctx context.Context, id domain.KeyID, from, to projections.Day) ([]projections.DayUse, error) {
	span, err := projections.Span(from, to)
	if err != nil || len(span) == 0 || !storable(string(id)) {
		return nil, err
	}
	days := make([]time.Time, len(span))
	for i, day := range span {
		days[i] = day.Time()
	}
	var found []projections.DayUse
	err = s.transact(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT day, count FROM keyledger.usage_days WHERE day = ANY($1::date[]) AND key_id = $2 ORDER BY day", days, string(id))
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (projections.DayUse, error) {
			var day time.Time
			var count int64
			err := row.Scan(&day, &count)
			return projections.DayUse{Day: projections.DayOf(day), Count: uint64(count)}, err //nolint:gosec // it was one
		})
		return err
	})
	if missing(err) {
		return nil, nil // nothing was counted yet
	}
	return found, s.explain("read the use of a key", err)
}
