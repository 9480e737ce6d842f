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

// writer writes batches through the one connection of db.
type writer struct {
	db                 *sql.DB
	keys, audit, macs  *inserter
	end, void, move    *sql.Stmt
	readCheckpointStmt *sql.Stmt
}

// newWriter prepares the statements. The tables exist.
func newWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	w := &writer{db: db}
	var err error
	prepare := func(query string) *sql.Stmt {
		if err != nil {
			return nil
		}
		var s *sql.Stmt
		s, err = db.PrepareContext(ctx, query)
		return s
	}
	inserter := func(table, columns string, rows int) *inserter {
		n := strings.Count(columns, ",") + 1
		return &inserter{
			rows: rows, columns: n,
			many: prepare(insert(table, columns, n, rows)), one: prepare(insert(table, columns, n, 1)),
		}
	}
	w.keys = inserter("keys", keyInsertColumns, keyRows)
	w.audit = inserter("audit", auditColumns, auditRows)
	w.macs = inserter("macs", "seq, hash, key_id", macRows)
	w.end = prepare(fmt.Sprintf("UPDATE keys SET to_seq = ? WHERE from_seq = ? AND key_id = ? AND to_seq = %d", openEnd))
	w.void = prepare("INSERT INTO voids (key_id, account, seq, reason) VALUES (?, ?, ?, ?)")
	w.move = prepare("UPDATE checkpoint SET seq = ?, event_id = ? WHERE seq = ? AND event_id = ?")
	w.readCheckpointStmt = prepare("SELECT seq, event_id FROM checkpoint")
	if err != nil {
		return nil, fmt.Errorf("prepare statements: %w", err)
	}
	return w, nil
}

func (w *writer) checkpoint(ctx context.Context) (projections.Checkpoint, error) {
	var cp projections.Checkpoint
	err := w.readCheckpointStmt.QueryRowContext(ctx).Scan(&cp.Seq, &cp.EventID)
	return cp, err
}

// write applies the batch in one transaction.
func (w *writer) write(ctx context.Context, b *projections.Batch) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // of no effect after a commit
	// Within the transaction nothing waits for a lock. A context that can end would
	// cost a goroutine for every statement.
	if err := w.writeRows(context.WithoutCancel(ctx), tx, b); err != nil {
		return err
	}
	return tx.Commit()
}

func (w *writer) writeRows(ctx context.Context, tx *sql.Tx, b *projections.Batch) error {
	moved, err := tx.StmtContext(ctx, w.move).ExecContext(ctx, signed(b.To.Seq), b.To.EventID, signed(b.From.Seq), b.From.EventID)
	if err := one(moved, err, projections.ErrCheckpointMoved); err != nil {
		return err
	}
	end := tx.StmtContext(ctx, w.end)
	for i := range b.Ended {
		e := &b.Ended[i]
		ended, err := end.ExecContext(ctx, signed(e.ToSeq), signed(e.FromSeq), string(e.Key))
		if err := one(ended, err, errNoVersion); err != nil {
			return fmt.Errorf("end version %d of key %s: %w", e.FromSeq, e.Key, err)
		}
	}
	err = w.keys.insert(ctx, tx, len(b.Versions), func(args []any, i int) []any { return appendKey(args, &b.Versions[i]) })
	if err != nil {
		return fmt.Errorf("insert keys: %w", err)
	}
	var buf []byte
	err = w.audit.insert(ctx, tx, len(b.Audit), func(args []any, i int) []any {
		args, buf = appendAudit(args, &b.Audit[i], buf)
		return args
	})
	if err != nil {
		return fmt.Errorf("insert audit: %w", err)
	}
	err = w.macs.insert(ctx, tx, len(b.Macs), func(args []any, i int) []any {
		m := &b.Macs[i]
		return append(args, signed(m.Seq), m.Hash[:], string(m.Key))
	})
	if err != nil {
		return fmt.Errorf("insert macs: %w", err)
	}
	for i := range b.Voids {
		v := &b.Voids[i]
		_, err := tx.StmtContext(ctx, w.void).ExecContext(ctx, string(v.Key), string(v.Account), signed(v.Seq), string(v.Reason))
		if err != nil {
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
	rows, columns int
	many, one     *sql.Stmt
	args          []any
}

// insert inserts n rows, the arguments of which row appends.
func (ins *inserter) insert(ctx context.Context, tx *sql.Tx, n int, row func(args []any, i int) []any) error {
	for done := 0; done < n; {
		stmt, rows := ins.many, ins.rows
		if n-done < rows {
			stmt, rows = ins.one, 1
		}
		ins.args = ins.args[:0]
		for i := range rows {
			ins.args = row(ins.args, done+i)
		}
		if _, err := tx.StmtContext(ctx, stmt).ExecContext(ctx, ins.args...); err != nil {
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
