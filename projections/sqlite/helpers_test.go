package sqlite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// someLog makes a log of a history that is the same every time.
func someLog(t *testing.T) *projectionstest.Log {
	t.Helper()
	return projectionstest.NewLog(projectionstest.Example(300, 3)...)
}

// mustFillAndClose makes tables of a log, and returns the file they are in.
func mustFillAndClose(t *testing.T, dir string, log *projectionstest.Log) string {
	t.Helper()
	store := mustOpen(t, dir)
	projectionstest.Project(t, store, log, projections.Config{})
	projectionstest.Check(t, store, log.Events())
	path := store.live.Load().path
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustWriteFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// damage overwrites a part of a file.
func damage(t *testing.T, path string, from, n int) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := from; i < min(from+n, len(content)); i++ {
		content[i] = 0xa5
	}
	mustWriteFile(t, path, content)
}

// mustClose closes a store.
func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// files returns the names of the files in a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, filepath.Base(e.Name()))
	}
	return names
}
