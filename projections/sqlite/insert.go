package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

// Rows in one INSERT statement: fewer calls, up to where longer statements stop
// paying.
const (
	keyRows     = 16
	versionRows = 64
	auditRows   = 32
	macRows     = 128
	voidRows    = 16
)

// statements prepares statements on one connection.
type statements struct {
	conn *sql.Conn
	all  []*sql.Stmt
	err  error // the first; nothing is prepared after it
}

func (s *statements) prepare(ctx context.Context, query string) *sql.Stmt {
	if s.err != nil {
		return nil
	}
	stmt, err := s.conn.PrepareContext(ctx, query)
	if err != nil {
		s.err = err
		return nil
	}
	s.all = append(s.all, stmt)
	return stmt
}

// close closes them all: one that is left keeps the file locked.
func (s *statements) close() error {
	var errs []error
	for _, stmt := range s.all {
		errs = append(errs, stmt.Close())
	}
	s.all = nil
	return errors.Join(errs...)
}

// inserter inserts rows into one table, many by one statement.
type inserter struct {
	columns, rows int
	many, one     *sql.Stmt
}

func (s *statements) inserter(ctx context.Context, table, columns string, rows int) *inserter {
	n := columnsOf(columns)
	return &inserter{
		columns: n, rows: rows,
		many: s.prepare(ctx, insert(table, columns, n, rows)), one: s.prepare(ctx, insert(table, columns, n, 1)),
	}
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
