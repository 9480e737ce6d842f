package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/projections"
)

// auditList makes the list of a plan, and says how many arguments the candidates
// have. One condition chooses the index: the one that leads to the fewest entries.
// Whoever sees one account looks at its entries and no others, whoever the actor was:
// how far a search came would tell of them.
func auditList(p *projections.AuditPlan, schema string) (l list, args int) {
	l = list{columns: auditNames, table: schema + ".audit", scan: p.Scan, limit: p.PageSize + 1, order: "seq"}
	beyond := ">"
	if p.Descending {
		l.order, beyond = "seq DESC", "<"
	}
	type equality struct{ column, value string }
	var others []equality
	led := false
	for _, e := range []equality{
		{"command_id", p.CommandID}, {"request_id", p.RequestID}, {"subject", string(p.Key)}, {"account", string(p.Account)}, {"actor", string(p.Actor)},
	} {
		switch {
		case e.value == "":
		case led:
			others = append(others, e)
		default:
			led = true
			l.equal(&l.candidate, e.column, e.value)
		}
	}
	if p.From > 0 {
		l.candidate = append(l.candidate, "seq "+beyond+" "+l.arg(signed(p.From)))
	}
	if p.FromSeq > 0 {
		l.candidate = append(l.candidate, "seq >= "+l.arg(signed(p.FromSeq)))
	}
	if p.ToSeq > 0 {
		l.candidate = append(l.candidate, "seq <= "+l.arg(signed(p.ToSeq)))
	}
	// The log's clock never goes back, so that a span of it is a span of seqs.
	const since = "SELECT seq FROM %s WHERE clock >= %s ORDER BY clock, seq LIMIT 1"
	if !p.Clock.From.IsZero() {
		l.candidate = append(l.candidate, "seq >= ("+fmt.Sprintf(since, l.table, l.arg(p.Clock.From))+")")
	}
	if !p.Clock.Before.IsZero() {
		l.candidate = append(l.candidate, fmt.Sprintf("seq < coalesce(("+since+"), %d)", l.table, l.arg(p.Clock.Before), int64(openEnd)))
	}
	args = len(l.args)
	for _, e := range append(others, equality{"action", string(p.Action)}, equality{"command", string(p.Command)}) {
		l.equal(&l.filter, e.column, e.value)
	}
	return l, args
}

// Audit implements projections.AuditReader.
func (s *Store) Audit(ctx context.Context, q projections.AuditQuery) (projections.AuditPage, error) {
	plan, err := q.Plan()
	if err != nil {
		return projections.AuditPage{}, err
	}
	var page projections.AuditPage
	err = s.read(ctx, "read the audit log", func(ctx context.Context, tx pgx.Tx, schema string) error {
		l, args := auditList(&plan, schema)
		var found []projections.AuditEntry
		err := each(ctx, tx, func(row pgx.Row) error {
			entry, err := scanAudit(row)
			found = append(found, entry)
			return err
		}, l.rows(), l.args...)
		if err != nil {
			return err
		}
		var stopped uint64
		if len(found) <= plan.PageSize && len(l.filter) > 0 {
			query, values := l.last("seq", args)
			rows, err := tx.Query(ctx, query, values...)
			if err != nil {
				return err
			}
			seqs, err := pgx.CollectRows(rows, pgx.RowTo[uint64])
			if err != nil {
				return err
			}
			if len(seqs) > 1 {
				stopped = seqs[0]
			}
		}
		page = plan.Page(found, stopped)
		return nil
	})
	return page, err
}

// Moment implements projections.AuditReader.
func (s *Store) Moment(ctx context.Context, at projections.At) (projections.Moment, error) {
	moment := projections.Moment{Seq: at.Seq, Time: projections.Micros(at.Time)}
	err := s.read(ctx, "find a moment", func(ctx context.Context, tx pgx.Tx, schema string) error {
		if !at.Time.IsZero() {
			err := tx.QueryRow(ctx, "SELECT seq FROM "+schema+".audit WHERE clock <= $1 ORDER BY clock DESC, seq DESC LIMIT 1", moment.Time).Scan(&moment.Seq)
			if errors.Is(err, pgx.ErrNoRows) {
				moment.Seq, err = 0, nil
			}
			return err
		}
		if at.Seq == 0 {
			return nil
		}
		var clock *time.Time
		err := tx.QueryRow(ctx, "SELECT clock FROM "+schema+".audit WHERE seq = $1", signed(at.Seq)).Scan(&clock)
		if errors.Is(err, pgx.ErrNoRows) {
			return projections.ErrBeyondHistory()
		}
		if clock != nil {
			moment.Time = projections.Micros(*clock)
		}
		return err
	})
	return moment, err
}
