package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"sync/atomic"

	"github.com/keyledger/keyledger/projections"
)

// Config is what [Open] needs.
type Config struct {
	// Path of the file, for example <data-dir>/keys.db; required. -wal and -shm
	// beside it are SQLite's own; .build is the one being built.
	Path string
	// Readers is how many reads run at once; 0 means 4.
	Readers int
	// Logger; nil discards.
	Logger *slog.Logger
}

// Store is a read store on one SQLite file. Reads are safe for concurrent use;
// the methods of projections.Store are for one goroutine.
type Store struct {
	path string
	cfg  Config
	log  *slog.Logger

	live   atomic.Pointer[live] // nil while building
	closed atomic.Bool
	build  *builder // nil when live
}

var (
	_ projections.Store  = (*Store)(nil)
	_ projections.Reader = (*Store)(nil)
)

// live is the file as readers see it.
type live struct {
	writer  *writer
	readers *sql.DB
}

// Open opens the file, or begins to build one if there is none of this schema
// version. A file that is damaged, foreign, locked or unreadable is an error and
// stays as it is.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Path == "" {
		return nil, errors.New("open the read store: Path is required")
	}
	if cfg.Readers <= 0 {
		cfg.Readers = 4
	}
	s := &Store{path: cfg.Path, cfg: cfg, log: cfg.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	usable, err := s.inspect(ctx)
	if err != nil {
		return nil, s.explain("open the read store", err)
	}
	if usable {
		err = s.openLive(ctx)
	} else {
		err = s.beginBuild(ctx)
	}
	if err != nil {
		return nil, s.explain("open the read store", err)
	}
	return s, nil
}

// beginBuild begins to build, in the place of a build that was begun before.
func (s *Store) beginBuild(ctx context.Context) error {
	if s.build != nil {
		err := s.build.abandon()
		s.build = nil
		if err != nil {
			return err
		}
	}
	b, err := newBuilder(ctx, s.path+".build")
	if err != nil {
		return err
	}
	s.build = b
	return nil
}

// inspect reports whether the file is one of this schema version. It is not if
// there is none, or one of another version.
func (s *Store) inspect(ctx context.Context) (bool, error) {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, s.foreign("it is no regular file")
	}
	db, err := openDB(s.path, "rw", 1, "busy_timeout(1000)")
	if err != nil {
		return false, err
	}
	defer func() { _ = db.Close() }()
	var application, version int
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&application); err != nil {
		return false, err
	}
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return false, err
	}
	if application != applicationID {
		return false, s.foreign("another program made it")
	}
	if version != schemaVersion {
		s.log.InfoContext(ctx, "read store has another schema version and is built anew",
			slog.String("path", s.path), slog.Int("found", version), slog.Int("want", schemaVersion))
	}
	return version == schemaVersion, nil
}

// openLive opens the file for writing and reading.
func (s *Store) openLive(ctx context.Context) error {
	db, err := openDB(s.path, "rw", 1, "busy_timeout(1000)", "journal_mode(WAL)", "synchronous(NORMAL)", "cache_size(-16384)")
	if err != nil {
		return err
	}
	w, err := newLiveWriter(ctx, db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	readers, err := openDB(s.path, "rw", s.cfg.Readers, "busy_timeout(1000)", "query_only(1)", "cache_size(-8192)")
	if err == nil {
		err = readers.PingContext(ctx)
	}
	if err != nil {
		return errors.Join(err, w.close())
	}
	s.live.Store(&live{writer: w, readers: readers})
	return nil
}

func newLiveWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	// Finds out whether another process is writing.
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE; ROLLBACK"); err != nil {
		return nil, err
	}
	return newWriter(ctx, db, conn)
}

// Close closes the file. A build that is not finished is thrown away.
func (s *Store) Close() error {
	s.closed.Store(true)
	var err error
	if l := s.live.Swap(nil); l != nil {
		err = errors.Join(l.readers.Close(), l.writer.close())
	}
	if s.build != nil {
		err = errors.Join(err, s.build.abandon())
	}
	if err != nil {
		return fmt.Errorf("close the read store %s: %w", s.path, err)
	}
	return nil
}

