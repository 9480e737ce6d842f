package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// TestUsageOfBefore: the file of a release that knew of last use only is brought up
// to date, with what it holds; that of a newer release is left alone.
func TestUsageOfBefore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "usage.db")
	mustExec(t, path,
		"PRAGMA journal_mode = WAL", "PRAGMA application_id = 1802270067",
		"CREATE TABLE uses (key_id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
		"CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), clean INTEGER NOT NULL) STRICT",
		"INSERT INTO state VALUES (1, 1)", "INSERT INTO uses VALUES ('key_0000000000000001', 1900000000000000)")
	store := mustOpen(t, dir)
	log := someLog(t)
	projectionstest.Project(t, store, log, projections.Config{})
	at := time.UnixMicro(1900000000000000)
	if key, err := store.Key(t.Context(), "key_0000000000000001", nil); err != nil || !key.LastUsedAt.Equal(at) {
		t.Errorf("last used at %s, %v, want %s", key.LastUsedAt, err, at)
	}
	if err := projectionstest.Use(t.Context(), store, projections.KeyUse{Key: "key_0000000000000001", At: at.Add(time.Hour), Count: 3}); err != nil {
		t.Fatal(err)
	}
	day := projections.DayOf(at.Add(time.Hour))
	if days, err := store.DailyUse(t.Context(), "key_0000000000000001", day, day); err != nil || len(days) != 1 || days[0].Count != 3 {
		t.Errorf("used %v, %v", days, err)
	}
	mustClose(t, store)
	mustClose(t, store) // again

	mustExec(t, path, "PRAGMA user_version = 99")
	if _, err := Open(t.Context(), Config{Path: filepath.Join(dir, "keys.db")}); domain.CodeOf(err) != CodeForeign {
		t.Errorf("opened the file of a newer release: %v", err)
	}
	if _, err := store.DailyUse(t.Context(), "key_0000000000000001", day, day); domain.CodeOf(err) != CodeClosed {
		t.Errorf("read after the end: %v", err)
	}
}
