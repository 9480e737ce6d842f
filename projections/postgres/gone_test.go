package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

func mustExec(t *testing.T, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// TestSwappedAtTheSameEvent: a lead does not write to other tables than those whose
// checkpoint it gave, although they are at the same event.
func TestSwappedAtTheSameEvent(t *testing.T) {
	store := mustOpen(t, postgrestest.MustDatabases(t).MustCreate(t))
	log := projectionstest.NewLog(projectionstest.Example(30, 1)...)
	projectionstest.Project(t, store, log, projections.Config{})
	lead, err := store.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lead.Close(t.Context()) }()
	at, err := lead.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, store.cfg.URL, `UPDATE keyledger.builds SET state = 'retired';
		INSERT INTO keyledger.builds (id, schema_version, state, seq, event_id, clock) SELECT id + 100, schema_version, 'live', seq, event_id, clock FROM keyledger.builds;
		DO $$ BEGIN EXECUTE (SELECT 'ALTER SCHEMA keyledger_' || id || ' RENAME TO keyledger_' || id + 100 FROM keyledger.builds WHERE state = 'retired'); END $$`)
	if _, err := lead.Load(t.Context(), projections.Lookup{}); !errors.Is(err, projections.ErrCheckpointMoved) {
		t.Errorf("load: %v", err)
	}
	to := projections.Checkpoint{Seq: at.Seq + 1, EventID: "next"}
	if err := lead.Write(t.Context(), projections.Batch{From: at, To: to}); !errors.Is(err, projections.ErrCheckpointMoved) {
		t.Errorf("write: %v", err)
	}
	if again, err := lead.Checkpoint(t.Context()); err != nil || again != at {
		t.Errorf("checkpoint %+v, %v", again, err)
	}
	if err := lead.Write(t.Context(), projections.Batch{From: at, To: to}); err != nil {
		t.Errorf("write to the tables that the checkpoint is of: %v", err)
	}
}

// TestDropped: tables that a hand dropped, some or all, are made anew.
func TestDropped(t *testing.T) {
	url := postgrestest.MustDatabases(t).MustCreate(t)
	log := projectionstest.NewLog(projectionstest.Example(50, 1)...)
	a := mustNode(t, url, "a", log)
	waitFor(t, log, a)
	for round, drop := range [...]string{
		`DO $$ BEGIN EXECUTE (SELECT 'DROP SCHEMA keyledger_' || id || ' CASCADE' FROM keyledger.builds WHERE state = 'live'); END $$`,
		`DO $$ BEGIN EXECUTE (SELECT 'DROP TABLE keyledger_' || id || '.keys' FROM keyledger.builds WHERE state = 'live'); END $$`,
		"DROP SCHEMA keyledger CASCADE; DROP SCHEMA IF EXISTS keyledger_1, keyledger_2, keyledger_3 CASCADE",
		"DROP TABLE keyledger.usage",
	} {
		mustExec(t, url, drop)
		if err := projectionstest.Use(t.Context(), a.store, projections.KeyUse{Key: "key_a", At: time.Now()}); err != nil {
			t.Errorf("%s: use: %v", drop, err)
		}
		log.Append(projectionstest.Example(20, 10+round)...)
		waitFor(t, log, a)
		if found := projectionstest.Differences(t, a.store, log, projections.Config{}); len(found) > 0 {
			t.Errorf("%s: found %+v", drop, found)
		}
	}
}

// TestLeftBehind: a lead removes builds whose builder has died, and no other; a build
// that was removed is not swapped in.
func TestLeftBehind(t *testing.T) {
	store := mustOpen(t, postgrestest.MustDatabases(t).MustCreate(t))
	log := projectionstest.NewLog(projectionstest.Example(30, 1)...)
	projectionstest.Project(t, store, log, projections.Config{})
	const leave = `INSERT INTO keyledger.builds (id, schema_version, state) VALUES (99, 1, 'building'); CREATE SCHEMA keyledger_99`
	left := func() (n int) {
		t.Helper()
		if err := store.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname = 'keyledger_99'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	lead := func() {
		t.Helper()
		lead, err := store.Lead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := lead.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mustExec(t, store.cfg.URL, leave)
	lead()
	if left() != 0 {
		t.Error("it is still there")
	}
	build, err := store.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = build.Discard(t.Context()) }()
	mustExec(t, store.cfg.URL, leave)
	lead()
	if left() != 1 {
		t.Error("it was removed while somebody builds")
	}
	if err := build.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustExec(t, store.cfg.URL, "UPDATE keyledger.builds SET seq = 0 WHERE state = 'live'; DELETE FROM keyledger.builds WHERE state = 'building'")
	before, _ := store.State(t.Context())
	if err := build.Swap(t.Context()); !errors.Is(err, errBuildGone) {
		t.Errorf("swap: %v", err)
	}
	if after, err := store.State(t.Context()); err != nil || after != before || !after.Live {
		t.Errorf("state %+v, %v, before %+v", after, err, before)
	}
}

// TestNodeStandsStill: a node that stands still while it notes uses keeps the lead
// waiting for seconds, not for ever.
func TestNodeStandsStill(t *testing.T) {
	store := mustOpen(t, postgrestest.MustDatabases(t).MustCreate(t))
	log := projectionstest.NewLog(projectionstest.Example(30, 1)...)
	projectionstest.Project(t, store, log, projections.Config{})
	lead, err := store.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lead.Close(t.Context()) }()
	at, err := lead.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	still, err := store.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer still.Release()
	if _, err := still.Exec(t.Context(), "BEGIN; SELECT pg_advisory_xact_lock_shared($1, $2)", pgx.QueryExecModeSimpleProtocol, lockClass, usageLock); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := lead.Write(t.Context(), projections.Batch{From: at, To: projections.Checkpoint{Seq: at.Seq + 1, EventID: "next"}}); err != nil {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}
