package postgrestest_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
)

// TestServer kills, stops and pauses a server: what was written is there again.
func TestServer(t *testing.T) {
	s := postgrestest.MustServer(t)
	url := s.MustDatabase(t)
	mustExec(t, url, "CREATE TABLE kept (n int)")
	mustExec(t, url, "CHECKPOINT")

	s.Kill()
	if err := exec(t.Context(), url, "SELECT 1"); err == nil {
		t.Error("a killed server answers")
	}
	s.MustStart(t)
	mustExec(t, url, "INSERT INTO kept VALUES (1)")

	s.MustStop(t)
	s.MustStart(t)
	mustExec(t, url, "SELECT * FROM kept")

	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := exec(ctx, url, "SELECT 1"); err == nil {
		t.Error("a paused server answers")
	}
	s.Resume()
	mustExec(t, url, "SELECT * FROM kept")
}

func mustExec(t *testing.T, url, statement string) {
	t.Helper()
	if err := exec(t.Context(), url, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func exec(ctx context.Context, url, statement string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, statement)
	return err
}
