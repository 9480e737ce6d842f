package sqlite

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	gosync "sync"

	"github.com/keyledger/keyledger/projections"
)

// comparison is a read transaction on the live file, and on the file of uses.
type comparison struct {
	build *builder
	live  *generation
	db    *sql.DB
	tx    *sql.Tx
	at    projections.Checkpoint

	attached bool // the build's file is
	once     gosync.Once
	closed   error // how closing it ended
}

// Compare implements projections.Build.
func (b *builder) Compare(ctx context.Context) (projections.Comparison, error) {
	b.s.mu.Lock() // so that both files say the same
	defer b.s.mu.Unlock()
	b.mu.Lock()
	over := b.over
	b.mu.Unlock()
	if over != nil {
		return nil, b.explain("compare", over)
	}
	if err := b.s.copyUses(ctx); err != nil {
		return nil, b.s.explain("copy when keys were used", err)
	}
	g, err := b.s.enter()
	if err != nil {
		return nil, b.s.explain("compare", err)
	}
	c := &comparison{build: b, live: g, at: *g.at.Load()}
	b.s.views.Store(c, nil)
	if err := c.open(ctx, b.s.usage()); err != nil {
		return nil, b.s.explain("compare", errors.Join(err, c.Close()))
	}
	return c, nil
}

func (c *comparison) open(ctx context.Context, usage string) error {
	var err error
	if c.db, err = openDB(c.live.path, "rw", 1, "busy_timeout(1000)", "query_only(1)", "cache_size(-16384)"); err != nil {
		return err
	}
	if _, err := c.db.ExecContext(ctx, "ATTACH ? AS usage", fileURL(usage, url.Values{"mode": {"rw"}})); err != nil {
		return err
	}
	if c.tx, err = c.db.BeginTx(context.WithoutCancel(ctx), nil); err != nil {
		return err
	}
	// A transaction sees a file as it was when it first read from it.
	for _, first := range [...]string{"SELECT seq FROM main.checkpoint", "SELECT one FROM usage.state"} {
		if err := each(ctx, c.tx, first, nil, func(*values) (bool, error) { return false, nil }); err != nil {
			return err
		}
	}
	return nil
}

// At implements projections.Comparison.
func (c *comparison) At() projections.Checkpoint { return c.at }

// Close implements projections.Comparison. Closing the store does it too.
func (c *comparison) Close() error {
	c.once.Do(func() {
		if c.tx != nil {
			c.closed = c.tx.Rollback()
		}
		if c.db != nil {
			c.closed = errors.Join(c.closed, c.db.Close())
		}
		c.live.leave()
		c.build.s.views.Delete(c)
	})
	return c.closed
}

// Differences implements projections.Comparison.
func (c *comparison) Differences(ctx context.Context, progress func(table string, rows int64), yield func(projections.Difference) error) error {
	const doing = "compare"
	b := c.build
	file, at, err := b.sealed(ctx)
	if err != nil {
		return b.explain(doing, err)
	}
	if at.Seq != c.at.Seq || at.EventID != c.at.EventID {
		return b.explain(doing, fmt.Errorf("the build is at seq %d, not %d", at.Seq, c.at.Seq))
	}
	if !c.attached {
		if _, err := c.tx.ExecContext(ctx, "ATTACH ? AS build", fileURL(file, url.Values{"mode": {"rw"}})); err != nil {
			return b.explain(doing, err)
		}
		c.attached = true
	}
	if err := c.clock(ctx, at, yield); err != nil {
		return err
	}
	if err := c.indexes(ctx, yield); err != nil {
		return err
	}
	var stopped error
	for _, t := range comparedTables() {
		err := t.differences(ctx, c.tx, func(rows int64) { progress(t.name, rows) }, func(d projections.Difference) error {
			d.Table = t.name
			stopped = yield(d)
			return stopped
		})
		if stopped != nil {
			return stopped
		}
		if err != nil {
			return b.explain(doing+" table "+t.name, err)
		}
	}
	return nil
}

// clock yields the clock of the checkpoint if it is not that of the build's event.
func (c *comparison) clock(ctx context.Context, at projections.Checkpoint, yield func(projections.Difference) error) error {
	d := projections.Difference{Table: "checkpoint", Row: "1", Column: "clock", Want: valueText(micros(at.Clock))}
	err := each(ctx, c.tx, "SELECT clock FROM main.checkpoint", nil, func(v *values) (bool, error) {
		d.Got = valueText(v.row[0])
		return false, nil
	})
	if err != nil {
		return c.build.explain("compare the checkpoint", err)
	}
	if d.Got == d.Want {
		return nil
	}
	return yield(d)
}

