package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// writer writes batches to tables that are complete, with their indexes: the live
// ones, or those of a build that waits to be swapped in. One goroutine at a time.
type writer struct {
	db   *sql.DB
	conn *sql.Conn
	uses *usage // which tells when keys that are new were used

	statements
	versions, audit, macs, voids *inserter
	create, change, use          *sql.Stmt
	move, checkpoint             *sql.Stmt
}

// newWriter opens the file and prepares the statements.
func newWriter(ctx context.Context, path string, uses *usage) (*writer, error) {
	db, err := openDB(path, "rw", 1, "busy_timeout(1000)", "journal_mode(WAL)", "synchronous(NORMAL)", "cache_size(-16384)")
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	w := &writer{db: db, conn: conn, uses: uses, statements: statements{conn: conn}}
	if err := w.prepareAll(ctx); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *writer) prepareAll(ctx context.Context) error {
	// Finds out whether another process is writing.
	if _, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE; ROLLBACK"); err != nil {
		return err
	}
	w.versions = w.inserter(ctx, "key_versions", versionColumns, versionRows)
	w.audit = w.inserter(ctx, "audit", auditColumns, auditRows)
	w.macs = w.inserter(ctx, "macs", macColumns, macRows)
	w.voids = w.inserter(ctx, "voids", voidColumns, voidRows)
	w.create = w.prepare(ctx, insert("keys", keyInsertColumns, columnsOf(keyInsertColumns), 1))
	w.change = w.prepare(ctx, changeKey())
	w.use = w.prepare(ctx, "UPDATE keys SET last_used = ?2 WHERE key_id = ?1 AND last_used < ?2")
	w.move = w.prepare(ctx, "UPDATE checkpoint SET seq = ?, event_id = ?, clock = ? WHERE seq = ? AND event_id = ?")
	w.checkpoint = w.prepare(ctx, "SELECT seq, event_id, clock FROM checkpoint")
	if w.err != nil {
		return fmt.Errorf("prepare statements: %w", w.err)
	}
	return nil
}

// changeKey takes the arguments of appendKey and, at last, the seq that the row must
// have. When a key was last used is no business of an event.
func changeKey() string {
	var set []string
	for i, column := range strings.Split(keyInsertColumns, ", ") {
		switch column {
		case "created_seq", "last_used":
		default:
			set = append(set, fmt.Sprintf("%s = ?%d", column, i+1))
		}
	}
	return fmt.Sprintf("UPDATE keys SET %s WHERE created_seq = ?1 AND key_id = ?3 AND seq = ?%d", strings.Join(set, ", "), columnsOf(keyInsertColumns)+1)
}

func (w *writer) close() error {
	return errors.Join(w.statements.close(), w.conn.Close(), w.db.Close())
}

func (w *writer) readCheckpoint(ctx context.Context) (projections.Checkpoint, error) {
	var cp projections.Checkpoint
	var clock sql.NullInt64
	err := w.checkpoint.QueryRowContext(ctx).Scan(&cp.Seq, &cp.EventID, &clock)
	if clock.Valid {
		cp.Clock = fromMicros(clock.Int64)
	}
	return cp, err
}

// transaction does it in a transaction, unless the context has ended. Of a BEGIN
// whose context ends the driver says that it failed, although the transaction may be
// open; it waits for a lock no longer than busy_timeout anyway. Inside, nothing
// waits, and a context that can end would cost a goroutine for every statement.
func (w *writer) transaction(ctx context.Context, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := do(ctx)
	if err == nil {
		_, err = w.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		// Some errors have rolled back already; then this one has nothing to do.
		_, _ = w.conn.ExecContext(ctx, "ROLLBACK")
	}
	return err
}

// write applies a batch in a transaction.
func (w *writer) write(ctx context.Context, b *projections.Batch) error {
	return w.transaction(ctx, func(ctx context.Context) error {
		moved, err := w.move.ExecContext(ctx, signed(b.To.Seq), b.To.EventID, micros(b.To.Clock), signed(b.From.Seq), b.From.EventID)
		if err := one(moved, err, projections.ErrCheckpointMoved); err != nil {
			return err
		}
		if err := w.writeKeys(ctx, b); err != nil {
			return err
		}
		return w.writeRows(ctx, rowsOf(b))
	})
}

