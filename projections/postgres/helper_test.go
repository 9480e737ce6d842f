package postgres

import (
	"testing"
	"time"
)

// mustOpen opens a store that closes with the test.
func mustOpen(tb testing.TB, url string) *Store {
	tb.Helper()
	return mustOpenConfig(tb, Config{URL: url, Readers: 4, StatementTimeout: time.Minute}) // with the race detector a node's limit is too short
}

func mustOpenConfig(tb testing.TB, cfg Config) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}
