package sqlite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/keyledger/keyledger/projections"
)

// A build that cannot begin again at once begins when there is room.
func TestABuildBeginsAgainWhenItCan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	s, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	inTheWay := path + ".build"
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.beginBuild(t.Context()); err == nil {
		t.Fatal("a build began where it cannot")
	}
	if _, err := s.Checkpoint(t.Context()); err == nil {
		t.Error("a checkpoint of nothing")
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	if cp, err := s.Checkpoint(t.Context()); err != nil || cp != (projections.Checkpoint{}) {
		t.Errorf("checkpoint %+v, %v; want a new build's", cp, err)
	}
}
