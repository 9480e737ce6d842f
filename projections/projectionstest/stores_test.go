package projectionstest_test

import (
	"testing"
	"time"

	"github.com/keyledger/keyledger/projections/postgres"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/projectionstest"
	"github.com/keyledger/keyledger/projections/sqlite"
)

// readLimit is how long one read may take here: with the race detector, and beside
// other packages' tests, the limits of a node are too short.
const readLimit = time.Minute

// TestStoresAgree takes one history of 100,000 events into both databases: each
// answers as the model does, now and at random moments of the past, and so both
// answer the same, byte for byte.
func TestStoresAgree(t *testing.T) {
	history := projectionstest.LongHistory{Events: 100_000, Seed: 7, Moments: 12}
	digests := map[string]string{}
	t.Run("sqlite", func(t *testing.T) {
		digests[t.Name()] = projectionstest.RunLong(t, projectionstest.Suite{
			NewPlace: func(tb testing.TB) string { tb.Helper(); return tb.TempDir() },
			Open: func(tb testing.TB, dir string) projectionstest.Store {
				tb.Helper()
				store, err := sqlite.Open(tb.Context(), sqlite.Config{Path: dir + "/keys.db", ReadTimeout: readLimit})
				if err != nil {
					tb.Fatal(err)
				}
				return store
			},
		}, history)
	})
	t.Run("postgresql", func(t *testing.T) {
		digests[t.Name()] = projectionstest.RunLong(t, projectionstest.Suite{
			NewPlace: postgrestest.MustDatabases(t).MustCreate,
			Open: func(tb testing.TB, url string) projectionstest.Store {
				tb.Helper()
				store, err := postgres.Open(tb.Context(), postgres.Config{URL: url, StatementTimeout: readLimit})
				if err != nil {
					tb.Fatal(err)
				}
				return store
			},
		}, history)
	})
	if a, b := digests["TestStoresAgree/sqlite"], digests["TestStoresAgree/postgresql"]; a != b || a == "" {
		t.Errorf("SQLite answers %s, PostgreSQL %s", a, b)
	}
}
