package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/keyledger/keyledger/projections/projectionstest"
)

func TestStore(t *testing.T) {
	projectionstest.Run(t, func(t testing.TB, dir string) projectionstest.Store { return mustOpen(t, dir) })
}

// mustOpen opens keys.db in a directory.
func mustOpen(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: filepath.Join(dir, "keys.db")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
