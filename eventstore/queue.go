package eventstore

import (
	"context"
	"sync"
)

// queue hands events from the goroutine that receives and decodes them to the one
// that handles them, all that are there at a time. put blocks while it is full.
type queue struct {
	max      int
	maxBytes int           // of events as they are stored; one more event may pass it
	ready    chan struct{} // holds a token while there is something to take

	mu      sync.Mutex
	space   sync.Cond
	items   []Event
	bytes   int // of items
	spare   []Event
	pending uint64 // what waits on the server behind the last item
	err     error
}

func newQueue(size, maxBytes int) *queue {
	q := &queue{max: size, maxBytes: maxBytes, ready: make(chan struct{}, 1)}
	q.space.L = &q.mu
	return q
}

func (q *queue) put(e Event, pending uint64) {
	q.mu.Lock()
	for (len(q.items) >= q.max || q.bytes >= q.maxBytes) && q.err == nil {
		q.space.Wait()
	}
	if q.err == nil {
		q.items = append(q.items, e)
		q.bytes += len(e.Raw)
		q.pending = pending
	}
	q.mu.Unlock()
	q.signal()
}

// fail ends the queue; the first error counts. What was put before is still taken.
func (q *queue) fail(err error) {
	q.mu.Lock()
	if q.err == nil {
		q.err = err
	}
	q.mu.Unlock()
	q.space.Broadcast()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take waits for events and returns all there are, how many wait on the server
// behind them, and the error that ends the queue, if they are the last. The
// events are valid until the next call.
func (q *queue) take(ctx context.Context) ([]Event, uint64, error) {
	clear(q.spare) // the events of the last call, which may be large; put leaves it alone
	for {
		q.mu.Lock()
		items, pending, err := q.items, q.pending, q.err
		q.items, q.spare, q.bytes = q.spare[:0], items, 0
		q.mu.Unlock()
		if len(items) > 0 || err != nil {
			q.space.Broadcast()
			return items, pending, err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}
