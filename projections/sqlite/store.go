package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	gosync "sync"
	"sync/atomic"
	"time"

	"github.com/keyledger/keyledger/projections"
)

// Config is what [Open] needs.
type Config struct {
	// Path names the files, for example <data-dir>/keys.db; required. See the
	// package comment for their names.
	Path string
	// Readers is how many reads run at once; 0 means 4.
	Readers int
	// ReadTimeout ends reads that take longer; 0 means 5 s.
	ReadTimeout time.Duration
	// Logger; nil discards.
	Logger *slog.Logger
}

// Store is a read store on SQLite files. All methods are safe for concurrent use;
// what Lead and Build return is for one goroutine.
type Store struct {
	places
	cfg    Config
	log    *slog.Logger
	uses   *usage
	live   atomic.Pointer[generation] // nil before the first tables, and after Close
	closed atomic.Bool

	mu       gosync.Mutex // held while anything writes to the live tables, and by swaps
	uncopied latest       // uses that the live tables do not have yet
	led      bool         // somebody leads
	build    *builder     // nil when nothing is built
	last     uint64       // the highest number of a generation
	dropping gosync.WaitGroup
	views    gosync.Map // the comparisons that are open, by *comparison
}

var (
	_ projections.Store       = (*Store)(nil)
	_ projections.Reader      = (*Store)(nil)
	_ projections.UsageWriter = (*Store)(nil)
	_ projections.UsageReader = (*Store)(nil)
	_ projections.Describer   = (*Store)(nil)
)

// Open opens the newest complete tables of this schema version, if there are any,
// and removes older ones and what a crash left of builds. A file that is damaged,
// foreign, locked or unreadable is an error and stays as it is.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Path == "" {
		return nil, errors.New("open the read store: Path is required")
	}
	if cfg.ReadTimeout <= 0 {
		cfg.ReadTimeout = 5 * time.Second
	}
	if cfg.Readers <= 0 {
		cfg.Readers = 4
	}
	s := &Store{places: places{path: cfg.Path}, cfg: cfg, log: cfg.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.open(ctx); err != nil {
		return nil, s.explain("open the read store", errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	f, err := s.look(ctx, s.log)
	if err != nil {
		return err
	}
	s.last = f.last
	if s.uses, err = openUsage(ctx, s.usage()); err != nil {
		return explain(s.usage(), "open the file", err)
	}
	if f.live > 0 {
		g, err := openGeneration(ctx, f.live, s.generation(f.live), s.cfg.Readers, s.uses)
		if err != nil {
			return explain(s.generation(f.live), "open the tables", err)
		}
		s.live.Store(g)
		if !s.uses.clean {
			if err := s.uses.copyAll(ctx, g.writer); err != nil {
				return err
			}
		}
	}
	return remove(f.obsolete...)
}

// Close closes the files, and comparisons that are left open. A build that is not
// swapped in is thrown away, whatever it is doing.
func (s *Store) Close() error {
	already := s.closed.Swap(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.build != nil {
		close(s.build.closing)
		err = s.build.abandon(errClosed)
		s.build = nil
	}
	s.views.Range(func(view, _ any) bool {
		if c, ok := view.(*comparison); ok {
			err = errors.Join(err, c.Close())
		}
		return true
	})
	if g := s.live.Swap(nil); g != nil {
		err = errors.Join(err, g.close())
	}
	s.dropping.Wait()
	if s.uses != nil && !already {
		err = errors.Join(err, s.uses.close(err == nil && len(s.uncopied) == 0))
	}
	if err != nil {
		return fmt.Errorf("close the read store %s: %w", s.path, err)
	}
	return nil
}

// State implements projections.Store.
func (s *Store) State(context.Context) (projections.State, error) {
	g := s.live.Load()
	switch {
	case s.closed.Load():
		return projections.State{}, s.explain("read the state", errClosed)
	case g == nil:
		return projections.State{}, nil
	}
	return projections.State{Live: true, At: *g.at.Load(), Generation: g.number}, nil
}

// Info implements projections.Describer.
func (s *Store) Info(ctx context.Context) (projections.Info, error) {
	info := projections.Info{Database: "sqlite", SchemaVersion: schemaVersion, Place: s.path}
	err := s.read(ctx, func(ctx context.Context, q querier) error {
		count := func(query string, into *int64) error {
			return each(ctx, q, query, nil, func(v *values) (bool, error) {
				*into = v.integer()
				return false, nil
			})
		}
		return errors.Join(count("SELECT count(*) FROM keys", &info.Keys), count("SELECT max(seq) FROM audit", &info.Entries))
	})
	if errors.Is(err, errNoTables) {
		return info, nil
	}
	if g := s.live.Load(); g != nil {
		info.Place = g.path
		for _, path := range [...]string{g.path, g.path + "-wal"} {
			if file, err := os.Stat(path); err == nil {
				info.Bytes += file.Size()
			}
		}
	}
	return info, s.explain("describe the tables", err)
}

// Lead implements projections.Store. One process has the files, so that only one
// of its own can be in the way.
func (s *Store) Lead(context.Context) (projections.Lead, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed.Load():
		return nil, s.explain("lead", errClosed)
	case s.led:
		return nil, projections.ErrFollower()
	}
	s.led = true
	return &lead{s: s}, nil
}

// lead writes to the live tables that it last asked for the checkpoint of. When
// others take their place, it is told so even if those are at the very same event:
// the caller may remember rows of the old ones.
type lead struct {
	s          *Store
	generation uint64 // 0 before anything was asked
	ended      bool
}

// Close implements projections.Lead.
func (l *lead) Close(context.Context) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if !l.ended {
		l.s.led, l.ended = false, true
	}
	return nil
}

// with does it with the live tables, while nothing else writes to them. again takes
// those that are live now, whatever was live before.
func (l *lead) with(doing string, again bool, do func(*generation) error) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	g := l.s.live.Load()
	switch {
	case l.s.closed.Load():
		return l.s.explain(doing, errClosed)
	case l.ended:
		return l.s.explain(doing, projections.ErrFollower())
	case g == nil:
		return projections.ErrNoTables
	case l.generation == 0 || again:
		l.generation = g.number
	case l.generation != g.number:
		return l.s.explain(doing, projections.ErrCheckpointMoved)
	}
	return l.s.explain(doing, do(g))
}

