package command

import (
	"context"
	"sync"

	"github.com/keyledger/keyledger/eventstore"
)

// turns lets commands about one aggregate take turns on this node. The log would
// refuse all but one of those that run at once, and each loser would load and
// decide again: on a key that many change together, that is most of the work. It
// is for speed only; between nodes, and if it were not there, the expectations of
// the appends keep the order.
type turns struct {
	mu     sync.Mutex
	queues map[eventstore.Aggregate]*turn // of aggregates that somebody works on
}

// turn is a lock that can be waited for with a context.
type turn struct {
	token   chan struct{} // holds one token while the turn is free
	holders int           // who works or waits; guarded by turns.mu
}

func newTurns() *turns { return &turns{queues: map[eventstore.Aggregate]*turn{}} }

// take waits for the aggregate's turn and returns what ends it, or the context's
// error if that ends before.
func (t *turns) take(ctx context.Context, a eventstore.Aggregate) (done func(), err error) {
	t.mu.Lock()
	q := t.queues[a]
	if q == nil {
		q = &turn{token: make(chan struct{}, 1)}
		q.token <- struct{}{}
		t.queues[a] = q
	}
	q.holders++
	t.mu.Unlock()

	select {
	case <-q.token:
		return func() {
			q.token <- struct{}{}
			t.leave(a, q)
		}, nil
	case <-ctx.Done():
		t.leave(a, q)
		return nil, ctx.Err()
	}
}

func (t *turns) leave(a eventstore.Aggregate, q *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.holders--; q.holders == 0 {
		delete(t.queues, a)
	}
}
