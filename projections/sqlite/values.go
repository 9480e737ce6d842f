package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// querier is what runs queries: a connection, a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// values are the values of one row, read one after the other. NULL reads as zero.
// The first that is of another type than its column shows in err: the tables are
// strict, so the file is damaged then.
type values struct {
	row  []any
	next int
	err  error
}

func (v *values) take() any {
	value := v.row[v.next]
	v.next++
	return value
}

func (v *values) text() string {
	switch value := v.take().(type) {
	case string:
		return value
	case nil:
	default:
		v.bad(value, "text")
	}
	return ""
}

func (v *values) blob() []byte {
	switch value := v.take().(type) {
	case []byte:
		return value
	case nil:
	default:
		v.bad(value, "a blob")
	}
	return nil
}

func (v *values) integer() int64 {
	switch value := v.take().(type) {
	case int64:
		return value
	case nil:
	default:
		v.bad(value, "an integer")
	}
	return 0
}

func (v *values) seq() uint64 { return uint64(v.integer()) } //nolint:gosec // see signed

func (v *values) time() time.Time {
	if v.row[v.next] == nil {
		v.next++
		return time.Time{}
	}
	return time.UnixMicro(v.integer()).UTC()
}

func (v *values) bad(value any, want string) {
	if v.err == nil {
		v.err = fmt.Errorf("column %d holds %T, not %s", v.next, value, want)
	}
}

// each runs a query and reads its rows, until row says that it has enough.
func each(ctx context.Context, on querier, query string, args []any, row func(*values) (more bool, err error)) error {
	rows, err := on.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	v := values{row: make([]any, len(columns))}
	into := make([]any, len(columns))
	for i := range into {
		into[i] = &v.row[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		v.next = 0
		more, err := row(&v)
		if err == nil {
			err = v.err
		}
		if err != nil || !more {
			return err
		}
	}
	return rows.Err()
}

// collect runs a query and reads all its rows, each with scan.
func collect[T any](ctx context.Context, on querier, query string, args []any, scan func(*values) (T, error)) ([]T, error) {
	var found []T
	err := each(ctx, on, query, args, func(v *values) (bool, error) {
		value, err := scan(v)
		found = append(found, value)
		return true, err
	})
	return found, err
}

func fromMicros(n int64) time.Time { return time.UnixMicro(n).UTC() }
