package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/keyledger/keyledger/projections"
)

// progressEvery is after how many rows a comparison tells how far it is.
const progressEvery = 10_000

// comparison is a view of the live tables: a transaction that sees one instant. The
// build goes on after that, so the two are read side by side, each on its own
// connection in the order of the rows, and held against each other here.
type comparison struct {
	build  *build
	conn   *session
	tx     pgx.Tx
	schema string
	id     int64
	at     projections.Checkpoint
}

// Compare implements projections.Build.
func (b *build) Compare(ctx context.Context) (projections.Comparison, error) {
	const doing = "open a view of the live tables"
	conn, err := b.store.connect(ctx)
	if err != nil {
		return nil, b.store.explain(doing, err)
	}
	c := &comparison{build: b, conn: conn}
	ctx, cancel := context.WithTimeout(ctx, answerWithin) // for the call: the transaction outlives it
	defer cancel()
	c.tx, err = conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err == nil {
		c.id, c.at, err = liveSetOf(ctx, c.tx)
	}
	if err != nil {
		conn.end(ctx)
		return nil, b.store.explain(doing, err)
	}
	c.schema = schemaName(c.id)
	return c, nil
}

// At implements projections.Comparison.
func (c *comparison) At() projections.Checkpoint { return c.at }

// Close implements projections.Comparison.
func (c *comparison) Close() error {
	c.conn.end(context.Background())
	return nil
}

// compared is a table as it is compared: by the columns of the key, then the others.
type compared struct {
	table   string
	key     []string // the columns that order the rows, and name them
	compare []func(a, b []byte) int
	columns []string // all, key first
	// use says that the last column is last_used_at, and is held against the table
	// of uses and not against the build, which does not have the latest.
	use bool
}

func comparedTables() []compared {
	var keys []string
	for _, column := range keyColumns {
		if column.name != "created_seq" && column.name != "key_id" {
			keys = append(keys, column.name)
		}
	}
	versions := []string{"from_seq"}
	for _, column := range keyColumns[1:] {
		versions = append(versions, column.name)
	}
	number, text := compareNumbers, bytes.Compare
	return []compared{
		{table: "keys", key: []string{"created_seq", "key_id"}, compare: []func(a, b []byte) int{number, text},
			columns: append(append([]string{"created_seq", "key_id"}, keys...), "last_used_at"), use: true},
		{table: "key_versions", key: []string{"from_seq"}, compare: []func(a, b []byte) int{number}, columns: append(versions, "to_seq")},
		{table: "audit", key: []string{"seq"}, compare: []func(a, b []byte) int{number}, columns: strings.Split(auditNames, ", ")},
		{table: "macs", key: []string{"hash"}, compare: []func(a, b []byte) int{text}, columns: strings.Split(macNames, ", ")},
		{table: "voids", key: []string{"key_id", "account"}, compare: []func(a, b []byte) int{text, text}, columns: []string{"key_id", "account", "seq", "reason"}},
	}
}

// compareNumbers compares numbers that are not negative, as text.
func compareNumbers(a, b []byte) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return bytes.Compare(a, b)
}

// Differences implements projections.Comparison.
func (c *comparison) Differences(ctx context.Context, progress func(table string, rows int64), yield func(projections.Difference) error) error {
	const doing = "compare the tables"
	if err := c.build.finish(ctx, false); err != nil {
		return c.build.store.explain(doing, err)
	}
	if got, want := c.at.Clock, c.build.at.Clock; !got.Equal(want) {
		// What the checkpoint has, beside the event that both are at.
		err := yield(projections.Difference{Table: "builds", Row: strconv.FormatInt(c.id, 10), Column: "clock", Want: clockText(want), Got: clockText(got)})
		if err != nil {
			return err
		}
	}
	for _, table := range comparedTables() {
		d := differ{table: table, progress: progress, yield: yield}
		if err := d.run(ctx, c); err != nil {
			if d.refused != nil {
				return d.refused
			}
			return c.build.store.explain(doing+": "+table.table, err)
		}
	}
	return nil
}

