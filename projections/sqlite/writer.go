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
)

// writer writes batches through one connection.
type writer struct {
	db   *sql.DB
	conn *sql.Conn
	// lasting says that all batches are in the one transaction of a build.
	lasting bool

	keys, audit, macs           *inserter
	end, void, move, checkpoint *sql.Stmt
	statements                  []*sql.Stmt // all of them
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
		n := strings.Count(columns, ",") + 1
		return &inserter{rows: rows, many: prepare(insert(table, columns, n, rows)), one: prepare(insert(table, columns, n, 1))}
	}
	w.keys = inserter("keys", keyInsertColumns, keyRows)
	w.audit = inserter("audit", auditColumns, auditRows)
	w.macs = inserter("macs", "seq, hash, key_id", macRows)
	w.end = prepare(fmt.Sprintf("UPDATE keys SET to_seq = ? WHERE from_seq = ? AND key_id = ? AND to_seq = %d", openEnd))
	w.void = prepare("INSERT INTO voids (key_id, account, seq, reason) VALUES (?, ?, ?, ?)")
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

// write applies the batch, in a transaction of its own unless there is a lasting one.
func (w *writer) write(ctx context.Context, b *projections.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.lasting {
		return w.writeRows(context.WithoutCancel(ctx), b)
	}
	if _, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	// Inside, nothing waits for a lock, and a context that can end would cost a
	// goroutine for every statement.
	ctx = context.WithoutCancel(ctx)
	err := w.writeRows(ctx, b)
	if err == nil {
		_, err = w.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		// Some errors have rolled back already; then this one has nothing to do.
		_, _ = w.conn.ExecContext(ctx, "ROLLBACK")
	}
	return err
}

func (w *writer) writeRows(ctx context.Context, b *projections.Batch) error {
	moved, err := w.move.ExecContext(ctx, signed(b.To.Seq), b.To.EventID, signed(b.From.Seq), b.From.EventID)
	if err := one(moved, err, projections.ErrCheckpointMoved); err != nil {
		return err
	}
	for i := range b.Ended {
		e := &b.Ended[i]
		ended, err := w.end.ExecContext(ctx, signed(e.ToSeq), signed(e.FromSeq), string(e.Key))
		if err := one(ended, err, errNoVersion); err != nil {
			return fmt.Errorf("end version %d of key %s: %w", e.FromSeq, e.Key, err)
		}
	}
	err = w.keys.insert(ctx, len(b.Versions), func(args []any, i int) []any { return appendKey(args, &b.Versions[i]) })
	if err != nil {
		return fmt.Errorf("insert keys: %w", err)
	}
	var buf []byte
	err = w.audit.insert(ctx, len(b.Audit), func(args []any, i int) []any {
		args, buf = appendAudit(args, &b.Audit[i], buf)
		return args
	})
	if err != nil {
		return fmt.Errorf("insert audit: %w", err)
	}
	err = w.macs.insert(ctx, len(b.Macs), func(args []any, i int) []any {
		m := &b.Macs[i]
		return append(args, signed(m.Seq), m.Hash[:], string(m.Key))
	})
	if err != nil {
		return fmt.Errorf("insert macs: %w", err)
	}
	for i := range b.Voids {
		v := &b.Voids[i]
		if _, err := w.void.ExecContext(ctx, string(v.Key), string(v.Account), signed(v.Seq), string(v.Reason)); err != nil {
			return fmt.Errorf("insert void key %s: %w", v.Key, err)
		}
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
	rows      int
	many, one *sql.Stmt
	args      []any
}

// insert inserts n rows, the arguments of which row appends.
func (ins *inserter) insert(ctx context.Context, n int, row func(args []any, i int) []any) error {
	for done := 0; done < n; {
		stmt, rows := ins.many, ins.rows
		if n-done < rows {
			stmt, rows = ins.one, 1
		}
		ins.args = ins.args[:0]
		for i := range rows {
			ins.args = row(ins.args, done+i)
		}
		if _, err := stmt.ExecContext(ctx, ins.args...); err != nil {
			return err
		}
		done += rows
	}
	clear(ins.args) // keep the array, not what it points at
	return nil
}

func insert(table, columns string, n, rows int) string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", n), ", ") + ")"
	return "INSERT INTO " + table + " (" + columns + ") VALUES " + strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}
