package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	gosync "sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// TestLeftovers: whatever a crash or an older release left, the newest complete
// tables are the ones that are opened, and the rest goes.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	log := someLog(t)
	live := mustFillAndClose(t, dir, log)
	content, err := os.ReadFile(live)
	if err != nil {
		t.Fatal(err)
	}
	mark := func(name string, statements ...string) {
		path := filepath.Join(dir, name)
		mustWriteFile(t, path, content)
		mustExec(t, path, statements...)
	}
	mark("keys.db", "PRAGMA user_version = 1")                       // of release 0.2
	mark("keys.3.db", "PRAGMA user_version = 1", "DROP TABLE audit") // of another schema version
	mark("keys.4.db", "PRAGMA application_id = 1802269282")          // complete, and not swapped in
	mark("keys.2.db")                                                // swapped in before keys.1.db was removed
	mustWriteFile(t, filepath.Join(dir, "keys.5.db"), nil)
	for _, name := range [...]string{"keys.5.db.build", "keys.5.db.build-journal", "keys.6.db.build", "keys.db.build"} {
		mustWriteFile(t, filepath.Join(dir, name), []byte("left by a crash"))
	}
	store := mustOpen(t, dir)
	projectionstest.Check(t, store, log.Events())
	if state, err := store.State(t.Context()); err != nil || state.Generation != 2 {
		t.Errorf("state: %+v, %v", state, err)
	}
	mustClose(t, store)
	if left := files(t, dir); !slices.Equal(left, []string{"keys.2.db", "usage.db"}) {
		t.Errorf("left: %v", left)
	}
}

// TestOtherFilesStay: names that are only like those of the store are not its own.
func TestOtherFilesStay(t *testing.T) {
	dir := t.TempDir()
	others := []string{"keys.0.db", "keys.01.db", "keys.1.db.bak", "keys.x.db", "keys.db.old", "other.1.db"}
	for _, name := range others {
		mustWriteFile(t, filepath.Join(dir, name), []byte("mine"))
	}
	mustFillAndClose(t, dir, someLog(t))
	for _, name := range others {
		if !slices.Contains(files(t, dir), name) {
			t.Errorf("%s is gone", name)
		}
	}
}

// TestSwapKeepsReadsGoing: a read that began before a swap ends well, however long
// it takes, and the old file goes when it has.
func TestSwapKeepsReadsGoing(t *testing.T) {
	dir := t.TempDir()
	log := someLog(t)
	store := mustOpen(t, dir)
	defer mustClose(t, store)
	projectionstest.Project(t, store, log, projections.Config{})
	old := store.live.Load()
	err := store.read(t.Context(), func(ctx context.Context, on querier) error {
		projectionstest.Rebuild(t, store, log, projections.Config{})
		if now := store.live.Load(); now.number <= old.number {
			t.Errorf("generation %d after a rebuild of %d", now.number, old.number)
		}
		keys, err := collect(ctx, on, "SELECT created_seq FROM keys", nil, func(v *values) (uint64, error) { return v.seq(), nil })
		if len(keys) == 0 {
			t.Error("nothing is read from the old tables")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	store.dropping.Wait()
	if _, err := os.Stat(old.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old file: %v", err)
	}
}

// TestReadersSeeNoSwap: readers that never rest get no error while tables are
// rebuilt over and over, and no half-built answer.
func TestReadersSeeNoSwap(t *testing.T) {
	log := someLog(t)
	store := mustOpen(t, t.TempDir())
	defer mustClose(t, store)
	projectionstest.Project(t, store, log, projections.Config{})
	query := projections.KeyQuery{Now: projectionstest.Start(), PageSize: projections.MaxPageSize}
	want, err := store.Keys(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var readers gosync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for ctx.Err() == nil {
				got, err := store.Keys(t.Context(), query)
				if err != nil || len(got.Keys) != len(want.Keys) {
					t.Errorf("read: %d keys of %d, %v", len(got.Keys), len(want.Keys), err)
					return
				}
			}
		})
	}
	for range 5 {
		projectionstest.Rebuild(t, store, log, projections.Config{})
	}
	stop()
	readers.Wait()
}

// TestUsesOutliveTables: when keys were used is kept over rebuilds, over the loss of
// the tables and over a crash before it was copied to them.
func TestUsesOutliveTables(t *testing.T) {
	dir := t.TempDir()
	log := someLog(t)
	store := mustOpen(t, dir)
	projectionstest.Project(t, store, log, projections.Config{})
	page, err := store.Keys(t.Context(), projections.KeyQuery{Now: projectionstest.Start()})
	if err != nil {
		t.Fatal(err)
	}
	id, at := page.Keys[0].ID, projectionstest.Start().Add(time.Hour)
	check := func(when string) {
		t.Helper()
		if key, err := store.Key(t.Context(), id, nil); err != nil || !key.LastUsedAt.Equal(at) {
			t.Errorf("%s: last used at %v, %v", when, key.LastUsedAt, err)
		}
	}
	if err := projectionstest.Use(t.Context(), store, projections.KeyUse{Key: id, At: at}, projections.KeyUse{Key: id, At: at.Add(-time.Minute)}); err != nil {
		t.Fatal(err)
	}
	check("at once")
	projectionstest.Rebuild(t, store, log, projections.Config{})
	check("after a rebuild")
	path := store.live.Load().path
	mustClose(t, store)

	mustExec(t, path, "UPDATE keys SET last_used = 0")
	mustExec(t, filepath.Join(dir, "usage.db"), "UPDATE state SET clean = 0")
	store = mustOpen(t, dir)
	check("after a crash")
	mustClose(t, store)

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	store = mustOpen(t, dir)
	defer mustClose(t, store)
	projectionstest.Project(t, store, log, projections.Config{})
	check("without the tables")
}
