package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestVersionsTile: the versions of a key follow each other without gap or overlap,
// the last one is open, and each is what the model says was true then.
func TestVersionsTile(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		events := projectionstest.History(r, 1, 60)
		log := projectionstest.NewLog(events...)
		store := mustOpen(t, t.TempDir())
		defer func() { _ = store.Close() }()
		projectionstest.Project(t, store, log, projections.Config{BatchSize: rapid.IntRange(1, 20).Draw(r, "batch"), CacheSize: 3})
		events = log.Events()
		for range min(8, len(events)) {
			at := rapid.IntRange(0, len(events)-1).Draw(r, "at")
			seq := uint64(at) + 1
			want := projectionstest.NewModel(events[:at+1]).Keys(projections.KeyQuery{Now: projectionstest.Start()})
			got := versionsAt(t, store, seq)
			if len(got) != len(want) {
				r.Fatalf("at %d: %v, want %d keys", seq, got, len(want))
			}
			for i := range got {
				if got[i] != fmt.Sprint(want[i].ID, want[i].Seq) {
					r.Fatalf("at %d: %v is number %d, want %s of %d", seq, got[i], i, want[i].ID, want[i].Seq)
				}
			}
		}
	})
}

// versionsAt returns the ids and first seqs of the rows that hold at a seq.
func versionsAt(t *testing.T, store *Store, seq uint64) []string {
	t.Helper()
	rows, err := store.live.Load().readers.QueryContext(t.Context(),
		"SELECT key_id, from_seq FROM keys WHERE from_seq <= ? AND ? < to_seq ORDER BY created_seq DESC", signed(seq), signed(seq))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var found []string
	for rows.Next() {
		var id string
		var from uint64
		if err := rows.Scan(&id, &from); err != nil {
			t.Fatal(err)
		}
		found = append(found, fmt.Sprint(id, from))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAnotherSchemaVersionIsBuiltAnew(t *testing.T) {
	dir := t.TempDir()
	log := someLog(t)
	mustFillAndClose(t, dir, log)
	mustExec(t, dir, "PRAGMA user_version = 9999", "DROP TABLE audit")
	store := mustOpen(t, dir)
	defer func() { _ = store.Close() }()
	if _, err := store.Keys(t.Context(), projections.KeyQuery{Now: projectionstest.Start()}); domain.CodeOf(err) != projections.CodeBuilding {
		t.Errorf("read before the build: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "keys.db")); err != nil {
		t.Errorf("the old file: %v", err)
	}
	projectionstest.Project(t, store, log, projections.Config{})
	projectionstest.Check(t, store, log.Events())
	if left, err := filepath.Glob(filepath.Join(dir, "*.build*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// TestInterruptedBuild: what a crash left of a build is thrown away, and an old
// write-ahead log does not get into the new file.
func TestInterruptedBuild(t *testing.T) {
	dir := t.TempDir()
	for _, name := range [...]string{"keys.db.build", "keys.db-wal", "keys.db-shm"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("left by a crash"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := someLog(t)
	mustFillAndClose(t, dir, log)
	store := mustOpen(t, dir)
	defer func() { _ = store.Close() }()
	projectionstest.Check(t, store, log.Events())
}

func TestUnusableFiles(t *testing.T) {
	for _, test := range [...]struct {
		name, code string
		make       func(t *testing.T, dir, path string)
	}{
		{"no database", CodeCorrupt, func(t *testing.T, _, path string) {
			t.Helper()
			mustWriteFile(t, path, []byte(strings.Repeat("this is no database. ", 1000)))
		}},
		{"damaged schema", CodeCorrupt, func(t *testing.T, dir, path string) {
			t.Helper()
			mustFillAndClose(t, dir, someLog(t))
			damage(t, path, 100, 3000)
		}},
		{"of another program", CodeForeign, func(t *testing.T, dir, _ string) {
			t.Helper()
			mustExec(t, dir, "CREATE TABLE notes (text TEXT)")
		}},
		{"a directory", CodeForeign, func(t *testing.T, _, path string) {
			t.Helper()
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{"in a directory that is not there", CodeUnreadable, func(t *testing.T, dir, _ string) {
			t.Helper()
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "keys.db")
			test.make(t, dir, path)
			before, _ := os.ReadFile(path)
			_, err := Open(t.Context(), Config{Path: path})
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
	mustFillAndClose(t, dir, log)
	path := filepath.Join(dir, "keys.db")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, path, 3*8192, int(info.Size())-3*8192)
	store := mustOpen(t, dir)
	defer func() { _ = store.Close() }()
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
	mustFillAndClose(t, dir, someLog(t))
	db, err := openDB(filepath.Join(dir, "keys.db"), "rw", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := Open(ctx, Config{Path: filepath.Join(dir, "keys.db")}); domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != CodeBusy {
		t.Errorf("open: %v", err)
	}
}

// TestFullDisk: while there is no space the projector waits and says why; when
// there is, it goes on, and nothing is lost or doubled. max_page_count makes SQLite
// say what it says on a full disk.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	log := projectionstest.NewLog()
	store := mustOpen(t, dir)
	defer func() { _ = store.Close() }()
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

// TestFullDiskWhileBuilding: the build begins again and finishes when there is
// space, whichever batch finds the disk full. The last one's error comes when the
// log has nothing more to write.
func TestFullDiskWhileBuilding(t *testing.T) {
	const batchSize = 5
	log := someLog(t)
	log.RunSize = batchSize
	last := (len(log.Events()) + batchSize - 1) / batchSize
	for _, at := range [...]int{3, last} {
		t.Run(fmt.Sprintf("batch %d", at), func(t *testing.T) {
			store := &cramped{Store: mustOpen(t, t.TempDir()), at: at}
			defer func() { _ = store.Close() }()
			projectionstest.Project(t, store, log, projections.Config{BatchSize: batchSize, RetryMin: time.Millisecond})
			projectionstest.Check(t, store.Store, log.Events())
			if store.refused == 0 {
				t.Error("the disk was never full")
			}
		})
	}
}

// cramped has no space from one of the writes until one was refused.
type cramped struct {
	*Store
	at, writes, refused int
}

func (s *cramped) Write(ctx context.Context, b projections.Batch) error {
	if s.writes++; s.writes == s.at {
		// What is being written has its space.
		if _, err := s.Store.Checkpoint(ctx); err != nil {
			return err
		}
		if _, err := s.build.writer.conn.ExecContext(ctx, "PRAGMA max_page_count = 1"); err != nil {
			return err
		}
		// A batch of a few small rows may fit in the pages there are.
		for i := range b.Audit {
			b.Audit[i].Reason = strings.Repeat("x", 1<<16)
		}
	}
	return s.count(s.Store.Write(ctx, b))
}

func (s *cramped) Checkpoint(ctx context.Context) (projections.Checkpoint, error) {
	cp, err := s.Store.Checkpoint(ctx)
	return cp, s.count(err)
}

func (s *cramped) count(err error) error {
	if domain.CodeOf(err) == CodeFull {
		s.refused++
	}
	return err
}

func TestPathsOfAnyForm(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b%20c?d#e&_pragma=x'ü")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mustFillAndClose(t, dir, someLog(t))
	if _, err := os.Stat(filepath.Join(dir, "keys.db")); err != nil {
		t.Error(err)
	}
}

// TestPlans: the queries of doors are answered by an index, in its order.
func TestPlans(t *testing.T) {
	dir := t.TempDir()
	mustFillAndClose(t, dir, someLog(t))
	store := mustOpen(t, dir)
	defer func() { _ = store.Close() }()
	now := projectionstest.Start()
	for index, q := range map[string]projections.KeyQuery{
		"keys_current":    {Now: now, Status: domain.StatusActive, Text: "x"},
		"keys_of_account": {Now: now, Account: "acme", Scope: "invoices:read"},
	} {
		plan, err := q.Plan()
		if err != nil {
			t.Fatal(err)
		}
		checkPlan(t, store, index, func() (string, []any) { return keysQuery(plan) })
	}
	for index, q := range map[string]projections.AuditQuery{"audit_of_account": {Account: "acme"}, "audit_of_subject": {Key: "key_1"}} {
		plan, err := q.Plan()
		if err != nil {
			t.Fatal(err)
		}
		checkPlan(t, store, index, func() (string, []any) { return auditQuery(plan) })
	}
}

func checkPlan(t *testing.T, store *Store, index string, query func() (string, []any)) {
	t.Helper()
	text, args := query()
	rows, err := store.live.Load().readers.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	plan := strings.Join(steps, "; ")
	if !strings.Contains(plan, index) || strings.Contains(plan, "TEMP B-TREE FOR ORDER BY") {
		t.Errorf("%s goes by %s, want %s in order", text, plan, index)
	}
}

// someLog makes a log of a history that is the same every time.
func someLog(t *testing.T) *projectionstest.Log {
	t.Helper()
	return projectionstest.NewLog(projectionstest.Example(300, 3)...)
}

func mustFillAndClose(t *testing.T, dir string, log *projectionstest.Log) {
	t.Helper()
	store := mustOpen(t, dir)
	projectionstest.Project(t, store, log, projections.Config{})
	projectionstest.Check(t, store, log.Events())
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// mustExec changes keys.db in a directory behind the store's back.
func mustExec(t *testing.T, dir string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "keys.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
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
