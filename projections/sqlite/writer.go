package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/keyledger/keyledger/projections"
)

// Rows in one INSERT statement: fewer calls, up to where longer statements stop
// paying.
const (
	keyRows   = 32
	auditRows = 64
	macRows   = 128
	voidRows  = 32
)

// writer writes batches through one connection.
type writer struct {
	db   *sql.DB
	conn *sql.Conn

	keys, audit, macs, voids *inserter
	end, move, checkpoint    *sql.Stmt
	statements               []*sql.Stmt // all of them
}

// newWriter takes a connection of db and prepares the statements. The tables
// exist. close closes db too.
func newWriter(ctx context.Context, db *sql.DB, conn *sql.Conn) (*writer, error) {
	w := &writer{db: db, conn: conn}
	var err error
	prepare := func(query string) *sql.Stmt {
		if err != nil {
			return nil
		}
		var s *sql.Stmt
		if s, err = conn.PrepareContext(ctx, query); err == nil {
			w.statements = append(w.statements, s)
		}
		return s
	}
	inserter := func(table, columns string, rows int) *inserter {
		n := columnsOf(columns)
		return &inserter{columns: n, rows: rows, many: prepare(insert(table, columns, n, rows)), one: prepare(insert(table, columns, n, 1))}
	}
	w.keys = inserter("keys", keyInsertColumns, keyRows)
	w.audit = inserter("audit", auditColumns, auditRows)
	w.macs = inserter("macs", macColumns, macRows)
	w.voids = inserter("voids", voidColumns, voidRows)
	w.end = prepare(fmt.Sprintf("UPDATE keys SET to_seq = ? WHERE from_seq = ? AND key_id = ? AND to_seq = %d", openEnd))
	w.move = prepare("UPDATE checkpoint SET seq = ?, event_id = ? WHERE seq = ? AND event_id = ?")
	w.checkpoint = prepare("SELECT seq, event_id FROM checkpoint")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare statements: %w", err), w.close())
	}
	return w, nil
}

// close closes the statements too: one that is left keeps the file locked.
func (w *writer) close() error {
	var errs []error
	for _, s := range w.statements {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close(), w.db.Close())...)
}

func (w *writer) readCheckpoint(ctx context.Context) (projections.Checkpoint, error) {
	var cp projections.Checkpoint
	err := w.checkpoint.QueryRowContext(ctx).Scan(&cp.Seq, &cp.EventID)
	return cp, err
}

// write applies the rows in a transaction.
func (w *writer) write(ctx context.Context, r *rows) error {
	if _, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := w.writeRows(ctx, r)
	if err == nil {
		_, err = w.conn.ExecContext(context.WithoutCancel(ctx), "COMMIT")
	}
	if err != nil {
		// Some errors have rolled back already; then this one has nothing to do.
		_, _ = w.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return err
}

// writeRows applies the rows in the transaction that is open.
func (w *writer) writeRows(ctx context.Context, r *rows) error {
	// Inside, nothing waits for a lock, and a context that can end would cost a
	// goroutine for every statement.
	ctx = context.WithoutCancel(ctx)
	moved, err := w.move.ExecContext(ctx, signed(r.to.Seq), r.to.EventID, signed(r.from.Seq), r.from.EventID)
	if err := one(moved, err, projections.ErrCheckpointMoved); err != nil {
		return err
	}
	for i := range r.ended {
		e := &r.ended[i]
		ended, err := w.end.ExecContext(ctx, signed(e.ToSeq), signed(e.FromSeq), string(e.Key))
		if err := one(ended, err, errNoVersion); err != nil {
			return fmt.Errorf("end version %d of key %s: %w", e.FromSeq, e.Key, err)
		}
	}
	if err := w.keys.insert(ctx, r.keys); err != nil {
		return fmt.Errorf("insert keys: %w", err)
	}
	if err := w.audit.insert(ctx, r.audit); err != nil {
		return fmt.Errorf("insert audit: %w", err)
	}
	if err := w.macs.insert(ctx, r.macs); err != nil {
		return fmt.Errorf("insert macs: %w", err)
	}
	if err := w.voids.insert(ctx, r.voids); err != nil {
		return fmt.Errorf("insert void keys: %w", err)
	}
	return nil
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

// inserter inserts rows into one table, many by one statement.
type inserter struct {
	columns, rows int
	many, one     *sql.Stmt
}

// insert inserts rows, given by all their values.
func (ins *inserter) insert(ctx context.Context, values []any) error {
	for len(values) > 0 {
		stmt, n := ins.many, ins.columns*ins.rows
		if len(values) < n {
			stmt, n = ins.one, ins.columns
		}
		if _, err := stmt.ExecContext(ctx, values[:n]...); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

func insert(table, columns string, n, rows int) string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", n), ", ") + ")"
	return "INSERT INTO " + table + " (" + columns + ") VALUES " + strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}