// indexes yields the indexes of this schema that are missing or others.
func (c *comparison) indexes(ctx context.Context, yield func(projections.Difference) error) error {
	got := make(map[string]string)
	err := each(ctx, c.tx, "SELECT name, sql FROM main.sqlite_schema WHERE type = 'index' AND sql IS NOT NULL", nil, func(v *values) (bool, error) {
		name := v.text()
		got[name] = v.text()
		return true, nil
	})
	if err != nil {
		return c.build.explain("compare the indexes", err)
	}
	for _, want := range indexes() {
		before, _, _ := strings.Cut(want, " ON ")
		name := before[strings.LastIndex(before, " ")+1:]
		if got[name] == want {
			continue
		}
		d := projections.Difference{Table: "indexes", Row: name, Want: want, Got: got[name]}
		if d.Got != "" {
			d.Column = "sql"
		}
		if err := yield(d); err != nil {
			return err
		}
	}
	return nil
}

// sealed closes the build's file for the comparison, and returns which it is and how
// far it goes.
func (b *builder) sealed(ctx context.Context) (string, projections.Checkpoint, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.whole != nil {
		return b.path, b.at, b.over
	}
	ctx, cancel := b.untilClosed(ctx)
	defer cancel()
	err := b.seal(ctx, nil)
	if err != nil {
		b.failed = err
	}
	return b.path + buildSuffix, b.at, err
}

// comparedTable is how a table is compared.
type comparedTable struct {
	name    string
	key     []string // the primary key
	columns []string // all columns; key first
	subject string   // the column that holds the key's id, "" if the primary key or the record tells
	// want gives what a column of the live table is held against, if it is not what the
	// build has.
	want map[string]string
}

func comparedTables() []comparedTable {
	columns := func(list string) []string { return strings.Split(list, ", ") }
	return []comparedTable{
		{
			name: "keys", key: columns("created_seq"), columns: columns(keyInsertColumns), subject: "key_id",
			// As it was when the comparison began: uses go on.
			want: map[string]string{"last_used": "ifnull((SELECT at FROM usage.uses WHERE key_id = b.key_id), 0)"},
		},
		{name: "key_versions", key: columns("from_seq"), columns: columns(versionColumns)},
		{name: "audit", key: columns("seq"), columns: columns(auditColumns), subject: "subject"},
		{name: "macs", key: columns("hash"), columns: columns(macColumns), subject: "key_id"},
		{name: "voids", key: columns("key_id, account"), columns: columns(voidColumns)},
	}
}

// rowsPerStep is how many rows of the live table are held against the build's in one
// query.
const rowsPerStep = 20_000

// differences goes through the rows of both tables in the order of their key.
func (t *comparedTable) differences(ctx context.Context, on querier, progress func(int64), yield func(projections.Difference) error) error {
	var from []any // the key of the last row looked at
	for done := int64(0); ; done += rowsPerStep {
		progress(done)
		end, err := collect(ctx, on, t.step(from), from, func(v *values) ([]any, error) { return append([]any(nil), v.row...), nil })
		if err != nil {
			return err
		}
		var to []any
		if len(end) > 0 {
			to = end[0]
		}
		if err := t.between(ctx, on, from, to, yield); err != nil {
			return err
		}
		if to == nil {
			rest, err := collect(ctx, on, t.count(from), from, func(v *values) (int64, error) { return v.integer(), nil })
			if err == nil && len(rest) > 0 {
				progress(done + rest[0])
			}
			return err
		}
		from = to
	}
}

// count counts the rows of the last step.
func (t *comparedTable) count(from []any) string {
	condition := ""
	if from != nil {
		condition = " WHERE " + t.beyond("", ">")
	}
	return "SELECT count(*) FROM main." + t.name + condition
}

// step finds the end of the next step.
func (t *comparedTable) step(from []any) string {
	key := strings.Join(t.key, ", ")
	condition := ""
	if from != nil {
		condition = " WHERE " + t.beyond("", ">")
	}
	return fmt.Sprintf("SELECT %s FROM main.%s%s ORDER BY %s LIMIT 1 OFFSET %d", key, t.name, condition, key, rowsPerStep-1)
}

// beyond compares the key with parameters.
func (t *comparedTable) beyond(alias, how string) string {
	return fmt.Sprintf("(%s) %s (%s)", t.list(alias, t.key), how, strings.TrimSuffix(strings.Repeat("?, ", len(t.key)), ", "))
}

func (t *comparedTable) list(alias string, columns []string) string {
	named := make([]string, len(columns))
	for i, column := range columns {
		named[i] = alias + column
	}
	return strings.Join(named, ", ")
}

