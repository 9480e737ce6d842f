package sqlite

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyledger/keyledger/projections/projectionstest"
)

func suite() projectionstest.Suite {
	return projectionstest.Suite{
		NewPlace: func(tb testing.TB) string { tb.Helper(); return tb.TempDir() },
		Open:     func(tb testing.TB, dir string) projectionstest.Store { tb.Helper(); return mustOpen(tb, dir) },
		Tampers: []projectionstest.Tamper{
			tamper("a name by hand", "keys", "name", "key_0000000000000003", "UPDATE keys SET name = 'by hand' WHERE key_id = 'key_0000000000000003'"),
			tamper("a revocation taken back", "keys", "revoked_at", "key_0000000000000005", "UPDATE keys SET revoked_at = NULL WHERE key_id = 'key_0000000000000005'"),
			tamper("a use that never was", "keys", "last_used", "key_0000000000000002", "UPDATE keys SET last_used = 7 WHERE key_id = 'key_0000000000000002'"),
			tamper("a key that is gone", "keys", "", "key_0000000000000007", "DELETE FROM keys WHERE key_id = 'key_0000000000000007'"),
			tamper("a key that never was", "keys", "", "key_from_nowhere",
				`INSERT INTO keys (created_seq, seq, key_id, account, key_type, name, name_fold, scopes, display, expires_sort, created_by, imported, notice_lead, version, search)
				VALUES (99, 99, 'key_from_nowhere', 'acme', 'api', 'x', 'x', '[]', '', 0, 'x', 0, 0, 1, 'x')`),
			tamper("a version from the past", "key_versions", "name", "key_0000000000000003",
				"UPDATE key_versions SET record = CAST(replace(CAST(record AS TEXT), 'renamed', 'RENAMED') AS BLOB) WHERE from_seq = 11"),
			tamper("an entry by another", "audit", "actor", "11", "UPDATE audit SET actor = 'somebody' WHERE seq = 11"),
			tamper("an entry that is gone", "audit", "", "key_0000000000000005", "DELETE FROM audit WHERE seq = 12"),
			tamper("another's mac", "macs", "key_id", "key_0000000000000001", "UPDATE macs SET key_id = 'another' WHERE seq = 2"),
			tamper("another clock", "checkpoint", "clock", "1", "UPDATE checkpoint SET clock = 7"),
			tamper("an index that is gone", "indexes", "", "keys_by_name", "DROP INDEX keys_by_name"),
			tamper("a void claim", "voids", "reason", "key_0000000000000001", "UPDATE voids SET reason = 'mac_taken'"),
		},
	}
}

func TestStore(t *testing.T) { projectionstest.Run(t, suite()) }

// readLimit is how long a read may take in tests: with the race detector, beside other
// packages' tests, the limit of a node is too short.
const readLimit = time.Minute

// mustOpen opens keys.db in a directory.
func mustOpen(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), Config{Path: filepath.Join(dir, "keys.db"), ReadTimeout: readLimit})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func tamper(name, table, column, row, statement string) projectionstest.Tamper {
	return projectionstest.Tamper{Name: name, Table: table, Column: column, Row: row, Do: func(tb testing.TB, dir string) {
		tb.Helper()
		mustExec(tb, mustFindLive(tb, dir), statement)
	}}
}

// mustFindLive returns the file of the only generation in a directory.
func mustFindLive(tb testing.TB, dir string) string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "keys.*.db"))
	if err != nil || len(files) != 1 {
		tb.Fatalf("files of the tables: %v, %v", files, err)
	}
	return files[0]
}

// mustExec changes a file behind the store's back.
func mustExec(tb testing.TB, path string, statements ...string) {
	tb.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.ExecContext(tb.Context(), s); err != nil {
			tb.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
}