// writeKeys makes the keys what the last of their versions are.
func (w *writer) writeKeys(ctx context.Context, b *projections.Batch) error {
	was := make(map[uint64]uint64, len(b.Ended)) // seq of the row that there must be, by the key's created_seq
	for _, e := range b.Ended {
		was[e.CreatedSeq] = e.FromSeq
	}
	var fresh []domain.KeyID
	args := make([]any, 0, columnsOf(keyInsertColumns)+1)
	for i := range b.Versions {
		v := &b.Versions[i]
		if v.ToSeq != 0 {
			continue
		}
		args = appendKey(args[:0], &v.KeyRecord)
		if v.CreatedSeq > b.From.Seq {
			if _, err := w.create.ExecContext(ctx, args...); err != nil {
				return fmt.Errorf("insert key %s: %w", v.ID, err)
			}
			fresh = append(fresh, v.ID)
			continue
		}
		changed, err := w.change.ExecContext(ctx, append(args, signed(was[v.CreatedSeq]))...)
		if err := one(changed, err, errNoVersion); err != nil {
			return fmt.Errorf("end version %d of key %s: %w", was[v.CreatedSeq], v.ID, err)
		}
		delete(was, v.CreatedSeq)
	}
	for created, seq := range was { // ended, and nothing in its place
		return fmt.Errorf("end version %d of the key created at %d: %w", seq, created, errNoVersion)
	}
	used, err := w.uses.of(ctx, fresh)
	if err != nil {
		return err
	}
	return w.useAll(ctx, used)
}

// useAll notes when keys were used, in the transaction that is open. Keys that
// there are not, or that were used later, stay as they are.
func (w *writer) useAll(ctx context.Context, used map[domain.KeyID]int64) error {
	for id, at := range used {
		if _, err := w.use.ExecContext(ctx, string(id), at); err != nil {
			return fmt.Errorf("note the use of key %s: %w", id, err)
		}
	}
	return nil
}

// writeRows inserts all that only grows.
func (w *writer) writeRows(ctx context.Context, r *rows) error {
	for _, table := range [...]struct {
		name string
		*inserter
		rows []any
	}{{"key_versions", w.versions, r.versions}, {"audit", w.audit, r.audit}, {"macs", w.macs, r.macs}, {"voids", w.voids, r.voids}} {
		if err := table.insert(ctx, table.rows); err != nil {
			return fmt.Errorf("insert into %s: %w", table.name, err)
		}
	}
	return nil
}

// rows are the rows of a batch as the inserters take them: the values, one row
// after the other.
type rows struct{ versions, audit, macs, voids []any }

func rowsOf(b *projections.Batch) *rows {
	r := &rows{
		versions: make([]any, 0, len(b.Versions)*columnsOf(versionColumns)),
		audit:    make([]any, 0, len(b.Audit)*columnsOf(auditColumns)),
		macs:     make([]any, 0, len(b.Macs)*columnsOf(macColumns)),
	}
	var buf []byte
	for i := range b.Versions {
		r.versions, buf = appendVersion(r.versions, &b.Versions[i], buf)
	}
	buf = nil
	for i := range b.Audit {
		r.audit, buf = appendAudit(r.audit, &b.Audit[i], buf)
	}
	for i := range b.Macs {
		m := &b.Macs[i]
		r.macs = append(r.macs, m.Hash[:], signed(m.Seq), string(m.Key))
	}
	for i := range b.Voids {
		v := &b.Voids[i]
		r.voids = append(r.voids, string(v.Key), string(v.Account), signed(v.Seq), string(v.Reason))
	}
	return r
}

var errNoVersion = errors.New("there is no such current version: the tables are not what the projector made")

// one returns missing unless exactly one row was changed.
func one(r sql.Result, err, missing error) error {
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n != 1 {
		return errors.Join(missing, err)
	}
	return nil
}