func clockText(clock time.Time) string {
	if clock.IsZero() {
		return "NULL"
	}
	return clock.Format(time.RFC3339Nano)
}

// differ compares one table.
type differ struct {
	table    compared
	progress func(table string, rows int64)
	yield    func(projections.Difference) error
	refused  error // of yield
	looked   int64
}

func (d *differ) query(schema string, live bool) string {
	columns := strings.Join(d.table.columns, ", ")
	from := schema + "." + d.table.table + " t"
	if d.table.use && live {
		columns = "t." + strings.Join(d.table.columns, ", t.") + ", u.last_used_at"
		from += " LEFT JOIN keyledger.usage u ON u.key_id = t.key_id"
	}
	return fmt.Sprintf("SELECT %s FROM %s ORDER BY t.%s", columns, from, strings.Join(d.table.key, ", t."))
}

func (d *differ) run(ctx context.Context, c *comparison) error {
	asText := pgx.QueryResultFormats{pgtype.TextFormatCode}
	got, err := c.tx.Query(ctx, d.query(c.schema, true), asText)
	if err != nil {
		return err
	}
	defer got.Close()
	want, err := c.build.conn.Query(ctx, d.query(c.build.schema, false), asText)
	if err != nil {
		return err
	}
	defer want.Close()
	hasGot, hasWant := got.Next(), want.Next()
	for hasGot || hasWant {
		var order int
		switch {
		case !hasWant:
			order = -1
		case !hasGot:
			order = 1
		default:
			order = d.order(got.RawValues(), want.RawValues())
		}
		var err error
		switch {
		case order < 0:
			err = d.whole(got.RawValues(), true)
		case order > 0:
			err = d.whole(want.RawValues(), false)
		default:
			err = d.row(got.RawValues(), want.RawValues())
		}
		if err != nil {
			d.refused = err
			return err
		}
		if order <= 0 {
			hasGot = got.Next()
		}
		if order >= 0 {
			hasWant = want.Next()
		}
		if d.looked++; d.looked%progressEvery == 0 {
			d.progress(d.table.table, d.looked)
		}
	}
	d.progress(d.table.table, d.looked)
	return errors.Join(got.Err(), want.Err())
}

func (d *differ) order(a, b [][]byte) int {
	for i, compare := range d.table.compare {
		if n := compare(a[i], b[i]); n != 0 {
			return n
		}
	}
	return 0
}

// name is what a row is called: by its primary key, with the key's id.
func (d *differ) name(row [][]byte) string {
	parts := make([]string, 0, 3)
	for i := range d.table.key {
		parts = append(parts, string(row[i]))
	}
	for i, column := range d.table.columns {
		if i >= len(d.table.key) && (column == "key_id" || column == "subject") {
			parts = append(parts, string(row[i]))
		}
	}
	return strings.Join(parts, " ")
}

// whole reports a row that is missing, or should not be there.
func (d *differ) whole(row [][]byte, extra bool) error {
	texts := make([]string, len(d.table.columns))
	for i, column := range d.table.columns {
		texts[i] = column + "=" + value(row[i])
	}
	found := projections.Difference{Table: d.table.table, Row: d.name(row)}
	if extra {
		found.Got = strings.Join(texts, " ")
	} else {
		found.Want = strings.Join(texts, " ")
	}
	return d.yield(found)
}

func (d *differ) row(got, want [][]byte) error {
	for i, column := range d.table.columns {
		g, w := got[i], want[i]
		if d.table.use && i == len(d.table.columns)-1 {
			w = got[i+1]
		}
		if bytes.Equal(g, w) && (g == nil) == (w == nil) {
			continue
		}
		found := projections.Difference{Table: d.table.table, Row: d.name(got), Column: column, Want: value(w), Got: value(g)}
		if err := d.yield(found); err != nil {
			return err
		}
	}
	return nil
}

func value(text []byte) string {
	if text == nil {
		return "NULL"
	}
	return string(text)
}
