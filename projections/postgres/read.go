package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// where collects conditions and the arguments of a query.
type where struct{ args []any }

func (w *where) arg(v any) string {
	w.args = append(w.args, v)
	return fmt.Sprintf("$%d", len(w.args))
}

// list is a query of a list, as its parts. Candidates come in the order of an index
// and are bounded; the filter chooses among them.
type list struct {
	where
	columns, table    string
	candidate, filter []string
	order             string
	place             string // what order begins with, where that is no column
	scan, limit       int
	// past is the query of the version, of a candidate k, that held then; "" for lists of
	// the present. It is looked up candidate by candidate, so that a key with a long
	// history costs no more than others.
	past string
}

// storable reports whether a text can be in the database. One that cannot (invalid
// UTF-8, NUL) is no error in a question: nothing is equal to it.
func storable(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }

func (l *list) equal(conditions *[]string, column, value string) {
	switch {
	case value == "":
	case !storable(value):
		*conditions = append(*conditions, "false")
	default:
		*conditions = append(*conditions, column+" = "+l.arg(value))
	}
}

func (l *list) within(conditions *[]string, column string, r projections.TimeRange) {
	if !r.From.IsZero() {
		*conditions = append(*conditions, column+" >= "+l.arg(r.From))
	}
	if !r.Before.IsZero() {
		*conditions = append(*conditions, column+" < "+l.arg(r.Before))
	}
}

func conditions(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(list, " AND ")
}

func (l *list) candidates(columns, bound string) string {
	return fmt.Sprintf("SELECT %s FROM %s%s ORDER BY %s %s", columns, l.table, conditions(l.candidate), l.order, bound)
}

// rows is the query of the rows.
func (l *list) rows() string {
	if l.past != "" {
		return fmt.Sprintf("SELECT %s FROM %s ORDER BY k.%s LIMIT %d", l.columns, l.matching(), l.order, l.limit)
	}
	columns, order := "*", l.order
	if l.place != "" { // by a name, or the order of the candidates is not recognised outside
		columns, order = "*, "+l.place+" AS place", strings.ReplaceAll(l.order, l.place, "place")
	}
	return fmt.Sprintf("SELECT %s FROM (%s) c%s ORDER BY %s LIMIT %d",
		l.columns, l.candidates(columns, fmt.Sprintf("LIMIT %d", l.scan)), conditions(l.filter), order, l.limit)
}

// last is the query of the last candidate that may be looked at and of the one beyond
// it, if there is one: a search that has seen all has not stopped.
// The filter's arguments must be allowed to be unused: they come after.
func (l *list) last(columns string, args int) (query string, used []any) {
	return l.candidates(columns, fmt.Sprintf("OFFSET %d LIMIT 2", l.scan-1)), l.args[:args]
}

// count is the query of how many match.
func (l *list) count() string {
	return "SELECT count(*) FROM " + l.matching()
}

// matching is what follows FROM: the candidates that match.
func (l *list) matching() string {
	bound := fmt.Sprintf("LIMIT %d", l.scan)
	if l.past != "" {
		return fmt.Sprintf("(%s) k, LATERAL (%s) c%s", l.candidates("created_seq", bound), l.past, conditions(l.filter))
	}
	return fmt.Sprintf("(%s) c%s", l.candidates("*", bound), conditions(l.filter))
}