// Checkpoint implements projections.Writer.
func (s *Store) Checkpoint(ctx context.Context) (projections.Checkpoint, error) {
	const doing = "read the checkpoint"
	if s.build != nil {
		if err := s.settle(ctx); err != nil {
			return projections.Checkpoint{}, s.explain(doing, err)
		}
		return s.build.at, nil
	}
	w, err := s.writer(ctx)
	if err != nil {
		return projections.Checkpoint{}, err
	}
	cp, err := w.readCheckpoint(ctx)
	return cp, s.explain(doing, err)
}

// Write implements projections.Writer. While the store is being built it returns
// when the batch before is written.
func (s *Store) Write(ctx context.Context, b projections.Batch) error {
	const doing = "write a batch"
	if err := ctx.Err(); err != nil {
		return s.explain(doing, err)
	}
	r := rowsOf(&b)
	if err := s.settle(ctx); err != nil {
		return s.explain(doing, err)
	}
	w, err := s.writer(ctx)
	switch {
	case err != nil:
		return err
	case s.build != nil:
		return s.explain(doing, s.build.write(ctx, &b, r))
	default:
		return s.explain(doing, w.write(ctx, r))
	}
}

// Load implements projections.Writer.
func (s *Store) Load(ctx context.Context, l projections.Lookup) (projections.Known, error) {
	const doing = "load keys"
	if s.build == nil {
		w, err := s.writer(ctx)
		if err != nil {
			return projections.Known{}, err
		}
		known, err := w.load(ctx, l)
		return known, s.explain(doing, err)
	}
	known, rows := s.build.recall(l)
	if len(rows) == 0 {
		return known, nil
	}
	if err := s.settle(ctx); err != nil {
		return projections.Known{}, s.explain(doing, err)
	}
	w, err := s.writer(ctx)
	if err != nil {
		return projections.Known{}, err
	}
	return known, s.explain(doing, w.loadRows(ctx, rows, &known))
}

// settle waits until what a build was given is written. If that fails the build
// begins again: there is no way back to before the batch.
func (s *Store) settle(ctx context.Context) error {
	if s.build == nil {
		return nil
	}
	err := s.build.settle()
	if err != nil {
		err = errors.Join(err, s.beginBuild(context.WithoutCancel(ctx)))
	}
	return err
}

// FinishBuild implements projections.Store: it makes the indexes, syncs the file,
// puts it in the place of the old one and opens it for readers.
func (s *Store) FinishBuild(ctx context.Context) error {
	if s.build == nil {
		return nil
	}
	if err := s.settle(ctx); err != nil {
		return s.explain("finish the build", err)
	}
	if err := s.build.finish(ctx, s.path); err != nil {
		return s.explain("finish the build", err)
	}
	if err := s.openLive(ctx); err != nil {
		return s.explain("open what was built", err)
	}
	s.build = nil
	return nil
}

// writer returns what writes at present. A build that could not be begun anew after
// a failure (the disk was full) is begun here, when it is needed next.
func (s *Store) writer(ctx context.Context) (*writer, error) {
	if s.build == nil && s.live.Load() == nil && !s.closed.Load() {
		if err := s.beginBuild(ctx); err != nil {
			return nil, s.explain("begin the build again", err)
		}
	}
	if s.build != nil && s.build.writer != nil {
		return s.build.writer, nil
	}
	if l := s.live.Load(); l != nil {
		return l.writer, nil
	}
	return nil, s.explain("use the read store", errClosed)
}

// openDB opens a pool of connections. mode is rw, or rwc to make the file.
func openDB(path, mode string, connections int, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"_pragma": pragmas, "_dqs": {"0"}, "_error_rc": {"1"}, "mode": {mode}}
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}
