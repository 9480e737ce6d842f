package postgres

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/projections"
)

// Use implements projections.UsageWriter.
func (s *Store) Use(ctx context.Context, uses []projections.KeyUse) error {
	const doing = "note uses"
	latest := make(map[string]time.Time, len(uses))
	for _, use := range uses {
		if at := projections.Micros(use.At); storable(string(use.Key)) && at.After(latest[string(use.Key)]) {
			latest[string(use.Key)] = at
		}
	}
	if len(latest) == 0 {
		return nil
	}
	// In one order on every node, so that none waits for one that waits for it.
	ids := slices.Sorted(maps.Keys(latest))
	times := make([]time.Time, len(ids))
	for i, id := range ids {
		times[i] = latest[id]
	}
	note := func() error {
		if err := s.ensureControl(ctx, s.begin); err != nil {
			return err
		}
		return s.begin(ctx, func(ctx context.Context, tx pgx.Tx) error { return noteUses(ctx, tx, ids, times) })
	}
	err := note()
	if missing(err) { // dropped since it was found
		s.made.Store(false)
		err = note()
	}
	return s.explain(doing, err)
}

func noteUses(ctx context.Context, tx pgx.Tx, ids []string, times []time.Time) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock_shared($1, $2)", lockClass, usageLock); err != nil {
		return err
	}
	const note = `INSERT INTO keyledger.usage AS u (key_id, last_used_at)
			SELECT key_id, at FROM unnest($1::text[], $2::timestamptz[]) WITH ORDINALITY AS n (key_id, at, place) ORDER BY place
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
