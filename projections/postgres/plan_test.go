package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
)

// keysEnv sets how many keys the plans and queries are looked at with.
const keysEnv = "KEYLEDGER_BENCH_KEYS"

func keysFromEnv(tb testing.TB, otherwise int) int {
	tb.Helper()
	text := os.Getenv(keysEnv)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		tb.Fatalf("%s: %v", keysEnv, err)
	}
	return n
}

// question is a representative query, as an arranged list and as a call of the store.
type question struct {
	name  string
	keys  *projections.KeyQuery
	audit *projections.AuditQuery
}

const planKey = domain.KeyID("key_0000000000004242")

func planStart() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func questions(n int) []question {
	now := planStart().Add(100 * 24 * time.Hour)
	past := &projections.Moment{Seq: uint64(n), Time: planStart().Add(time.Duration(n) * time.Second)}
	list := []question{
		{name: "active keys of an account", keys: &projections.KeyQuery{Account: "account7", Status: domain.StatusActive}},
		{name: "text", keys: &projections.KeyQuery{Account: "big", Text: "billing 42"}},
		{name: "scope", keys: &projections.KeyQuery{Scope: "invoices:read"}},
		{name: "nothing found", keys: &projections.KeyQuery{CreatedBy: "nobody"}},
		{name: "unused", keys: &projections.KeyQuery{Account: "big", UnusedSince: now}},
		{name: "keys of the past", keys: &projections.KeyQuery{Account: "account7", At: past}},
		{name: "all keys of the past", keys: &projections.KeyQuery{At: past, Status: domain.StatusRevoked}},
		{name: "audit log", audit: &projections.AuditQuery{}},
		{name: "audit of an account", audit: &projections.AuditQuery{Account: "account7"}},
		{name: "audit of a key", audit: &projections.AuditQuery{Key: planKey}},
		{name: "audit of an actor", audit: &projections.AuditQuery{Actor: "actor3", Action: projections.ActionKeyRevoked}},
		{name: "audit of a command", audit: &projections.AuditQuery{CommandID: "command-4242"}},
		{name: "audit of a request", audit: &projections.AuditQuery{RequestID: "request-4242"}},
		{name: "audit of an hour", audit: &projections.AuditQuery{OldestFirst: true, Clock: projections.TimeRange{
			From: planStart().Add(time.Hour), Before: planStart().Add(2 * time.Hour)}}},
	}
	for _, sort := range projections.KeySorts() {
		list = append(list, question{name: "all by " + string(sort), keys: &projections.KeyQuery{Sort: sort}},
			question{name: "account by " + string(sort), keys: &projections.KeyQuery{Sort: sort, Account: "big"}})
	}
	for i := range list {
		if q := list[i].keys; q != nil {
			q.Now = now
		}
	}
	return list
}

