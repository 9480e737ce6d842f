package sqlite

import (
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// TestCloseWhileBuilding: the store can be closed at any moment of a build, which is
// told so.
func TestCloseWhileBuilding(t *testing.T) {
	for round := range 20 {
		store := mustOpen(t, t.TempDir())
		build, err := store.Build(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			var at projections.Checkpoint
			for {
				batch := projections.Batch{From: at, To: projections.Checkpoint{Seq: at.Seq + 1, EventID: "event", Clock: projectionstest.Start()}}
				batch.Audit = []projections.AuditEntry{{Seq: batch.To.Seq, Clock: projectionstest.Start()}}
				at = batch.To
				err := build.Write(t.Context(), batch)
				if err == nil && at.Seq == 50 {
					err = build.Complete(t.Context())
				}
				if err == nil && at.Seq%7 == 0 {
					_, err = build.Checkpoint(t.Context())
				}
				if err != nil {
					ended <- err
					return
				}
			}
		}()
		<-time.After(time.Duration(round) * time.Millisecond) // a moment like any other
		mustCloseSoon(t, store)
		if err := <-ended; domain.CodeOf(err) != CodeClosed {
			t.Errorf("the build ended with %v", err)
		}
		_, loads := build.Load(t.Context(), projections.Lookup{Keys: []domain.KeyID{"key_none"}})
		_, compares := build.Compare(t.Context())
		_, reads := build.Checkpoint(t.Context())
		for doing, err := range map[string]error{"load": loads, "compare": compares, "read": reads, "complete": build.Complete(t.Context()), "swap": build.Swap(t.Context())} {
			if domain.CodeOf(err) != CodeClosed {
				t.Errorf("%s after Close: %v", doing, err)
			}
		}
		if err := build.Discard(t.Context()); err != nil {
			t.Errorf("discard after Close: %v", err)
		}
	}
}

// TestCloseWithComparison: a comparison that nobody closed keeps no store open, even
// of tables that others took the place of.
func TestCloseWithComparison(t *testing.T) {
	store := mustOpen(t, t.TempDir())
	log := someLog(t)
	projectionstest.Project(t, store, log, projections.Config{})
	build, err := store.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	view, err := build.Compare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := build.Discard(t.Context()); err != nil {
		t.Fatal(err)
	}
	projectionstest.Rebuild(t, store, log, projections.Config{})
	mustCloseSoon(t, store)
	if err := view.Differences(t.Context(), func(string, int64) {}, func(projections.Difference) error { return nil }); domain.CodeOf(err) != CodeClosed {
		t.Errorf("differences after Close: %v", err)
	}
	if err := view.Close(); err != nil {
		t.Errorf("close the comparison: %v", err)
	}
}

func mustCloseSoon(t *testing.T, store *Store) {
	t.Helper()
	closed := make(chan error, 1)
	go func() { closed <- store.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Fatalf("close: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("close hangs")
	}
}
