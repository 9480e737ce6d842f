package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
)

// TestDatabaseFails kills, freezes and closes PostgreSQL, and the node that writes
// to it, while three nodes take commands and checks: these do not notice, reads are
// refused with what to do, and in the end the tables are what the log says.
func TestDatabaseFails(t *testing.T) {
	w := newDatabaseWorld(t)
	nodes := w.nodes
	token := w.mustToken()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	for _, node := range nodes {
		clients.Go(func() { w.write(ctx, node) })
		clients.Go(func() { w.check(ctx, node, token) })
	}
	const some = 300
	w.phase("all is well", some)

	w.postgres.Kill()
	w.phase("PostgreSQL was killed", some)
	w.mustRefuseReads("killed", "read_store_unavailable")
	w.postgres.MustStart(t)
	w.mustCatchUp("killed and started", nodes...)

	w.admin("ALTER DATABASE " + w.database + " ALLOW_CONNECTIONS false")
	w.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + w.database + "'")
	w.phase("it refuses connections", some)
	w.mustRefuseReads("refusing", "read_store_unavailable")
	w.admin("ALTER DATABASE " + w.database + " ALLOW_CONNECTIONS true")
	w.mustCatchUp("refused and let in", nodes...)

	w.postgres.Pause()
	w.phase("it does not answer", some)
	w.mustRefuseReads("frozen", "read_store_unavailable", "read_store_timeout", "not_caught_up")
	w.postgres.Resume()
	w.mustCatchUp("frozen and thawed", nodes...)

	w.phase("all is well again", some)
	stop()
	clients.Wait()
	lead := w.leader(nodes...)
	if lead == nil {
		t.Fatal("no node writes to the tables")
	}
	rest := slices.DeleteFunc(slices.Clone(nodes), func(p *process) bool { return p == lead })
	began := time.Now()
	lead.kill()
	eventually(t, "another node writes to the tables", func() bool { return w.leader(rest...) != nil })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("another node took over after %v", took)
	} else {
		t.Logf("another node took over after %v", took.Round(time.Millisecond))
	}
	w.mustCatchUp("the leader was killed", rest...)
	w.mustAgree(rest...)
}

// TestStartsWithoutItsDatabase starts a node while PostgreSQL is down: it takes
// commands and checks, and its tables come when the database does.
func TestStartsWithoutItsDatabase(t *testing.T) {
	server := postgrestest.MustServer(t)
	w := newTestWorld(t)
	w.env["KEYLEDGER_DATABASE_URL"] = server.MustDatabase(t)
	server.Kill()
	w.mustStart(t)
	token, id := w.mustCreate(t, "--name", "early", "--environment", "live", "--full-access")
	if r := w.cli(t, token, "verify"); r.code != exitOK {
		t.Errorf("verify: %+v", r)
	}
	if r := w.cli(t, "", "keys", "show", id); r.code != exitFailed || !strings.Contains(r.stderr, "read_store_unavailable") {
		t.Errorf("show: %+v", r)
	}
	if r := w.cli(t, "", "projections", "status"); r.code != exitFailed || !strings.Contains(r.stdout, "unavailable") {
		t.Errorf("status: %+v", r)
	}
	server.MustStart(t)
	eventually(t, "the tables are there", func() bool { return w.cli(t, "", "keys", "show", id).code == exitOK })
	if r := w.cli(t, "", "projections", "check"); r.code != exitOK {
		t.Errorf("check: %+v", r)
	}
}

// mustAgree holds the tables against the log: nothing lost, nothing twice.
func (w *databaseWorld) mustAgree(nodes ...*process) {
	w.t.Helper()
	for _, err := range w.troubles {
		w.t.Error(err)
	}
	for _, node := range nodes {
		c := node.client(w.operator)
		next := uint64(1)
		for e, err := range c.AuditEntries(w.t.Context(), client.AuditQuery{OldestFirst: true}) {
			if err != nil {
				w.t.Fatal(err)
			}
			if e.Seq != next {
				w.t.Fatalf("the audit log goes on with seq %d, not %d", e.Seq, next)
			}
			next++
		}
		count, err := c.CountKeys(w.t.Context(), client.KeyQuery{})
		if want := int(w.created.Load()); err != nil || count.Keys < want {
			w.t.Errorf("there are %+v keys, %v; %d were acknowledged", count, err, want)
		}
		result, err := c.CheckProjections(w.t.Context(), nil, func(d client.ProjectionsDifference) { w.t.Errorf("the tables are not what the log says: %+v", d) })
		if err != nil || result.Differences != 0 || result.Rows == 0 {
			w.t.Errorf("check: %+v, %v", result, err)
		}
		w.t.Logf("%d events, %d keys, %d rows compared: nothing lost, nothing twice", next-1, count.Keys, result.Rows)
	}
}

func (w *databaseWorld) mustToken() string {
	w.t.Helper()
	out, err := w.nodes[0].client(w.operator).CreateKey(w.t.Context(), client.CreateKeyRequest{Name: "checked", Environment: "live", FullAccess: true})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, node := range w.nodes {
		eventually(w.t, "every node knows the key", func() bool {
			result, err := node.client(w.operator).Verify(w.t.Context(), client.VerifyRequest{Key: out.Token})
			return err == nil && result.Valid
		})
	}
	return out.Token
}

// admin runs a statement beside the nodes' database.
func (w *databaseWorld) admin(statement string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.postgres.URL("postgres"))
	if err == nil {
		_, err = conn.Exec(w.t.Context(), statement)
		_ = conn.Close(w.t.Context())
	}
	if err != nil {
		w.t.Fatalf("%s: %v", statement, err)
	}
}
