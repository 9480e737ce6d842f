package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// usageVersion is the version of usage.db (PRAGMA user_version). The file is not made
// anew, so that a new version must be made from the one before, by begin. Version 0 had
// uses and state only, as has the beginning of usageTables.
const usageVersion = 1

// usageTables are those of usage.db. clean says that the copies in keys.last_used
// are what uses says: not so from Open to Close, since either may lose what it last
// wrote when the power goes. The position is that of what uses and days have, for they
// are written together. The days of all keys lie side by side: they are written and
// removed day by day.
const usageTables = `
CREATE TABLE IF NOT EXISTS uses (
	key_id  TEXT PRIMARY KEY,
	at      INTEGER NOT NULL -- microseconds since 1970
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (
	one   INTEGER PRIMARY KEY CHECK (one = 1),
	clean INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO state VALUES (1, 1);
CREATE TABLE IF NOT EXISTS days (
	day    INTEGER NOT NULL, -- since 1970
	key_id TEXT NOT NULL,
	count  INTEGER NOT NULL,
	PRIMARY KEY (day, key_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (
	one    INTEGER PRIMARY KEY CHECK (one = 1),
	stream INTEGER NOT NULL, -- when it was made, nanoseconds since 1970
	seq    INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO position VALUES (1, 0, 0);
CREATE TABLE IF NOT EXISTS runs (
	run    TEXT PRIMARY KEY,
	number INTEGER NOT NULL, -- of its last report that was merged
	seen   INTEGER NOT NULL  -- when, microseconds since 1970
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_by_age ON runs (seen);
`

// usageID marks the file (PRAGMA application_id): "klus".
const usageID = 0x6b6c7573

// usageReaders is how many reads of the file run at once.
const usageReaders = 2

// usage is the file that says when keys were last used. It is not made from the
// log, so it outlives every build. Safe for concurrent use.
type usage struct {
	path    string
	db      *sql.DB // one connection, that writes
	readers *sql.DB // for counts of days
	clean   bool    // as the file had it
}

func openUsage(ctx context.Context, path string) (*usage, error) {
	db, err := openDB(path, "rwc", 1, "busy_timeout(1000)", "synchronous(NORMAL)")
	if err != nil {
		return nil, err
	}
	u := &usage{path: path, db: db}
	err = u.begin(ctx)
	if err == nil {
		u.readers, err = openDB(path, "rw", usageReaders, "busy_timeout(1000)", "query_only(1)")
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return u, nil
}

func (u *usage) begin(ctx context.Context) error {
	var application, version, objects int
	const look = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id, pragma_user_version"
	if err := u.db.QueryRowContext(ctx, look).Scan(&application, &version, &objects); err != nil {
		return err
	}
	if application != usageID && objects > 0 {
		return foreign(u.path, "another program made it")
	}
	if version > usageVersion {
		return domain.NewError(domain.KindInternal, CodeForeign, u.path+" was made by a newer release",
			"start that release, or move the file away: when and how often keys were used is then known from now on only")
	}
	if _, err := u.db.ExecContext(ctx, fmt.Sprintf("PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; PRAGMA application_id = %d; %s; PRAGMA user_version = %d; COMMIT",
		usageID, usageTables, usageVersion)); err != nil {
		return err
	}
	if err := u.db.QueryRowContext(ctx, "SELECT clean FROM state").Scan(&u.clean); err != nil {
		return err
	}
	_, err := u.db.ExecContext(ctx, "UPDATE state SET clean = 0 WHERE clean <> 0")
	return err
}

// close closes the file. clean says that all the copies were made.
func (u *usage) close(clean bool) error {
	var err error
	if clean {
		_, err = u.db.Exec("UPDATE state SET clean = 1") //nolint:noctx // the end of the store, which no context stops
	}
	return errors.Join(err, u.readers.Close(), u.db.Close())
}

// of returns when the keys were last used, as far as is known.
func (u *usage) of(ctx context.Context, ids []domain.KeyID) (map[domain.KeyID]int64, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	used := make(map[domain.KeyID]int64)
	err := each(ctx, u.db, "SELECT key_id, at FROM json_each(?) CROSS JOIN uses ON key_id = value", []any{list(ids)}, func(v *values) (bool, error) {
		used[domain.KeyID(v.text())] = v.integer()
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read when keys were used: %w", err)
	}
	return used, nil
}

// usesPerCopy is how many uses are copied in one transaction.
const usesPerCopy = 1000

// copyAll makes all copies in keys.last_used what the file says.
func (u *usage) copyAll(ctx context.Context, w *writer) error {
	for last, more := "", true; more; {
		used := make(map[domain.KeyID]int64)
		err := each(ctx, u.db, "SELECT key_id, at FROM uses WHERE key_id > ? ORDER BY key_id LIMIT ?", []any{last, usesPerCopy}, func(v *values) (bool, error) {
			last = v.text()
			used[domain.KeyID(last)] = v.integer()
			return true, nil
		})
		if err == nil && len(used) > 0 {
			err = w.transaction(ctx, func(ctx context.Context) error { return w.useAll(ctx, used) })
		}
		if err != nil {
			return fmt.Errorf("copy when keys were used: %w", err)
		}
		more = len(used) == usesPerCopy
	}
	return nil
}

// copyUses copies what was noted to the live tables; mu is held. What fails is
// tried again with the next.
func (s *Store) copyUses(ctx context.Context) error {
	g := s.live.Load()
	if g == nil || len(s.uncopied) == 0 {
		return nil
	}
	err := g.writer.transaction(ctx, func(ctx context.Context) error { return g.writer.useAll(ctx, s.uncopied) })
	if err == nil {
		s.uncopied = nil
	}
	return err
}

// latest is when keys were last used, in microseconds.
type latest map[domain.KeyID]int64

func (l *latest) add(used map[domain.KeyID]int64) {
	for id, at := range used {
		if (*l)[id] < at {
			set((*map[domain.KeyID]int64)(l), id, at)
		}
	}
}

// markUsed sets when records were last used.
func markUsed(ctx context.Context, u *usage, records []projections.KeyRecord) error {
	ids := make([]domain.KeyID, len(records))
	for i := range records {
		ids[i] = records[i].ID
	}
	used, err := u.of(ctx, ids)
	for i := range records {
		if at := used[records[i].ID]; at != 0 {
			records[i].LastUsedAt = fromMicros(at)
		}
	}
	return err
}

// reveal makes the file the live one for good, with what was used meanwhile: the
// commit is on the disk when it returns.
func (w *writer) reveal(ctx context.Context, used latest) error {
	if _, err := w.conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return err
	}
	err := w.transaction(ctx, func(ctx context.Context) error {
		if err := w.useAll(ctx, used); err != nil {
			return err
		}
		_, err := w.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
		return err
	})
	if err != nil {
		return err
	}
	_, err = w.conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA synchronous = NORMAL")
	return err
}
