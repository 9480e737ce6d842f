package sqlite

import (
	"context"
	"fmt"

	"github.com/keyledger/keyledger/projections"
)

// Audit implements projections.AuditReader.
func (s *Store) Audit(ctx context.Context, q projections.AuditQuery) (projections.AuditPage, error) {
	plan, err := q.Plan()
	if err != nil {
		return projections.AuditPage{}, err
	}
	var found []projections.AuditEntry
	var stopped uint64
	err = s.read(ctx, func(ctx context.Context, on querier) error {
		span, err := spanOf(ctx, on, &plan)
		if err != nil || span.empty() {
			return err
		}
		q := auditQuery(&plan, span)
		if found, err = collect(ctx, on, q.text, q.args, scanAudit); err != nil || len(found) > plan.PageSize {
			return err
		}
		q = auditStopQuery(&plan, span)
		seqs, err := collect(ctx, on, q.text, q.args, func(v *values) (uint64, error) { return v.seq(), nil })
		if len(seqs) > 1 { // there are more than the plan looks at
			stopped = seqs[0]
		}
		return err
	})
	if err != nil {
		return projections.AuditPage{}, s.explain("read the audit log", err)
	}
	return plan.Page(found, stopped), nil
}

// span is the first and the last seq that a plan looks at.
type span struct{ first, last int64 }

func (s span) empty() bool { return s.last < s.first }

// spanOf turns all that bounds the seqs of a plan into one span.
func spanOf(ctx context.Context, on querier, p *projections.AuditPlan) (span, error) {
	s := span{first: signed(max(p.FromSeq, 1)), last: signed(1<<63 - 1)}
	if p.ToSeq > 0 {
		s.last = signed(p.ToSeq)
	}
	if p.From > 0 && p.Descending {
		s.last = min(s.last, signed(p.From)-1)
	} else if p.From > 0 {
		s.first = max(s.first, signed(p.From)+1)
	}
	if !p.Clock.From.IsZero() {
		before, err := lastBefore(ctx, on, p.Clock.From.UnixMicro())
		if err != nil {
			return s, err
		}
		s.first = max(s.first, before+1)
	}
	if !p.Clock.Before.IsZero() {
		last, err := lastBefore(ctx, on, p.Clock.Before.UnixMicro())
		if err != nil {
			return s, err
		}
		s.last = min(s.last, last)
	}
	return s, nil
}

const (
	lastSeqQuery = "SELECT seq FROM audit ORDER BY seq DESC LIMIT 1"
	clockQuery   = "SELECT seq, clock FROM audit WHERE seq <= ? ORDER BY seq DESC LIMIT 1"
)

// lastBefore returns the seq of the last entry whose clock is before a time in
// microseconds, 0 if there is none. The clock never goes back, so it need not be
// looked for in every row, nor in an index.
func lastBefore(ctx context.Context, on querier, micros int64) (int64, error) {
	var low, high int64 // the answer is at low or above, and not beyond high
	err := each(ctx, on, lastSeqQuery, nil, func(v *values) (bool, error) {
		high = v.integer()
		return false, nil
	})
	for low < high && err == nil {
		middle := high - (high-low)/2
		seq, clock := int64(0), int64(0)
		err = each(ctx, on, clockQuery, []any{middle}, func(v *values) (bool, error) {
			seq, clock = v.integer(), v.integer()
			return false, nil
		})
		switch {
		case seq <= low: // no entry in between
			high = min(high, middle-1)
		case clock < micros:
			low = middle
		default:
			high = seq - 1
		}
	}
	return low, err
}

// entries are the seqs that a plan looks at, in its order: those of one index, or all
// of the span. Whoever sees one account looks at its entries and no others: how far a
// search came would tell of them.
func entries(p *projections.AuditPlan, s span, limit string) query {
	order := "seq"
	if p.Descending {
		order = "seq DESC"
	}
	within := "seq >= ? AND seq <= ?"
	for _, by := range [...]struct{ column, value string }{
		{"command_id", p.CommandID}, {"request_id", p.RequestID}, {"subject", string(p.Key)}, {"account", string(p.Account)}, {"actor", string(p.Actor)},
	} {
		switch {
		case by.value == "":
		case by.column == "subject":
			return query{
				fmt.Sprintf(entriesOfKey, order, limit),
				[]any{by.value, s.first, s.last, by.value, s.first, s.last},
			}
		default:
			return query{
				fmt.Sprintf("SELECT seq FROM audit INDEXED BY audit_of_%s WHERE %s = ? AND %s ORDER BY %s %s", by.column, by.column, within, order, limit),
				[]any{by.value, s.first, s.last},
			}
		}
	}
	return query{fmt.Sprintf("SELECT seq FROM audit WHERE %s ORDER BY %s %s", within, order, limit), []any{s.first, s.last}}
}

// entriesOfKey are the events of a key: each that had an effect made a version. SQLite
// merges both queries in their order.
const entriesOfKey = `SELECT from_seq AS seq FROM key_versions INDEXED BY versions_of_key
		WHERE created_seq = (SELECT created_seq FROM keys WHERE key_id = ?) AND from_seq >= ? AND from_seq <= ?
	UNION ALL SELECT seq FROM audit INDEXED BY audit_of_void WHERE subject = ? AND void IS NOT NULL AND seq >= ? AND seq <= ?
	ORDER BY %s %s`

// auditQuery filters the entries, as keysQuery does the candidates.
func auditQuery(p *projections.AuditPlan, s span) query {
	from := entries(p, s, fmt.Sprintf("LIMIT %d", p.Scan))
	var w where
	for _, by := range [...]struct{ column, value string }{
		{"account", string(p.Account)}, {"actor", string(p.Actor)}, {"action", string(p.Action)}, {"subject", string(p.Key)},
		{"command", string(p.Command)}, {"command_id", p.CommandID}, {"request_id", p.RequestID},
	} {
		w.equal(by.column, by.value)
	}
	return query{
		fmt.Sprintf("SELECT %s FROM (%s) AS e CROSS JOIN audit AS a USING (seq)%s LIMIT %d", auditColumns, from.text, &w, p.PageSize+1),
		append(from.args, w.args...),
	}
}

func auditStopQuery(p *projections.AuditPlan, s span) query {
	return entries(p, s, fmt.Sprintf("LIMIT 2 OFFSET %d", p.Scan-1))
}

// Moment implements projections.AuditReader.
func (s *Store) Moment(ctx context.Context, at projections.At) (projections.Moment, error) {
	moment := projections.Moment{Seq: at.Seq, Time: projections.Micros(at.Time)}
	err := s.read(ctx, func(ctx context.Context, on querier) error {
		if !at.Time.IsZero() {
			seq, err := lastBefore(ctx, on, at.Time.UnixMicro()+1)
			moment.Seq = uint64(seq) //nolint:gosec // see signed
			return err
		}
		if at.Seq == 0 {
			return nil
		}
		known := false
		err := each(ctx, on, "SELECT clock FROM audit WHERE seq = ?", []any{signed(at.Seq)}, func(v *values) (bool, error) {
			known, moment.Time = true, v.time()
			return false, nil
		})
		if err == nil && !known {
			return projections.ErrBeyondHistory()
		}
		return err
	})
	if err != nil {
		return projections.Moment{}, s.explain("find a moment", err)
	}
	return moment, nil
}
