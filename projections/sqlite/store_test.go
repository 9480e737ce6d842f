package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

func TestUnusableFiles(t *testing.T) {
	for _, test := range [...]struct {
		name, code string
		make       func(t *testing.T, dir string) (path string)
	}{
		{"no database", CodeCorrupt, func(t *testing.T, dir string) string {
			t.Helper()
			path := filepath.Join(dir, "keys.1.db")
			mustWriteFile(t, path, []byte(strings.Repeat("this is no database. ", 1000)))
			return path
		}},
		{"no database, without a number", CodeCorrupt, func(t *testing.T, dir string) string {
			t.Helper()
			path := filepath.Join(dir, "keys.db")
			mustWriteFile(t, path, []byte(strings.Repeat("this is no database. ", 1000)))
			return path
		}},
		{"damaged schema", CodeCorrupt, func(t *testing.T, dir string) string {
			t.Helper()
			path := mustFillAndClose(t, dir, someLog(t))
			damage(t, path, 100, 3000)
			return path
		}},
		{"of another program", CodeForeign, func(t *testing.T, dir string) string {
			t.Helper()
			path := filepath.Join(dir, "keys.7.db")
			mustExec(t, path, "CREATE TABLE notes (text TEXT)")
			return path
		}},
		{"uses of another program", CodeForeign, func(t *testing.T, dir string) string {
			t.Helper()
			path := filepath.Join(dir, "usage.db")
			mustExec(t, path, "CREATE TABLE notes (text TEXT)")
			return path
		}},
		{"a directory", CodeForeign, func(t *testing.T, dir string) string {
			t.Helper()
			path := filepath.Join(dir, "keys.db")
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			return path
		}},
		{"in a directory that is not there", CodeUnreadable, func(t *testing.T, dir string) string {
			t.Helper()
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			return dir
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := test.make(t, dir)
			before, _ := os.ReadFile(path)
			_, err := Open(t.Context(), Config{Path: filepath.Join(dir, "keys.db")})
			e, ok := errors.AsType[*domain.Error](err)
			if !ok || e.Code != test.code || e.Fix == "" {
				t.Fatalf("open: %v", err)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
}

// TestDamageFoundLater: a page that is damaged is an error that says what to do, for
// readers and for the projector, which stops.
func TestDamageFoundLater(t *testing.T) {
	dir := t.TempDir()
	log := someLog(t)
	path := mustFillAndClose(t, dir, log)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, path, 3*8192, int(info.Size())-3*8192)
	store := mustOpen(t, dir)
	defer mustClose(t, store)
	_, err = store.Keys(t.Context(), projections.KeyQuery{Now: projectionstest.Start()})
	if domain.KindOf(err) != domain.KindInternal || domain.CodeOf(err) != CodeCorrupt {
		t.Errorf("read: %v", err)
	}
	log.Append(log.Events()[0])
	p, err := projections.New(projections.Config{Store: store, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Run(ctx); domain.CodeOf(err) != CodeCorrupt || !p.Status().Stopped {
		t.Errorf("run: %v", err)
	}
}

func TestLockedByAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	db, err := openDB(mustFillAndClose(t, dir, someLog(t)), "rw", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err = Open(ctx, Config{Path: filepath.Join(dir, "keys.db")})
	if domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != CodeBusy {
		t.Errorf("open: %v", err)
	}
}

// TestFullDisk: while there is no space the projector waits and says why; when
// there is, it goes on, and nothing is lost or doubled. max_page_count makes SQLite
// say what it says on a full disk.
func TestFullDisk(t *testing.T) {
	log := projectionstest.NewLog()
	store := mustOpen(t, t.TempDir())
	defer mustClose(t, store)
	projectionstest.Project(t, store, log, projections.Config{})
	conn := store.live.Load().writer.conn
	if _, err := conn.ExecContext(t.Context(), "PRAGMA max_page_count = 1"); err != nil { // the size it has
		t.Fatal(err)
	}
	log.Append(someLog(t).Events()...)
	p, err := projections.New(projections.Config{Store: store, Log: log, RetryMin: time.Millisecond, RetryMax: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	for p.Status().Err == nil && ctx.Err() == nil {
		time.Sleep(time.Millisecond) //nolint:forbidigo // polls a condition with a deadline
	}
	if s := p.Status(); domain.KindOf(s.Err) != domain.KindUnavailable || domain.CodeOf(s.Err) != CodeFull || s.Stopped {
		t.Errorf("status: %+v", s)
	}
	if _, err := store.Keys(ctx, projections.KeyQuery{Now: projectionstest.Start()}); err != nil {
		t.Errorf("read on a full disk: %v", err)
	}
	if _, err := conn.ExecContext(ctx, "PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitFor(ctx, uint64(len(log.Events()))); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	projectionstest.Check(t, store, log.Events())
}

// TestFullDiskWhileBuilding: a build that finds the disk full says so, is of no use
// from then on, and leaves nothing; the next one is none the worse.
func TestFullDiskWhileBuilding(t *testing.T) {
	dir := t.TempDir()
	store := mustOpen(t, dir)
	defer mustClose(t, store)
	build, err := store.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.build.bulk.conn.ExecContext(t.Context(), "PRAGMA max_page_count = 1"); err != nil {
		t.Fatal(err)
	}
	batch := projections.Batch{
		To:    projections.Checkpoint{Seq: 1, EventID: "one"},
		Audit: []projections.AuditEntry{{Seq: 1, Clock: projectionstest.Start(), Reason: strings.Repeat("x", 1<<16)}},
	}
	err = build.Write(t.Context(), batch)
	if err == nil { // it may still be writing
		_, err = build.Checkpoint(t.Context())
	}
	for step, err := range map[string]error{"write": err, "complete": build.Complete(t.Context())} {
		if domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != CodeFull {
			t.Errorf("%s: %v", step, err)
		}
	}
	if err := build.Swap(t.Context()); err == nil {
		t.Error("a build that failed was swapped in")
	}
	if err := build.Discard(t.Context()); err != nil {
		t.Error(err)
	}
	for _, name := range files(t, dir) {
		if !strings.HasPrefix(name, "usage.db") {
			t.Errorf("%s is left", name)
		}
	}
	log := someLog(t)
	projectionstest.Project(t, store, log, projections.Config{})
	projectionstest.Check(t, store, log.Events())
}

// TestSmallMemory: a build that may keep few records in memory reads the others
// from its file, and makes the same tables.
func TestSmallMemory(t *testing.T) {
	log := projectionstest.NewLog(projectionstest.Example(3000, 5)...)
	store := mustOpen(t, t.TempDir())
	defer mustClose(t, store)
	build, err := store.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store.build.memory.budget = 0
	mustProjectInto(t, store, build, log)
	projectionstest.Check(t, store, log.Events())
}

// mustProjectInto lets a projector make its first tables in a build that exists.
func mustProjectInto(t *testing.T, store *Store, build projections.Build, log *projectionstest.Log) {
	t.Helper()
	projectionstest.Project(t, &prepared{Store: store, build: build}, log, projections.Config{BatchSize: 50, CacheSize: 5})
}

// prepared is a store that has begun its build already.
type prepared struct {
	*Store
	build projections.Build
}

func (p *prepared) Build(context.Context) (projections.Build, error) { return p.build, nil }

func TestPathsOfAnyForm(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b%20c?d#e&_pragma=x'ü")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := mustFillAndClose(t, dir, someLog(t))
	if filepath.Dir(path) != dir {
		t.Errorf("the file is %s", path)
	}
	store := mustOpen(t, dir)
	defer mustClose(t, store)
	if found := projectionstest.Differences(t, store, someLog(t), projections.Config{}); len(found) > 0 {
		t.Errorf("a check finds %+v", found)
	}
}

// TestRecords: a record is read as it was written, and one that is damaged is an
// error and nothing worse.
func TestRecords(t *testing.T) {
	for _, key := range projectionstest.NewModel(projectionstest.NewLog(projectionstest.Example(500, 9)...).Events()).Keys(projections.KeyQuery{Now: projectionstest.Start()}) {
		key.LastUsedAt = time.Time{}
		record := appendRecord(nil, &key)
		got, err := parseRecord(record)
		if err != nil || string(appendRecord(nil, &got)) != string(record) || got.ID != key.ID || !got.CreatedAt.Equal(key.CreatedAt) {
			t.Fatalf("record of %+v: %+v, %v", key, got, err)
		}
		for n := range record {
			if _, err := parseRecord(record[:n]); err == nil {
				t.Errorf("%d bytes of %d are a record", n, len(record))
			}
		}
	}
}
