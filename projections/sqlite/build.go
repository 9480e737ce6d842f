package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	gosync "sync"

	"github.com/keyledger/keyledger/projections"
)

// builder builds a generation: first in bulk, in a file that nothing else opens;
// then, complete, as tables like the live ones that nobody sees.
//
// In bulk it writes one batch while the next is made. It is for one goroutine, and
// for another that closes the store.
type builder struct {
	s       *Store
	number  uint64
	path    string
	closing chan struct{} // closed when the store is

	mu gosync.Mutex           // guards what follows; whoever wants the store's mu too has that first
	at projections.Checkpoint // after the last batch that it was given

	memory  *memory
	bulk    *bulk      // nil when all is in the file
	writing chan error // gives how writing the last batch ended; nil when that was asked for
	failed  error      // why the build is of no use any more

	whole *generation // nil in bulk
	over  error       // why there is nothing to do any more: it was swapped in or discarded
	used  latest      // uses since it began; the store's mu is held for it
}

func newBuilder(ctx context.Context, s *Store, number uint64) (*builder, error) {
	b := &builder{s: s, number: number, path: s.generation(number), closing: make(chan struct{}), memory: newMemory()}
	var err error
	if b.bulk, err = newBulk(ctx, b.path+buildSuffix); err != nil {
		return nil, err
	}
	return b, nil
}

// Checkpoint implements projections.Writer.
func (b *builder) Checkpoint(context.Context) (projections.Checkpoint, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.settle(); err != nil {
		return projections.Checkpoint{}, b.explain("read the checkpoint of a build", err)
	}
	return b.at, nil
}

// Load implements projections.Writer.
func (b *builder) Load(ctx context.Context, l projections.Lookup) (projections.Known, error) {
	const doing = "load keys in a build"
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over != nil {
		return projections.Known{}, b.explain(doing, b.over)
	}
	if b.whole != nil {
		known, err := b.whole.writer.load(ctx, l)
		return known, b.explain(doing, err)
	}
	known, rows, err := b.memory.recall(l)
	if err != nil || len(rows) == 0 {
		return known, b.explain(doing, err)
	}
	if err := b.settle(); err != nil {
		return known, b.explain(doing, err)
	}
	return known, b.explain(doing, b.bulk.loadRows(ctx, rows, &known))
}

// Write implements projections.Writer.
func (b *builder) Write(ctx context.Context, batch projections.Batch) error {
	const doing = "write a batch of a build"
	b.mu.Lock()
	defer b.mu.Unlock()
	err := ctx.Err()
	switch {
	case err != nil:
	case b.over != nil:
		err = b.over
	case batch.From != b.at:
		err = projections.ErrCheckpointMoved
	case b.whole != nil:
		if err = b.whole.write(ctx, &batch); err == nil {
			b.at = batch.To
		}
	default:
		err = b.writeBulk(ctx, &batch)
	}
	return b.explain(doing, err)
}

// writeBulk begins to write a batch when the one before is written.
func (b *builder) writeBulk(ctx context.Context, batch *projections.Batch) error {
	r, err := b.memory.learn(batch)
	if err := b.settle(); err != nil {
		return err
	}
	if err == nil && b.bulk == nil {
		err = errors.New("the build was held against the live tables already")
	}
	if err != nil {
		b.failed = err
		return err
	}
	b.at = batch.To
	bulk, ended := b.bulk, make(chan error, 1)
	b.writing = ended
	ctx = context.WithoutCancel(ctx)
	go func() { ended <- bulk.write(ctx, r) }()
	return nil
}

// settle waits for the batch that is being written.
func (b *builder) settle() error {
	if b.writing != nil {
		b.failed = errors.Join(b.failed, <-b.writing)
		b.writing = nil
	}
	return b.failed
}

// Complete implements projections.Finisher.
func (b *builder) Complete(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over == nil && b.whole != nil {
		return nil
	}
	ctx, cancel := b.untilClosed(ctx)
	defer cancel()
	err := b.seal(ctx, indexes())
	if err == nil {
		err = b.place(ctx)
	}
	if err != nil {
		b.failed = err
	}
	return b.explain("complete a build", err)
}

// untilClosed gives a context that ends when the store is closed too, for what takes
// long. Its mu is held meanwhile, which Close wants.
func (b *builder) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-b.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// seal writes what is in memory only, does the steps and closes the file.
func (b *builder) seal(ctx context.Context, steps []string) error {
	if err := b.settle(); err != nil {
		return err
	}
	switch {
	case b.over != nil:
		return b.over
	case b.bulk == nil:
		return nil
	}
	bulk := b.bulk
	b.bulk = nil
	err := bulk.finish(ctx, b.memory, b.at, b.s.uses, steps)
	b.memory = newMemory()
	return errors.Join(err, bulk.close())
}

// place makes the sealed file durable, gives it its name and opens it. Its mark
// still tells that it was not swapped in.
func (b *builder) place(ctx context.Context) error {
	building := b.path + buildSuffix
	if err := sync(building); err != nil {
		return err
	}
	if err := remove(b.path); err != nil {
		return err
	}
	if err := os.Rename(building, b.path); err != nil {
		return err
	}
	if err := sync(filepath.Dir(b.path)); err != nil {
		return err
	}
	var err error
	b.whole, err = openGeneration(ctx, b.number, b.path, b.s.cfg.Readers, b.s.uses)
	return err
}

// Swap implements projections.Finisher.
func (b *builder) Swap(ctx context.Context) error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	live := b.s.live.Load()
	switch {
	case b.over != nil:
		err = b.over
	case b.whole == nil:
		err = errors.New("it is not complete")
	case live != nil && live.at.Load().Seq > b.at.Seq:
		return projections.ErrBehind
	default:
		err = b.whole.writer.reveal(ctx, b.used)
	}
	if err == nil {
		b.over = errOver
		b.s.swap(b.whole)
	}
	return b.explain("swap in a build", err)
}

// Discard implements projections.Finisher.
func (b *builder) Discard(context.Context) error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if b.s.build == b {
		b.s.build = nil
	}
	return b.explain("discard a build", b.abandon(errOver))
}

// abandon closes and removes what was built, unless it was swapped in; why is what
// later calls are told. The store's mu is held.
func (b *builder) abandon(why error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over != nil {
		return nil
	}
	_ = b.settle() // whatever it is, the file goes
	b.over, b.failed, b.memory = why, why, newMemory()
	var err error
	if b.bulk != nil {
		err = b.bulk.close()
		b.bulk = nil
	}
	if b.whole != nil {
		err = errors.Join(err, b.whole.close())
	}
	return errors.Join(err, remove(b.path+buildSuffix, b.path))
}

func (b *builder) explain(doing string, err error) error {
	if err != nil && b.s.closed.Load() && !errors.Is(err, errClosed) {
		err = errors.Join(errClosed, err) // which is why
	}
	return explain(b.path, doing, err)
}

var errOver = errors.New("the build is over")
