package command

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyledger/keyledger/eventstore"
)

func TestTurnsGoOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		one, other := eventstore.KeyAggregate("a", "key_1"), eventstore.KeyAggregate("a", "key_2")
		done := mustTake(t, turns, one)
		mustTake(t, turns, other)() // another key's turn is free

		var took time.Duration
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			defer mustTake(t, turns, one)()
			took = time.Since(start)
		})
		<-time.After(time.Minute) // of the bubble
		done()
		wg.Wait()
		if took != time.Minute {
			t.Errorf("the second came after %s, want when the first was done", took)
		}
		if len(turns.queues) != 0 {
			t.Errorf("%d queues are left", len(turns.queues))
		}
	})
}

func TestTurnsDoNotHoldACommandBeyondItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		one := eventstore.KeyAggregate("a", "key_1")
		first := mustTake(t, turns, one)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := turns.take(ctx, one); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second did not wait its time: %v", err)
		}
		third := make(chan struct{})
		go func() {
			defer close(third)
			mustTake(t, turns, one)()
		}()
		synctest.Wait()
		select {
		case <-third:
			t.Error("two had the turn at once")
		default:
		}
		first()
		<-third
	})
}

func mustTake(t *testing.T, turns *turns, a eventstore.Aggregate) (done func()) {
	t.Helper()
	done, err := turns.take(t.Context(), a)
	if err != nil {
		t.Error(err)
		return func() {}
	}
	return done
}

// Many commands on one key at once come after each other, none in vain.
func TestManyCommandsOnOneKeyDoNotConflict(t *testing.T) {
	f := newFixture(t)
	created := f.mustCreate(t, "c1")
	counting := &countingLog{faultyLog: f.log}
	f.Handler.log = counting
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			name := fmt.Sprintf("name %d", i)
			if _, err := f.UpdateKey(t.Context(), as(fmt.Sprintf("u%d", i)), target(created), KeyChanges{Name: &name}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if head := f.mustHead(t); head != 65 || counting.conflicts != 0 {
		t.Errorf("head %d after %d conflicts, want 65 after none", head, counting.conflicts)
	}
}

type countingLog struct {
	*faultyLog
	mu        sync.Mutex
	conflicts int
}

func (l *countingLog) Append(ctx context.Context, m eventstore.Meta, c ...eventstore.Change) ([]eventstore.Event, error) {
	events, err := l.faultyLog.Append(ctx, m, c...)
	if errors.Is(err, eventstore.ErrConflict) {
		l.mu.Lock()
		l.conflicts++
		l.mu.Unlock()
	}
	return events, err
}
