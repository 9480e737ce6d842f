package sqlite

import (
	"context"
	"fmt"
	"math"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// Key implements projections.KeyReader.
func (s *Store) Key(ctx context.Context, id domain.KeyID, at *projections.Moment) (projections.KeyRecord, error) {
	q, scan := query{keyQuery, []any{string(id)}}, scanKey
	if at != nil {
		q, scan = query{keyAtQuery, []any{string(id), signed(at.Seq)}}, scanVersion
	}
	var found []projections.KeyRecord
	err := s.read(ctx, func(ctx context.Context, on querier) (err error) {
		found, err = collect(ctx, on, q.text, q.args, scan)
		return err
	})
	if err != nil {
		return projections.KeyRecord{}, s.explain("read a key", err)
	}
	if len(found) == 0 {
		return projections.KeyRecord{}, domain.KeyNotFound()
	}
	return found[0], nil
}

const (
	keyQuery   = "SELECT " + keyColumns + " FROM keys WHERE key_id = ?"
	keyAtQuery = "SELECT record FROM key_versions INDEXED BY versions_of_key" +
		" WHERE created_seq = (SELECT created_seq FROM keys WHERE key_id = ?) AND from_seq <= ? ORDER BY from_seq DESC LIMIT 1"
)

// Keys implements projections.KeyReader.
func (s *Store) Keys(ctx context.Context, q projections.KeyQuery) (projections.KeyPage, error) {
	plan, err := q.Plan()
	if err != nil {
		return projections.KeyPage{}, err
	}
	var found []projections.KeyRecord
	var stopped *projections.Position
	err = s.read(ctx, func(ctx context.Context, on querier) error {
		take := func(r projections.KeyRecord) bool {
			found = append(found, r)
			return len(found) <= plan.PageSize
		}
		if err := keys(ctx, on, &plan, take); err != nil || len(found) > plan.PageSize {
			return err
		}
		stopped, err = stop(ctx, on, &plan)
		return err
	})
	if err != nil {
		return projections.KeyPage{}, s.explain("list keys", err)
	}
	return plan.Page(found, stopped), nil
}

// CountKeys implements projections.KeyReader.
func (s *Store) CountKeys(ctx context.Context, q projections.KeyQuery) (projections.Count, error) {
	plan, err := q.PlanCount()
	if err != nil {
		return projections.Count{}, err
	}
	var count projections.Count
	err = s.read(ctx, func(ctx context.Context, on querier) error {
		var err error
		if plan.At != nil {
			err = keys(ctx, on, &plan, func(projections.KeyRecord) bool {
				count.Keys++
				return true
			})
		} else {
			c := keysQuery(&plan, "count(*)", -1)
			err = each(ctx, on, c.text, c.args, func(v *values) (bool, error) {
				count.Keys = int(v.integer())
				return false, nil
			})
		}
		if err != nil {
			return err
		}
		stopped, err := stop(ctx, on, &plan)
		count.AtLeast = stopped != nil
		return err
	})
	return count, s.explain("count keys", err)
}

// keys finds the keys that match, until take has enough.
func keys(ctx context.Context, on querier, p *projections.KeyPlan, take func(projections.KeyRecord) bool) error {
	if p.At == nil {
		q := keysQuery(p, keyColumns, p.PageSize+1)
		return each(ctx, on, q.text, q.args, func(v *values) (bool, error) {
			r, err := scanKey(v)
			return err == nil && take(r), err
		})
	}
	q := keysAtQuery(p)
	return each(ctx, on, q.text, q.args, func(v *values) (bool, error) {
		r, err := scanVersion(v)
		return err == nil && (!p.Matches(&r) || take(r)), err
	})
}

// candidates are the keys that a plan looks at, in its order, which is that of an
// index. inner chooses the index and how far it goes.
func candidates(p *projections.KeyPlan) (w where, index, order string) {
	w.equal("account", string(p.Account))
	column, place := "", any(nil)
	switch p.Column {
	case projections.ByName:
		index, column = "name", "name_fold"
	case projections.ByExpiry:
		index, column = "expiry", "expires_sort"
		w.within(column, p.Expires, projections.NeverMicros)
	case projections.ByUse:
		index, column = "use", "last_used"
		w.within(column, p.LastUsed, 0)
		if !p.UnusedSince.IsZero() {
			w.and("last_used < ?", p.UnusedSince.UnixMicro())
		}
	case projections.ByCreation:
	}
	if p.From != nil && p.Column == projections.ByName {
		place = p.From.Name
	} else if p.From != nil {
		place = p.From.Time
	}
	direction, beyond := "", ">"
	if p.Descending {
		direction, beyond = " DESC", "<"
	}
	order = "created_seq" + direction
	if column != "" {
		order = column + direction + ", " + order
	}
	switch {
	case p.From == nil:
	case column == "":
		w.and("created_seq "+beyond+" ?", signed(p.From.Seq))
	default:
		w.and(fmt.Sprintf("(%s, created_seq) %s (?, ?)", column, beyond), place, signed(p.From.Seq))
	}
	if p.At != nil {
		w.and("created_seq <= ?", signed(p.At.Seq))
	}
	switch {
	case p.Account != "" && index != "":
		index = " INDEXED BY keys_of_account_by_" + index
	case p.Account != "":
		index = " INDEXED BY keys_of_account"
	case index != "":
		index = " INDEXED BY keys_by_" + index
	}
	return w, index, order
}

// keysQuery filters the candidates. They come in order out of the subquery, one by
// one, and nothing sorts or gathers them: with the limits of both, that is the bound
// of the work.
func keysQuery(p *projections.KeyPlan, columns string, limit int) query {
	from, index, order := candidates(p)
	w := filters(p)
	return query{
		fmt.Sprintf("SELECT %s FROM (SELECT * FROM keys%s%s ORDER BY %s LIMIT %d)%s LIMIT %d", columns, index, &from, order, p.Scan, &w, limit),
		append(from.args, w.args...),
	}
}

// filters are the conditions of projections.KeyPlan.Matches.
func filters(p *projections.KeyPlan) where {
	var w where
	w.equal("key_type", string(p.Type))
	w.equal("environment", string(p.Environment))
	w.equal("created_by", string(p.CreatedBy))
	w.within("created_at", p.Created, math.MinInt64)
	w.within("expires_at", p.Expires, math.MinInt64)
	w.within("last_used", p.LastUsed, 0)
	if !p.UnusedSince.IsZero() {
		since := p.UnusedSince.UnixMicro()
		w.and("ifnull(created_at, ?) < ? AND last_used < ?", int64(math.MinInt64), since, since)
	}
	if p.Status != "" {
		now := p.Now.UnixMicro()
		w.and(statusAt+" = ?", now, now, string(p.Status))
	}
	if p.Scope != "" {
		w.and("EXISTS (SELECT 1 FROM json_each(scopes) AS held JOIN json_each(?) AS wanted ON held.value = wanted.value)",
			list(projections.CoveringScopes(p.Scope)))
	}
	if p.SearchText != "" {
		w.and("instr(search, ?) > 0", p.SearchText)
	}
	return w
}

// statusAt is domain.Key.Status: the parameters are the time, twice. A test holds
// one against the other.
const statusAt = `CASE
	WHEN revoked_at IS NOT NULL OR ends_at <= ? AND expired_at IS NULL THEN 'revoked'
	WHEN expired_at IS NOT NULL OR expires_at <= ? THEN 'expired'
	ELSE 'active' END`

// keysAtQuery finds what the candidates were at a moment.
func keysAtQuery(p *projections.KeyPlan) query {
	from, index, order := candidates(p)
	return query{
		fmt.Sprintf(`SELECT v.record FROM (SELECT created_seq FROM keys%s%s ORDER BY %s LIMIT %d) AS k CROSS JOIN key_versions AS v
			ON v.from_seq = (SELECT max(from_seq) FROM key_versions INDEXED BY versions_of_key WHERE created_seq = k.created_seq AND from_seq <= ?)`,
			index, &from, order, p.Scan),
		append(from.args, signed(p.At.Seq)),
	}
}

// stop returns the place of the last candidate if there are more than the plan looks
// at.
func stop(ctx context.Context, on querier, p *projections.KeyPlan) (*projections.Position, error) {
	q := stopQuery(p)
	var at *projections.Position
	more := false
	err := each(ctx, on, q.text, q.args, func(v *values) (bool, error) {
		if at != nil {
			more = true
			return false, nil
		}
		at = &projections.Position{Seq: v.seq()}
		switch p.Column {
		case projections.ByName:
			at.Name = v.text()
		case projections.ByExpiry, projections.ByUse:
			at.Time = v.integer()
		case projections.ByCreation:
		}
		return true, nil
	})
	if !more {
		return nil, err
	}
	return at, err
}

func stopQuery(p *projections.KeyPlan) query {
	from, index, order := candidates(p)
	column := map[projections.SortColumn]string{
		projections.ByCreation: "", projections.ByName: ", name_fold", projections.ByExpiry: ", expires_sort", projections.ByUse: ", last_used",
	}[p.Column]
	return query{fmt.Sprintf("SELECT created_seq%s FROM keys%s%s ORDER BY %s LIMIT 2 OFFSET %d", column, index, &from, order, p.Scan-1), from.args}
}
