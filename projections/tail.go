package projections

import (
	"context"

	"github.com/keyledger/keyledger/eventstore"
)

// queuedRuns is how many runs of events may wait while a batch is written, so
// that reading and writing overlap.
const queuedRuns = 4

// tail reads the log ahead of who takes the events. Close it.
type tail struct {
	runs chan eventstore.Batch
	err  error // why it ended, once runs is closed
	stop context.CancelFunc
}

func (p *Projector) tail(ctx context.Context, from uint64) *tail {
	ctx, stop := context.WithCancel(ctx)
	t := &tail{runs: make(chan eventstore.Batch, queuedRuns), stop: stop}
	go func() {
		defer close(t.runs)
		t.err = p.cfg.Log.Tail(ctx, from, t.take)
	}()
	return t
}

func (t *tail) take(ctx context.Context, b eventstore.Batch) error {
	run := eventstore.Batch{Events: append([]eventstore.Event(nil), b.Events...), CaughtUp: b.CaughtUp}
	for i := range run.Events {
		run.Events[i].Raw = nil // not needed, and large
	}
	select {
	case t.runs <- run:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends the tail and waits for its end.
func (t *tail) close() {
	t.stop()
	for range t.runs {
	}
}