// mustFillTables makes n keys live, each created and, every other, revoked n events
// later: half of them of one account.
func mustFillTables(tb testing.TB, s *Store, n int) {
	tb.Helper()
	ctx := tb.Context()
	began, err := s.Build(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	b, _ := began.(*build)
	defer func() { _ = b.Discard(ctx) }()
	row := fmt.Sprintf(`'key_' || lpad(i::text, 16, '0'), CASE WHEN i %% 2 = 0 THEN 'big' ELSE 'account' || i %% 1000 END, 'api', 'live',
		'billing ' || i, '', CASE WHEN i %% 3 = 0 THEN '{invoices:read}' ELSE '{clients:*,payouts:read}' END::text[], NULL, 'sk_live_' || i,
		CASE WHEN i %% 5 > 0 THEN $2::timestamptz + i * 77 %% %d * interval '1 hour' END, NULL, '{"team": "billing"}', '', $2::timestamptz + i * interval '1 second',
		'actor' || i %% 10, NULL, false, '', NULL::timestamptz, NULL::timestamptz`, max(n/100, 100))
	const rest = `, NULL::timestamptz, NULL::timestamptz, 0, 1, 'billing ' || i || E'\x1fteam\x1fbilling'`
	for _, statement := range []string{
		"INSERT INTO SCHEMA.key_versions SELECT i, i, " + row + ", NULL::timestamptz, ''" + rest +
			fmt.Sprintf(", CASE WHEN i %% 2 = 0 THEN $1 + i / 2 ELSE %d END FROM generate_series(1::bigint, $1::bigint) i", int64(openEnd)),
		"INSERT INTO SCHEMA.key_versions SELECT $1 + i / 2, i, " + row + ", $2::timestamptz + interval '90 days', 'left'" + rest +
			fmt.Sprintf(", %d FROM generate_series(2::bigint, $1::bigint, 2) i", int64(openEnd)),
		`INSERT INTO SCHEMA.audit SELECT i, $2::timestamptz + i * interval '1 second', $2::timestamptz + i * interval '1 second',
			CASE WHEN i % 2 = 0 THEN 'big' ELSE 'account' || i % 1000 END, 'actor' || i % 10, CASE WHEN i > $1 THEN 'key.revoked' ELSE 'key.created' END, 'create_key',
			'key_' || lpad((i % $1)::text, 16, '0'), '[]', '', '', 'command-' || i, 'request-' || i, 'event-' || i
			FROM generate_series(1::bigint, $1::bigint + $1::bigint / 2) i`,
	} {
		if _, err := b.conn.Exec(ctx, inSchema(b.schema, statement)[0], int64(n), planStart()); err != nil {
			tb.Fatal(err)
		}
	}
	b.at = projections.Checkpoint{Seq: uint64(n + n/2), EventID: "last", Clock: planStart()}
	if err := b.Complete(ctx); err != nil {
		tb.Fatal(err)
	}
	if err := b.Swap(ctx); err != nil {
		tb.Fatal(err)
	}
}

// TestPlans: every query goes by an index in the order of the list, first page and
// later ones, whatever it filters.
func TestPlans(t *testing.T) {
	s := mustOpenConfig(t, Config{URL: postgrestest.MustDatabases(t).MustCreate(t), StatementTimeout: time.Minute})
	n := keysFromEnv(t, 300_000)
	start := time.Now()
	mustFillTables(t, s, n)
	t.Logf("%d keys filled in %s", n, time.Since(start).Round(time.Millisecond))
	for _, q := range questions(n) {
		t.Run(q.name, func(t *testing.T) {
			for _, page := range [...]string{"first", "later"} {
				mustRead(t, s, func(ctx context.Context, tx pgx.Tx, schema string) error {
					l, args := mustArrange(t, s, q, schema, page == "later")
					checkPlan(ctx, t, tx, page, l.rows(), l.args)
					last, used := l.last("created_seq", args)
					if q.audit != nil {
						last, used = l.last("seq", args)
					}
					checkPlan(ctx, t, tx, page+", where it stops", last, used)
					return nil
				})
			}
		})
	}
	t.Run("key of the past", func(t *testing.T) {
		mustRead(t, s, func(ctx context.Context, tx pgx.Tx, schema string) error {
			checkPlan(ctx, t, tx, "key", "SELECT 1 FROM "+schema+".key_versions WHERE key_id = $1 AND from_seq <= $2 ORDER BY from_seq DESC LIMIT 1",
				[]any{string(planKey), int64(n)})
			return nil
		})
	})
}

func mustRead(t *testing.T, s *Store, do func(context.Context, pgx.Tx, string) error) {
	t.Helper()
	if err := s.read(t.Context(), "explain", do); err != nil {
		t.Fatal(err)
	}
}

// mustArrange returns the list of a question, of its second page if that is asked for.
func mustArrange(t *testing.T, s *Store, q question, schema string, later bool) (l list, args int) {
	t.Helper()
	if q.audit != nil {
		query := *q.audit
		if later {
			page, err := s.Audit(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			query.Page = page.Next
		}
		plan, err := query.Plan()
		if err != nil {
			t.Fatal(err)
		}
		return auditList(&plan, schema)
	}
	query := *q.keys
	if later {
		page, err := s.Keys(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		query.Page = page.Next
	}
	plan, err := query.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return keysList(&plan, schema)
}

func checkPlan(ctx context.Context, t *testing.T, tx pgx.Tx, what, query string, args []any) {
	t.Helper()
	var text []byte
	if err := tx.QueryRow(ctx, "EXPLAIN (FORMAT JSON) "+query, args...).Scan(&text); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	for _, plan := range plans {
		if bad := plan.Plan.unbounded(); bad != "" {
			t.Errorf("%s: %s in the plan of\n%s\n%s", what, bad, query, text)
		}
	}
}

// planNode is what EXPLAIN tells of a step.
type planNode struct {
	NodeType string     `json:"Node Type"`
	Plans    []planNode `json:"Plans"`
}

// unbounded names a step that reads or sorts a whole table, "" if there is none.
func (n planNode) unbounded() string {
	switch n.NodeType {
	case "Limit", "Subquery Scan", "Index Scan", "Index Only Scan", "Result", "Nested Loop":
	default:
		return n.NodeType
	}
	for _, child := range n.Plans {
		if bad := child.unbounded(); bad != "" {
			return bad
		}
	}
	return ""
}
