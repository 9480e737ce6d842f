package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// TestOneConnection: a build that gets no second connection makes its indexes on the
// one that it has.
func TestOneConnection(t *testing.T) {
	server := postgrestest.MustServer(t)
	address := server.MustDatabase(t)
	mustExec(t, address, `CREATE ROLE alone LOGIN CONNECTION LIMIT 1;
		DO $$ BEGIN EXECUTE 'GRANT CREATE ON DATABASE ' || current_database() || ' TO alone'; END $$`)
	store := mustOpen(t, as(t, address, "alone", ""))
	build, err := store.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := build.Complete(t.Context()); err != nil {
		t.Error(err)
	}
	if err := build.Swap(t.Context()); err != nil {
		t.Error(err)
	}
	if err := build.Discard(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCompletionCutOff: a build whose sessions are lost or given up while it makes its
// indexes ends, and the next begins anew.
func TestCompletionCutOff(t *testing.T) {
	address := postgrestest.MustDatabases(t).MustCreate(t)
	store := mustOpen(t, address)
	log := projectionstest.NewLog(projectionstest.Example(50, 1)...)
	projectionstest.Project(t, store, log, projections.Config{})
	hand, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hand.Close(context.WithoutCancel(t.Context())) }()
	for name, cut := range map[string]struct {
		do   func(pid int32, cancel context.CancelFunc)
		want func(error) bool
	}{
		"lost": {
			func(pid int32, _ context.CancelFunc) {
				if _, err := hand.Exec(t.Context(), "SELECT pg_terminate_backend($1)", pid); err != nil {
					t.Error(err)
				}
			},
			func(err error) bool { return domain.KindOf(err) == domain.KindUnavailable },
		},
		"cancelled": {
			func(_ int32, cancel context.CancelFunc) { cancel() },
			func(err error) bool { return errors.Is(err, context.Canceled) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			build, err := store.Build(ctx)
			if err != nil {
				t.Fatal(err)
			}
			// Whoever fills keys reads it, and waits.
			if _, err := hand.Exec(ctx, "BEGIN; LOCK TABLE keyledger.usage IN ACCESS EXCLUSIVE MODE", pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- build.Complete(ctx) }()
			var pid int32
			for pid == 0 {
				const waits = "SELECT coalesce(max(pid), 0) FROM pg_locks WHERE NOT granted AND relation = 'keyledger.usage'::regclass"
				if err := hand.QueryRow(ctx, waits).Scan(&pid); err != nil {
					t.Fatal(err)
				}
			}
			cut.do(pid, cancel)
			if err := <-ended; !cut.want(err) {
				t.Errorf("complete: %v", err)
			}
			if _, err := hand.Exec(t.Context(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			if err := build.Swap(t.Context()); err == nil {
				t.Error("it was swapped in")
			}
			if err := build.Discard(t.Context()); err != nil {
				t.Error(err)
			}
			projectionstest.Rebuild(t, store, log, projections.Config{})
			projectionstest.Check(t, store, log.Events())
			var building int
			if err := hand.QueryRow(t.Context(), "SELECT count(*) FROM keyledger.builds WHERE state = 'building'").Scan(&building); err != nil || building != 0 {
				t.Errorf("%d builds are left, %v", building, err)
			}
		})
	}
}