// Checkpoint implements projections.Writer. It asks the file, since after an error
// nothing else knows.
func (l *lead) Checkpoint(ctx context.Context) (at projections.Checkpoint, err error) {
	err = l.with("read the checkpoint", true, func(g *generation) error {
		if at, err = g.writer.readCheckpoint(ctx); err == nil {
			g.at.Store(&at)
		}
		return err
	})
	return at, err
}

// Load implements projections.Writer.
func (l *lead) Load(ctx context.Context, lookup projections.Lookup) (known projections.Known, err error) {
	err = l.with("load keys", false, func(g *generation) error {
		known, err = g.writer.load(ctx, lookup)
		return err
	})
	return known, err
}

// Write implements projections.Writer.
func (l *lead) Write(ctx context.Context, b projections.Batch) error {
	return l.with("write a batch", false, func(g *generation) error { return g.write(ctx, &b) })
}

// Build implements projections.Store.
func (s *Store) Build(ctx context.Context) (projections.Build, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed.Load():
		return nil, s.explain("begin a build", errClosed)
	case s.build != nil:
		return nil, projections.ErrBuildRunning()
	}
	b, err := newBuilder(ctx, s, s.last+1)
	if err != nil {
		return nil, s.explain("begin a build", err)
	}
	s.last++
	s.build = b
	return b, nil
}

// swap puts a complete generation in the place of the live one; mu is held. The old
// file goes when its last reader has.
func (s *Store) swap(g *generation) {
	old := s.live.Swap(g)
	s.build, s.uncopied = nil, nil
	if old == nil {
		return
	}
	s.dropping.Add(1)
	old.retire(func() {
		go func() {
			defer s.dropping.Done()
			if err := errors.Join(old.close(), remove(old.path)); err != nil {
				s.log.Warn("old tables are left behind until the next start", //nolint:sloglint // no context outlives the swap
					slog.String("path", filepath.Base(old.path)), slog.Any("error", err))
			}
		}()
	})
}
