package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/keyledger/keyledger/projections/projectionstest"
)

func TestStore(t *testing.T) {
	projectionstest.Run(t, func(tb testing.TB, dir string) projectionstest.Store {
		tb.Helper()
		return mustOpen(tb, dir)
	})
}

// mustOpen opens keys.db in a directory.
func mustOpen(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), Config{Path: filepath.Join(dir, "keys.db")})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
