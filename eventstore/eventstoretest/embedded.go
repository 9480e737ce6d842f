// Package eventstoretest holds what tests of other packages need of the log, and
// the suite that any NATS installation must pass to carry it.
//
// It may import eventstore and eventstore/embedded. Called by tests only.
package eventstoretest

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
)

const stopTimeout = 10 * time.Second

// MustEmbedded opens a log on an embedded server of its own. The server is
// stopped and its files removed when the test ends. It syncs lazily, for speed:
// tests of durability start their own.
func MustEmbedded(tb testing.TB) *eventstore.Log {
	tb.Helper()
	return MustOpen(tb, eventstore.Config{Conn: MustConnect(tb, MustServer(tb, embedded.Config{Sync: embedded.SyncLazy}))})
}

// MustServer starts a server that stops when the test ends. An empty DataDir
// means one of the test's own.
func MustServer(tb testing.TB, cfg embedded.Config) *embedded.Server {
	tb.Helper()
	if cfg.DataDir == "" {
		cfg.DataDir = tb.TempDir()
	}
	s, err := embedded.Start(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), stopTimeout)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// MustConnect connects inside the process; the connection closes when the test ends.
func MustConnect(tb testing.TB, s *embedded.Server) *nats.Conn {
	tb.Helper()
	nc, err := s.Connect(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// MustOpen opens a log.
func MustOpen(tb testing.TB, cfg eventstore.Config) *eventstore.Log {
	tb.Helper()
	log, err := eventstore.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return log
}

// MustAppend appends and fails the test if that fails.
func MustAppend(tb testing.TB, log *eventstore.Log, meta eventstore.Meta, changes ...eventstore.Change) []eventstore.Event {
	tb.Helper()
	events, err := log.Append(tb.Context(), meta, changes...)
	if err != nil {
		tb.Fatal(err)
	}
	return events
}
