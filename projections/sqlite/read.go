package sqlite

import (
	"context"
	"errors"
	"strings"

	"github.com/keyledger/keyledger/projections"
)

// read does it within one read transaction on the live tables, so that it sees one
// state of them, and keeps their file open as long.
func (s *Store) read(ctx context.Context, do func(context.Context, querier) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	g, err := s.enter()
	if err != nil {
		return err
	}
	defer g.leave()
	tx, err := g.readers.BeginTx(ctx, nil)
	if err == nil {
		err = errors.Join(do(ctx, tx), tx.Rollback())
	}
	if err != nil && ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err) // the driver's own words for it are several
	}
	return err
}

// enter takes hold of the live tables.
func (s *Store) enter() (*generation, error) {
	for {
		g := s.live.Load()
		switch {
		case s.closed.Load():
			return nil, errClosed
		case g == nil:
			return nil, errNoTables
		case g.enter():
			return g, nil
		}
		// It was retired since it was loaded: there is another.
	}
}

// where collects conditions and their arguments.
type where struct {
	conditions []string
	args       []any
}

func (w *where) and(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

func (w *where) equal(column, value string) {
	if value != "" {
		w.and(column+" = ?", value)
	}
}

// within takes what is in a range, in a column that is NULL, or none, where there is
// no such time.
func (w *where) within(column string, r projections.TimeRange, none int64) {
	if r.IsZero() {
		return
	}
	w.and(column+" <> ?", none)
	if !r.From.IsZero() {
		w.and(column+" >= ?", r.From.UnixMicro())
	}
	if !r.Before.IsZero() {
		w.and(column+" < ?", r.Before.UnixMicro())
	}
}

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}

// query is a statement and its arguments.
type query struct {
	text string
	args []any
}
