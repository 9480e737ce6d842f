package projectionstest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
)

// Log is an event log in memory. It is safe for concurrent use.
type Log struct {
	// RunSize is how many events a tail hands over at once; 0 means 16.
	RunSize int

	mu     sync.Mutex
	events []eventstore.Event
	grown  chan struct{}
}

var _ projections.Log = (*Log)(nil)

// NewLog makes a log of the events; their seqs are set.
func NewLog(events ...eventstore.Event) *Log {
	l := &Log{grown: make(chan struct{})}
	l.Append(events...)
	return l
}

// Append adds events, sets their seqs and, where they have none, ids.
func (l *Log) Append(events ...eventstore.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		e.Seq = uint64(len(l.events)) + 1
		if e.ID == "" {
			e.ID = fmt.Sprintf("event-%d", e.Seq)
		}
		l.events = append(l.events, e)
	}
	close(l.grown)
	l.grown = make(chan struct{})
}

// Events returns all events.
func (l *Log) Events() []eventstore.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clip(l.events)
}

// Head implements projections.Log.
func (l *Log) Head(context.Context) (uint64, error) { return uint64(len(l.Events())), nil }

// At implements projections.Log.
func (l *Log) At(_ context.Context, seq uint64) (eventstore.Event, error) {
	events := l.Events()
	if seq == 0 || seq > uint64(len(events)) {
		return eventstore.Event{}, eventstore.ErrNoEvent
	}
	return events[seq-1], nil
}

// Tail implements projections.Log.
func (l *Log) Tail(ctx context.Context, from uint64, handle func(context.Context, eventstore.Batch) error) error {
	size := l.RunSize
	if size <= 0 {
		size = 16
	}
	for next, first := int(max(from, 1))-1, true; ; first = false {
		l.mu.Lock()
		waiting, grown := l.events[min(next, len(l.events)):], l.grown
		l.mu.Unlock()
		run := eventstore.Batch{Events: waiting[:min(size, len(waiting))], CaughtUp: len(waiting) <= size}
		if len(run.Events) > 0 || first {
			if err := handle(ctx, run); err != nil {
				return err
			}
			next += len(run.Events)
			continue
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
