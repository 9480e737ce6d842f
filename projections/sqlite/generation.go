package sqlite

import (
	"context"
	"database/sql"
	"errors"
	gosync "sync"
	"sync/atomic"

	"github.com/keyledger/keyledger/projections"
)

// generation is one set of complete tables: its file, what writes to it and what
// reads from it.
type generation struct {
	number  uint64
	path    string
	writer  *writer
	readers *sql.DB
	at      atomic.Pointer[projections.Checkpoint] // what is committed

	mu      gosync.Mutex
	users   int    // reads that are under way
	retired func() // called once, when no reader is left; nil while it is not retired
}

func openGeneration(ctx context.Context, number uint64, path string, readers int, uses *usage) (*generation, error) {
	w, err := newWriter(ctx, path, uses)
	if err != nil {
		return nil, err
	}
	g := &generation{number: number, path: path, writer: w}
	at, err := w.readCheckpoint(ctx)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	g.at.Store(&at)
	g.readers, err = openDB(path, "rw", readers, "busy_timeout(1000)", "query_only(1)", "cache_size(-8192)")
	if err == nil {
		err = g.readers.PingContext(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return g, nil
}

// write applies a batch.
func (g *generation) write(ctx context.Context, b *projections.Batch) error {
	if err := g.writer.write(ctx, b); err != nil {
		return err
	}
	to := b.To
	g.at.Store(&to)
	return nil
}

// enter keeps the generation open until leave. It fails once it is retired.
func (g *generation) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.retired != nil {
		return false
	}
	g.users++
	return true
}

func (g *generation) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.users--; g.users == 0 && g.retired != nil {
		g.retired()
	}
}

// retire lets nobody enter any more, and calls then when the last has left. then
// must not wait.
func (g *generation) retire(then func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.retired = then; g.users == 0 {
		then()
	}
}

func (g *generation) close() error { return errors.Join(g.readers.Close(), g.writer.close()) }
