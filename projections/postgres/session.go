package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// session is a connection outside the pool: of a lead, a build or a comparison. It
// is for one goroutine, but [Store.Close] may cut it off.
type session struct {
	*pgx.Conn
	store *Store
	once  sync.Once
}

// connect opens a session.
func (s *Store) connect(ctx context.Context) (*session, error) {
	if s.isClosed() {
		return nil, errClosed
	}
	conn, err := pgx.ConnectConfig(ctx, s.direct)
	if err != nil {
		return nil, err
	}
	c := &session{Conn: conn, store: s}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.owned[c] = struct{}{}
	}
	s.mu.Unlock()
	if closed {
		c.cut()
		return nil, errClosed
	}
	return c, nil
}

// cut closes the connection under whoever uses it. The server notices soon.
func (c *session) cut() {
	c.once.Do(func() {
		c.store.mu.Lock()
		delete(c.store.owned, c)
		c.store.mu.Unlock()
		_ = c.PgConn().Conn().Close()
	})
}

// end gives back the session's locks and closes it, in the goroutine that uses it.
// When it returns the locks are free, unless the connection is broken.
func (c *session) end(ctx context.Context) {
	if !c.IsClosed() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		_, _ = c.Exec(ctx, "ROLLBACK")
		_, _ = c.Exec(ctx, "SELECT pg_advisory_unlock_all()")
		_ = c.Conn.Close(ctx)
	}
	c.cut()
}

// begin runs do in a transaction.
func (c *session) begin(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return do(ctx, tx) })
}

// tryLock takes an advisory lock for as long as the session lasts.
func (c *session) tryLock(ctx context.Context, lock int) (taken bool, err error) {
	err = c.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2)", lockClass, lock).Scan(&taken)
	return taken, err
}

// sweep drops sets that nobody uses any more, and, for who holds the lock of builds,
// builds that were left behind. What cannot be dropped now is dropped another time.
func (c *session) sweep(ctx context.Context, leftBehind bool) error {
	const query = `SELECT id FROM keyledger.builds b WHERE state = 'retired' AND finished_at < now() - $1::bigint * interval '1 second'
		OR $2 AND state = 'building' AND schema_version = ` + schemaVersionText + `
		OR schema_version < ` + schemaVersionText + ` AND (state <> 'building' OR NOT EXISTS (SELECT FROM pg_locks
			WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = $4::bigint::oid AND objid = (16 * b.schema_version::bigint + 2)::oid
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())))
		AND EXISTS (SELECT FROM keyledger.builds l WHERE l.state = 'live'
			AND l.schema_version = ` + schemaVersionText + ` AND l.finished_at < now() - $3::bigint * interval '1 second')`
	rows, err := c.Query(ctx, query, int64(retiredFor/time.Second), leftBehind, int64(obsoleteAfter/time.Second), int64(lockClass))
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := c.drop(ctx, id); err != nil && c.IsClosed() {
			return err
		}
	}
	return nil
}

// drop removes a set. It does not wait long for readers: others would wait for it.
func (c *session) drop(ctx context.Context, id int64) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '1s'"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DROP SCHEMA IF EXISTS "+schemaName(id)+" CASCADE"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM keyledger.builds WHERE id = $1", id)
		return err
	})
}
