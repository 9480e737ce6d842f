package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// Keys implements projections.Reader.
func (s *Store) Keys(ctx context.Context, q projections.KeyQuery) (projections.KeyPage, error) {
	plan, err := q.Plan()
	if err != nil {
		return projections.KeyPage{}, err
	}
	query, args := keysQuery(plan)
	found, err := collect(ctx, s, query, args, scanKey)
	if err != nil {
		return projections.KeyPage{}, s.explain("list keys", err)
	}
	return plan.Page(found), nil
}

// Key implements projections.Reader.
func (s *Store) Key(ctx context.Context, id domain.KeyID) (projections.KeyRecord, error) {
	query := fmt.Sprintf("SELECT %s FROM keys WHERE key_id = ? AND to_seq = %d ORDER BY from_seq DESC LIMIT 1", keyColumns, openEnd)
	found, err := collect(ctx, s, query, []any{string(id)}, scanKey)
	if err != nil {
		return projections.KeyRecord{}, s.explain("read a key", err)
	}
	if len(found) == 0 {
		return projections.KeyRecord{}, domain.KeyNotFound()
	}
	return found[0], nil
}

// Audit implements projections.Reader.
func (s *Store) Audit(ctx context.Context, q projections.AuditQuery) (projections.AuditPage, error) {
	plan, err := q.Plan()
	if err != nil {
		return projections.AuditPage{}, err
	}
	query, args := auditQuery(plan)
	found, err := collect(ctx, s, query, args, scanAudit)
	if err != nil {
		return projections.AuditPage{}, s.explain("read the audit log", err)
	}
	return plan.Page(found), nil
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

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}

func keysQuery(p projections.KeyPlan) (string, []any) {
	var w where
	w.and(fmt.Sprintf("to_seq = %d", openEnd)) // the number itself, for the partial indexes
	w.equal("account", string(p.Account))
	w.equal("key_type", string(p.Type))
	w.equal("environment", string(p.Environment))
	if p.BeforeSeq > 0 {
		w.and("created_seq < ?", signed(p.BeforeSeq))
	}
	if !p.ExpiringBefore.IsZero() {
		w.and("expires_at < ?", p.ExpiringBefore.UnixMicro())
	}
	if p.Status != "" {
		now := p.Now.UnixMicro()
		w.and(statusAt+" = ?", now, now, string(p.Status))
	}
	if p.Scope != "" {
		list, err := json.Marshal(projections.CoveringScopes(p.Scope))
		if err != nil {
			panic(err) // a list of texts
		}
		w.and("EXISTS (SELECT 1 FROM json_each(scopes) AS held JOIN json_each(?) AS wanted ON held.value = wanted.value)", string(list))
	}
	if p.SearchText != "" {
		w.and("instr(search, ?) > 0", p.SearchText)
	}
	return fmt.Sprintf("SELECT %s FROM keys%s ORDER BY created_seq DESC LIMIT %d", keyColumns, &w, p.PageSize+1), w.args
}

// statusAt is domain.Key.Status: the parameters are the time, twice. A test holds
// one against the other.
const statusAt = `CASE
	WHEN revoked_at IS NOT NULL OR ends_at <= ? AND expired_at IS NULL THEN 'revoked'
	WHEN expired_at IS NOT NULL OR expires_at <= ? THEN 'expired'
	ELSE 'active' END`

func auditQuery(p projections.AuditPlan) (string, []any) {
	var w where
	w.equal("account", string(p.Account))
	w.equal("subject", string(p.Key))
	if p.FromSeq > 0 {
		w.and("seq >= ?", signed(p.FromSeq))
	}
	if p.ToSeq > 0 {
		w.and("seq <= ?", signed(p.ToSeq))
	}
	if p.BeforeSeq > 0 {
		w.and("seq < ?", signed(p.BeforeSeq))
	}
	return fmt.Sprintf("SELECT %s FROM audit%s ORDER BY seq DESC LIMIT %d", auditColumns, &w, p.PageSize+1), w.args
}

// collect runs a query on the readers and reads its rows, each with scan.
func collect[T any](ctx context.Context, s *Store, query string, args []any, scan func(scanner) (T, error)) ([]T, error) {
	l := s.live.Load()
	switch {
	case s.closed.Load():
		return nil, errClosed
	case l == nil:
		return nil, projections.ErrBuilding()
	}
	rows, err := l.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var found []T
	for rows.Next() {
		value, err := scan(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, value)
	}
	return found, rows.Err()
}