// between yields the differences of rows beyond from, up to to.
func (t *comparedTable) between(ctx context.Context, on querier, from, to []any, yield func(projections.Difference) error) error {
	text, args := t.query(from, to)
	n := len(t.columns)
	return each(ctx, on, text, args, func(v *values) (bool, error) {
		state := v.integer()
		v.next += len(t.key)
		got, want := v.row[v.next:v.next+n], v.row[v.next+n:]
		d := projections.Difference{}
		switch state {
		case inLive:
			d.Row, d.Got = t.rowName(got), t.rowText(got)
			return true, yield(d)
		case inBuild:
			d.Row, d.Want = t.rowName(want), t.rowText(want)
			return true, yield(d)
		}
		d.Row = t.rowName(want)
		columns := t.columns
		if t.name == "key_versions" {
			columns, want, got = versionMembers(want, got)
		}
		for i, column := range columns {
			if w, g := valueText(want[i]), valueText(got[i]); w != g {
				d.Column, d.Want, d.Got = column, w, g
				if err := yield(d); err != nil {
					return false, err
				}
			}
		}
		return true, nil
	})
}

// In which of the tables a row is, when it is not the same in both.
const (
	inBoth = iota
	inLive
	inBuild
)

// query finds rows that differ: two queries, each in the order of the key, that
// SQLite merges without gathering anything.
func (t *comparedTable) query(from, to []any) (string, []any) {
	var bounds [2]string
	var args []any
	for i, alias := range [...]string{"l.", "b."} {
		if from != nil {
			bounds[i] += " AND " + t.beyond(alias, ">")
			args = append(args, from...)
		}
		if to != nil {
			bounds[i] += " AND " + t.beyond(alias, "<=")
			args = append(args, to...)
		}
	}
	want := make([]string, len(t.columns))
	differ := make([]string, len(t.columns))
	for i, column := range t.columns {
		if want[i] = t.want[column]; want[i] == "" {
			want[i] = "b." + column
		}
		differ[i] = fmt.Sprintf("l.%s IS NOT %s", column, want[i])
	}
	same := make([]string, len(t.key))
	orders := make([]string, len(t.key))
	for i, column := range t.key {
		same[i] = fmt.Sprintf("l.%s = b.%s", column, column)
		orders[i] = fmt.Sprint(i + 2)
	}
	live, build := t.list("l.", t.columns), strings.Join(want, ", ")
	none := strings.TrimSuffix(strings.Repeat("NULL, ", len(t.columns)), ", ")
	on := strings.Join(same, " AND ")
	return fmt.Sprintf(`SELECT iif(b.%[1]s IS NULL, %[2]d, %[3]d), %[4]s, %[5]s, %[6]s FROM main.%[7]s AS l LEFT JOIN build.%[7]s AS b ON %[8]s WHERE (%[9]s)%[10]s
		UNION ALL SELECT %[11]d, %[12]s, %[13]s, %[6]s FROM build.%[7]s AS b WHERE NOT EXISTS (SELECT 1 FROM main.%[7]s AS l WHERE %[8]s)%[14]s
		ORDER BY %[15]s`,
		t.key[0], inLive, inBoth, t.list("l.", t.key), live, build, t.name, on, strings.Join(differ, " OR "), bounds[0],
		inBuild, t.list("b.", t.key), none, bounds[1], strings.Join(orders, ", ")), args
}

// rowName names a row by its primary key, with the key's id.
func (t *comparedTable) rowName(row []any) string {
	parts := make([]string, len(t.key))
	for i := range t.key {
		parts[i] = valueText(row[i])
	}
	var name strings.Builder
	name.WriteString(strings.Join(parts, " "))
	for i, column := range t.columns {
		if column == t.subject {
			name.WriteString(" (" + valueText(row[i]) + ")")
		}
	}
	if t.name == "key_versions" {
		if record, err := recordOf(row); err == nil {
			name.WriteString(" (" + string(record.ID) + ")")
		}
	}
	return name.String()
}

// rowText writes out a whole row.
func (t *comparedTable) rowText(row []any) string {
	columns := t.columns
	if t.name == "key_versions" {
		columns, row, _ = versionMembers(row, row)
	}
	parts := make([]string, 0, len(columns))
	for i, column := range columns {
		if row[i] != nil {
			parts = append(parts, column+"="+valueText(row[i]))
		}
	}
	return strings.Join(parts, " ")
}

// versionMembers takes the records of two rows of key_versions apart, if both can be read.
func versionMembers(want, got []any) (columns []string, wantMembers, gotMembers []any) {
	w, err := recordOf(want)
	g, err2 := recordOf(got)
	columns = strings.Split(versionColumns, ", ")
	if err != nil || err2 != nil {
		return columns, want, got
	}
	last := len(columns) - 1
	columns = append(columns[:last], strings.Split(keyInsertColumns, ", ")...)
	return columns, appendKey(append([]any(nil), want[:last]...), &w), appendKey(append([]any(nil), got[:last]...), &g)
}

func recordOf(row []any) (projections.KeyRecord, error) {
	blob, _ := row[len(row)-1].([]byte)
	return parseRecord(blob)
}

// valueText is a stored value for people.
func valueText(value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case []byte:
		return hex.EncodeToString(value)
	default:
		return fmt.Sprint(value)
	}
}