// keysList makes the list of a plan, and says how many arguments the candidates have.
func keysList(p *projections.KeyPlan, schema string) (l list, args int) {
	l = list{columns: selectNames(), table: schema + ".keys", scan: p.Scan, limit: p.PageSize + 1}
	if p.At == nil {
		l.columns += ", last_used_at"
	} else {
		at := l.arg(signed(p.At.Seq))
		l.candidate = append(l.candidate, "created_seq <= "+at)
		l.columns = nameList("c.", scanned)
		l.past = "SELECT * FROM " + schema + ".key_versions v WHERE v.created_seq = k.created_seq AND v.from_seq <= " + at + " ORDER BY v.from_seq DESC LIMIT 1"
	}
	l.equal(&l.candidate, "account", string(p.Account))
	column, place := "", any(nil) // the value at From
	switch p.Column {
	case projections.ByName:
		column = "name_fold"
		if p.From != nil {
			// A token that was forged may hold anything.
			place = strings.ReplaceAll(strings.ToValidUTF8(p.From.Name, ""), "\x00", "")
		}
	case projections.ByExpiry:
		column, l.place = expiryOrder, expiryOrder
		l.within(&l.candidate, column, p.Expires)
		if !p.Expires.IsZero() {
			l.candidate = append(l.candidate, column+" < 'infinity'")
		}
		if p.From != nil {
			place = instant(p.From.Time, p.From.Time == projections.NeverMicros, pgtype.Infinity)
		}
	case projections.ByUse:
		column, l.place = useOrder, useOrder
		l.within(&l.candidate, column, p.LastUsed)
		if !p.LastUsed.IsZero() {
			l.candidate = append(l.candidate, column+" > '-infinity'")
		}
		if !p.UnusedSince.IsZero() {
			l.candidate = append(l.candidate, column+" < "+l.arg(p.UnusedSince))
		}
		if p.From != nil {
			place = instant(p.From.Time, p.From.Time == 0, pgtype.NegativeInfinity)
		}
	case projections.ByCreation:
	}
	beyond, direction := ">", ""
	if p.Descending {
		beyond, direction = "<", " DESC"
	}
	l.order = "created_seq" + direction
	if column != "" {
		l.order = column + direction + ", " + l.order
	}
	switch {
	case p.From == nil:
	case column == "":
		l.candidate = append(l.candidate, "created_seq "+beyond+" "+l.arg(signed(p.From.Seq)))
	default:
		l.candidate = append(l.candidate, fmt.Sprintf("(%s, created_seq) %s (%s, %s)", column, beyond, l.arg(place), l.arg(signed(p.From.Seq))))
	}
	args = len(l.args)
	l.filterKeys(p)
	return l, args
}

func instant(micros int64, infinite bool, which pgtype.InfinityModifier) pgtype.Timestamptz {
	if infinite {
		return pgtype.Timestamptz{InfinityModifier: which, Valid: true}
	}
	return pgtype.Timestamptz{Time: time.UnixMicro(micros).UTC(), Valid: true}
}

// filterKeys is projections.KeyPlan.Matches.
func (l *list) filterKeys(p *projections.KeyPlan) {
	l.equal(&l.filter, "key_type", string(p.Type))
	l.equal(&l.filter, "environment", string(p.Environment))
	l.equal(&l.filter, "created_by", string(p.CreatedBy))
	l.within(&l.filter, "created_at", p.Created)
	l.within(&l.filter, "expires_at", p.Expires)
	l.within(&l.filter, "last_used_at", p.LastUsed)
	if p.Status != "" {
		now := l.arg(p.Now)
		l.filter = append(l.filter, fmt.Sprintf(`CASE
			WHEN revoked_at IS NOT NULL OR ends_at <= %s AND expired_at IS NULL THEN 'revoked'
			WHEN expired_at IS NOT NULL OR expires_at <= %s THEN 'expired' ELSE 'active' END = %s`, now, now, l.arg(string(p.Status))))
	}
	if p.Scope != "" {
		covering := projections.CoveringScopes(p.Scope)
		scopes := make([]string, 0, len(covering))
		for _, scope := range covering {
			if storable(string(scope)) {
				scopes = append(scopes, string(scope))
			}
		}
		l.filter = append(l.filter, "scopes && "+l.arg(scopes))
	}
	if !p.UnusedSince.IsZero() {
		since := l.arg(p.UnusedSince)
		l.filter = append(l.filter, fmt.Sprintf("(created_at IS NULL OR created_at < %s) AND (last_used_at IS NULL OR last_used_at < %s)", since, since))
	}
	switch {
	case p.SearchText == "":
	case !storable(p.SearchText):
		l.filter = append(l.filter, "false")
	default:
		l.filter = append(l.filter, "strpos(search, "+l.arg(p.SearchText)+") > 0")
	}
}

