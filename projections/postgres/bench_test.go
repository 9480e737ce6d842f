package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// BenchmarkQueries reports p50 and p99 of representative queries, on tables of
// KEYLEDGER_BENCH_KEYS keys (30,000).
func BenchmarkQueries(b *testing.B) {
	n := keysFromEnv(b, 30_000)
	s := mustOpenConfig(b, Config{URL: postgrestest.MustDatabases(b).MustCreate(b), StatementTimeout: time.Minute})
	mustFillTables(b, s, n)
	for _, q := range questions(n) {
		b.Run(q.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				var err error
				if q.audit != nil {
					_, err = s.Audit(b.Context(), *q.audit)
				} else {
					_, err = s.Keys(b.Context(), *q.keys)
				}
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkRebuild builds tables of KEYLEDGER_BENCH_KEYS keys (30,000) from three
// events each, and sends COPY of the same rows into the same tables, committed in
// the same way: the one with the indexes of readers and without. "ratio" is the
// speed of the rebuild by that of COPY with indexes.
func BenchmarkRebuild(b *testing.B) {
	n := keysFromEnv(b, 30_000)
	s := mustOpenConfig(b, Config{URL: postgrestest.MustDatabases(b).MustCreate(b), BuildMemory: 8 << 30})
	log := projectionstest.NewLog(benchEvents(n)...)
	log.RunSize = 5000
	var rebuild, bare, indexed time.Duration
	for b.Loop() {
		start := time.Now()
		mustRebuild(b, s, log)
		rebuild += time.Since(start)
		rows := mustCopyOut(b, s)
		bare += mustCopyIn(b, s, rows, false)
		indexed += mustCopyIn(b, s, rows, true)
	}
	total := float64(3*n) * float64(b.N)
	b.ReportMetric(total/rebuild.Seconds(), "rebuild-events/s")
	b.ReportMetric(total/bare.Seconds(), "copy-events/s")
	b.ReportMetric(total/indexed.Seconds(), "copy-indexed-events/s")
	b.ReportMetric(bare.Seconds()/rebuild.Seconds(), "ratio-bare")
	b.ReportMetric(indexed.Seconds()/rebuild.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}

// mustRebuild drives a build by a projector, up to the swap.
func mustRebuild(b *testing.B, s *Store, log *projectionstest.Log) {
	b.Helper()
	if state, err := s.State(b.Context()); err != nil || !state.Live {
		projectionstest.Project(b, s, log, projections.Config{BatchSize: 5000})
		return
	}
	projectionstest.Rebuild(b, s, log, projections.Config{BatchSize: 5000})
}

// copied are the tables that are sent, in this order.
func copied() map[string]string {
	return map[string]string{
		"key_versions": keyNames("") + ", to_seq", "audit": auditNames, "macs": macNames, "voids": voidNames, "keys": keyNames("") + ", last_used_at",
	}
}

func mustCopyOut(b *testing.B, s *Store) map[string][]byte {
	b.Helper()
	// A server gives up a reader that stands still, as this one does while its buffers
	// of gigabytes grow; a session of the bench's own is not held to that.
	config := s.direct.Copy()
	delete(config.RuntimeParams, "tcp_user_timeout")
	conn, err := pgx.ConnectConfig(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close(b.Context()) }()
	id, _, err := liveSetOf(b.Context(), conn)
	if err != nil {
		b.Fatal(err)
	}
	rows := make(map[string][]byte)
	for table, columns := range copied() {
		var out bytes.Buffer
		if _, err := conn.PgConn().CopyTo(b.Context(), &out, fmt.Sprintf("COPY %s.%s (%s) TO STDOUT (FORMAT binary)", schemaName(id), table, columns)); err != nil {
			b.Fatal(err)
		}
		rows[table] = out.Bytes()
	}
	return rows
}

// mustCopyIn sends the rows in one transaction, makes the indexes if asked, and
// returns how long that took. The tables go again.
func mustCopyIn(b *testing.B, s *Store, rows map[string][]byte, indexed bool) time.Duration {
	b.Helper()
	const schema = "copied"
	conn, err := s.connect(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.end(b.Context())
	exec := func(statement string) {
		if err := execAll(b.Context(), conn, statement); err != nil {
			b.Fatal(err)
		}
	}
	start := time.Now()
	exec("SET maintenance_work_mem = '" + sortMemory + "'; BEGIN; " + tables(schema))
	for table, columns := range copied() {
		statement := fmt.Sprintf("COPY %s.%s (%s) FROM STDIN (FORMAT binary, FREEZE)", schema, table, columns)
		if _, err := conn.PgConn().CopyFrom(b.Context(), bytes.NewReader(rows[table]), statement); err != nil {
			b.Fatal(err)
		}
	}
	if indexed {
		fill := inSchema(schema, fillKeys)[0]
		for _, statement := range slices.Concat(completion(schema, true)...) {
			if statement != fill {
				exec(statement)
			}
		}
	}
	exec("COMMIT")
	took := time.Since(start)
	exec("DROP SCHEMA " + schema + " CASCADE")
	return took
}

// execAll runs statements that have no parameters.
func execAll(ctx context.Context, conn *session, statements string) error {
	return conn.PgConn().Exec(ctx, statements).Close()
}

// benchEvents are n keys, each created, renamed and revoked.
func benchEvents(n int) []eventstore.Event {
	events := make([]eventstore.Event, 0, 3*n)
	start := planStart()
	add := func(i int, data domain.KeyEvent) {
		seq := len(events) + 1
		events = append(events, eventstore.Event{
			Source: "bench", Time: start.Add(time.Duration(seq) * time.Second), Aggregate: eventstore.KeyAggregate(benchAccount(i), benchKey(i)),
			Actor: "key_operator0000000000", Command: domain.CommandUpdateKey, CommandID: fmt.Sprintf("command-%d", seq),
			RequestID: fmt.Sprintf("request-%d", seq), Data: data,
		})
	}
	for i := range n {
		at := start.Add(time.Duration(i) * time.Second)
		add(i, domain.KeyCreated{KeySpec: domain.KeySpec{
			ID: benchKey(i), Account: benchAccount(i), Type: domain.KeyTypeAPI, Name: fmt.Sprintf("service %d of the billing team", i), Description: "made for a benchmark",
			Environment: domain.EnvironmentLive, Scopes: domain.Scopes{"clients:read", "invoices:read", "invoices:write"},
			Mac: domain.Mac{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)}, PepperID: "pepper1", Display: fmt.Sprintf("sk_live_%08d…", i),
			ExpiresAt: at.AddDate(1, 0, 0), Metadata: map[string]string{"team": "billing"},
		}, CreatedBy: "key_operator0000000000", CreatedAt: at})
	}
	for i := range n {
		name := fmt.Sprintf("service %d", i)
		add(i, domain.KeyUpdated{Name: &name, Scopes: &domain.Scopes{"clients:read", "invoices:*"}, UpdatedAt: start})
	}
	for i := range n {
		add(i, domain.KeyRevoked{Reason: "no longer used", RevokedAt: start})
	}
	return events
}

func benchKey(n int) domain.KeyID { return domain.KeyID(fmt.Sprintf("key_%016d", n)) }

func benchAccount(n int) domain.AccountID { return domain.AccountID(fmt.Sprintf("account%d", n%1000)) }
