package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// TestFrozen: a server that stands still, connections open, hangs nobody.
func TestFrozen(t *testing.T) {
	server := postgrestest.MustServer(t)
	store := mustOpenConfig(t, Config{URL: server.MustDatabase(t), StatementTimeout: 500 * time.Millisecond})
	log := projectionstest.NewLog(projectionstest.Example(30, 1)...)
	projectionstest.Project(t, store, log, projections.Config{})
	build, err := store.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Resume)
	server.Pause()
	within := func(what string, limit time.Duration, do func() error) {
		t.Helper()
		began := time.Now()
		err := do()
		if took := time.Since(began); took > limit {
			t.Errorf("%s took %s", what, took)
		}
		if domain.KindOf(err) != domain.KindUnavailable {
			t.Errorf("%s: %v", what, err)
		}
	}
	// More than the network holds for a server that does not read.
	big := projections.AuditEntry{Seq: 1, EventID: "event", Reason: strings.Repeat("x", 16<<20)}
	if err := build.Write(t.Context(), projections.Batch{To: projections.Checkpoint{Seq: 1, EventID: "event"}, Audit: []projections.AuditEntry{big}}); err != nil {
		t.Fatal(err)
	}
	within("checkpoint of the build", 2*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := build.Checkpoint(ctx)
		return err
	})
	began := time.Now()
	if err := build.Discard(t.Context()); err != nil || time.Since(began) > 2*closeWithin {
		t.Errorf("discard took %s: %v", time.Since(began), err)
	}
	within("state", 3*time.Second, func() error { _, err := store.State(t.Context()); return err })
	within("keys", 3*time.Second, func() error {
		_, err := store.Keys(t.Context(), projections.KeyQuery{Now: time.Now()})
		return err
	})
	within("lead", connectWithin+time.Second, func() error { _, err := store.Lead(t.Context()); return err })
	server.Resume()
	log.Append(projectionstest.Example(20, 2)...)
	projectionstest.Project(t, store, log, projections.Config{})
	projectionstest.Check(t, store, log.Events())
}