// Keys implements projections.KeyReader.
func (s *Store) Keys(ctx context.Context, q projections.KeyQuery) (projections.KeyPage, error) {
	plan, err := q.Plan()
	if err != nil {
		return projections.KeyPage{}, err
	}
	var page projections.KeyPage
	err = s.read(ctx, "list keys", func(ctx context.Context, tx pgx.Tx, schema string) error {
		l, args := keysList(&plan, schema)
		var found []projections.KeyRecord
		err := each(ctx, tx, func(row pgx.Row) error {
			record, err := scanKey(row, plan.At == nil)
			found = append(found, record)
			return err
		}, l.rows(), l.args...)
		if err != nil {
			return err
		}
		var stopped *projections.Position
		if len(found) <= plan.PageSize && len(l.filter) > 0 {
			if stopped, err = lastKey(ctx, tx, &plan, &l, args); err != nil {
				return err
			}
		}
		page = plan.Page(found, stopped)
		return nil
	})
	return page, err
}

// lastKey returns the place of the last candidate that may be looked at, nil if there
// are none beyond it.
func lastKey(ctx context.Context, tx pgx.Tx, p *projections.KeyPlan, l *list, args int) (*projections.Position, error) {
	columns, r := "created_seq, name, expires_at, last_used_at", projections.KeyRecord{}
	if p.At != nil {
		columns = "created_seq, name, expires_at, NULL::timestamptz"
	}
	query, values := l.last(columns, args)
	var expires, used pgtype.Timestamptz
	n := 0
	err := each(ctx, tx, func(row pgx.Row) error {
		if n++; n > 1 {
			return nil
		}
		return row.Scan(&r.CreatedSeq, &r.Name, &expires, &used)
	}, query, values...)
	if err != nil || n < 2 {
		return nil, err
	}
	r.ExpiresAt, r.LastUsedAt = timeOf(expires), timeOf(used)
	at := &projections.Position{Seq: r.CreatedSeq, Time: r.SortMicros(p.Column)}
	if p.Column == projections.ByName {
		at.Name = projections.FoldName(r.Name)
	}
	return at, nil
}

// CountKeys implements projections.KeyReader.
func (s *Store) CountKeys(ctx context.Context, q projections.KeyQuery) (projections.Count, error) {
	plan, err := q.PlanCount()
	if err != nil {
		return projections.Count{}, err
	}
	var count projections.Count
	err = s.read(ctx, "count keys", func(ctx context.Context, tx pgx.Tx, schema string) error {
		l, args := keysList(&plan, schema)
		if err := tx.QueryRow(ctx, l.count(), l.args...).Scan(&count.Keys); err != nil {
			return err
		}
		beyond, err := lastKey(ctx, tx, &plan, &l, args)
		count.AtLeast = beyond != nil
		return err
	})
	return count, err
}

// Key implements projections.KeyReader.
func (s *Store) Key(ctx context.Context, id domain.KeyID, at *projections.Moment) (projections.KeyRecord, error) {
	var record projections.KeyRecord
	err := s.read(ctx, "read a key", func(ctx context.Context, tx pgx.Tx, schema string) error {
		if !storable(string(id)) {
			return domain.KeyNotFound()
		}
		query, args := "SELECT "+selectNames()+", last_used_at FROM "+schema+".keys WHERE key_id = $1", []any{string(id)}
		if at != nil {
			query = "SELECT " + selectNames() + " FROM " + schema + ".key_versions WHERE key_id = $1 AND from_seq <= $2 ORDER BY from_seq DESC LIMIT 1"
			args = append(args, signed(at.Seq))
		}
		var err error
		record, err = scanKey(tx.QueryRow(ctx, query, args...), at == nil)
		if errors.Is(err, pgx.ErrNoRows) {
			return domain.KeyNotFound()
		}
		return err
	})
	return record, err
}
