package postgres

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

func TestMalformedURL(t *testing.T) {
	for _, address := range [...]string{"postgres://u:hush@host:port/db", "postgres://u:hu%zzsh@host/db", "host=x password=hush port=none", "postgres://u:hush@h/db?sslmode=maybe"} {
		_, err := Open(t.Context(), Config{URL: address})
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v", err)
		}
	}
}

// TestServerAway: a store opens without its server, says what is wrong without the
// password, and goes on when the server is there, and there again.
func TestServerAway(t *testing.T) {
	server := postgrestest.MustServer(t)
	database := server.MustDatabase(t)
	address := as(t, database, "", "hush")
	server.MustStop(t)
	store := mustOpen(t, address)
	check := func(when string) {
		t.Helper()
		_, stateErr := store.State(t.Context())
		_, keysErr := store.Keys(t.Context(), projections.KeyQuery{Now: time.Now()})
		_, leadErr := store.Lead(t.Context())
		_, buildErr := store.Build(t.Context())
		useErr := projectionstest.Use(t.Context(), store, projections.KeyUse{Key: "key_a", At: time.Now()})
		for what, err := range map[string]error{"state": stateErr, "keys": keysErr, "lead": leadErr, "build": buildErr, "use": useErr} {
			if domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != projections.CodeUnavailable || strings.Contains(err.Error(), "hush") {
				t.Errorf("%s, %s: %v", when, what, err)
			}
		}
	}
	check("before it was ever there")
	server.MustStart(t)
	log := projectionstest.NewLog(projectionstest.Example(100, 1)...)
	projectionstest.Project(t, store, log, projections.Config{})
	server.Kill()
	check("after it was killed")
	server.MustStart(t)
	log.Append(projectionstest.Example(20, 2)...)
	projectionstest.Project(t, store, log, projections.Config{})
	projectionstest.Check(t, store, log.Events())
}

// TestFaults: what a busy, slow or forbidding server says is unavailable, with a
// code and what to do.
func TestFaults(t *testing.T) {
	server := postgrestest.MustServer(t, "max_connections=8", "superuser_reserved_connections=1")
	address := server.MustDatabase(t)
	store := mustOpenConfig(t, Config{URL: address, Readers: 1, StatementTimeout: 50 * time.Millisecond})
	projectionstest.Project(t, store, projectionstest.NewLog(projectionstest.Example(30, 1)...), projections.Config{})

	slow := store.read(t.Context(), "sleep", func(ctx context.Context, tx pgx.Tx, _ string) error {
		_, err := tx.Exec(ctx, "SELECT pg_sleep(60)")
		return err
	})
	if domain.CodeOf(slow) != projections.CodeTimeout || domain.KindOf(slow) != domain.KindUnavailable {
		t.Errorf("a read that is slow: %v", slow)
	}
	held, err := store.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.State(t.Context()); err != nil {
		t.Errorf("the state, while reads have all connections: %v", err)
	}
	if _, err := store.Key(t.Context(), "key_a", nil); domain.CodeOf(err) != projections.CodeUnavailable || !errors.Is(err, errAcquire) {
		t.Errorf("without a free connection: %v", err)
	}
	held.Release()

	var taken []*pgx.Conn
	for {
		conn, err := pgx.Connect(t.Context(), address)
		if err != nil {
			break
		}
		taken = append(taken, conn)
	}
	if _, err := store.Lead(t.Context()); domain.CodeOf(err) != projections.CodeUnavailable || sqlState(err) != "53300" {
		t.Errorf("without connections: %v", err)
	}
	for _, sql := range []string{"CREATE ROLE poor LOGIN", "CREATE DATABASE poorhouse"} {
		if _, err := taken[0].Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, conn := range taken {
		_ = conn.Close(t.Context())
	}
	poor := mustOpen(t, as(t, server.URL("poorhouse"), "poor", ""))
	var build projections.Build
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if build, err = poor.Build(t.Context()); sqlState(err) != "53300" { // until the connections are gone
			break
		}
	}
	failure, ok := errors.AsType[*domain.Error](err)
	if build != nil || !ok || failure.Kind != domain.KindUnavailable || !strings.Contains(failure.Fix, "GRANT CREATE ON DATABASE") {
		t.Errorf("a role that may not make schemas: %v", err)
	}
}

// TestLittleMemory: a build that has no room for the current rows goes on by indexes.
func TestLittleMemory(t *testing.T) {
	store := mustOpenConfig(t, Config{URL: postgrestest.MustDatabases(t).MustCreate(t), BuildMemory: 10_000})
	log := projectionstest.NewLog(projectionstest.Example(400, 5)...)
	projectionstest.Project(t, store, log, projections.Config{BatchSize: 20, CacheSize: 4})
	projectionstest.Check(t, store, log.Events())
	if found := projectionstest.Differences(t, store, log, projections.Config{BatchSize: 20, CacheSize: 4}); len(found) > 0 {
		t.Errorf("found %+v", found)
	}
}

// TestTogether: nodes that start at once on an empty database do not trip over
// each other.
func TestTogether(t *testing.T) {
	address := postgrestest.MustDatabases(t).MustCreate(t)
	var starting sync.WaitGroup
	for range 6 {
		store := mustOpen(t, address)
		starting.Go(func() {
			if err := projectionstest.Use(t.Context(), store, projections.KeyUse{Key: "key_a", At: time.Now()}); err != nil {
				t.Error(err)
			}
			if _, err := store.Build(t.Context()); err != nil && domain.CodeOf(err) != projections.CodeBuildRunning {
				t.Error(err)
			}
		})
	}
	starting.Wait()
}

// as returns the URL with a password, and for another user if one is named.
func as(t *testing.T, address, user, password string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if user == "" {
		user = u.User.Username()
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}
