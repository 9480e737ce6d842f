package postgrestest

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// envURL names a server to use instead of one of the tests' own.
const envURL = "KEYLEDGER_TEST_DATABASE_URL"

// Databases makes databases, on a server of the test or on the one that the
// environment names.
type Databases struct {
	url func(database string) string
}

// MustDatabases returns where a test can have databases: on the server that
// KEYLEDGER_TEST_DATABASE_URL names (as a role that may create databases), or on one
// that is started for the test.
func MustDatabases(tb testing.TB) Databases {
	tb.Helper()
	given := os.Getenv(envURL)
	if given == "" {
		return Databases{url: MustServer(tb).URL}
	}
	base, err := url.Parse(given)
	if err != nil {
		tb.Fatalf("%s is not a URL", envURL)
	}
	return Databases{url: func(database string) string {
		u := *base
		u.Path = "/" + database
		return u.String()
	}}
}

// MustCreate makes an empty database, which ends with the test, and returns its URL.
func (d Databases) MustCreate(tb testing.TB) string {
	tb.Helper()
	name := "keyledger_" + strings.ToLower(rand.Text())
	d.mustExec(tb, "CREATE DATABASE "+name)
	tb.Cleanup(func() { d.mustExec(tb, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	return d.url(name)
}

// MustDatabase makes a database on the server.
func (s *Server) MustDatabase(tb testing.TB) string {
	tb.Helper()
	return Databases{url: s.URL}.MustCreate(tb)
}

func (d Databases) mustExec(tb testing.TB, statement string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.url("postgres"))
	if err == nil {
		_, err = conn.Exec(ctx, statement)
		_ = conn.Close(ctx)
	}
	if err != nil {
		tb.Errorf("%s: %v", statement, err)
	}
}
