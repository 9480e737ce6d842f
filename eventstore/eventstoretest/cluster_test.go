package eventstoretest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

func TestCluster(t *testing.T) {
	c := eventstoretest.MustCluster(t)
	t.Run("suite", func(t *testing.T) {
		eventstoretest.Run(t, eventstoretest.Site{
			URL: c.URL(), Addr: strings.TrimPrefix(c.NodeURL(0), "nats://"), Replicas: 3,
			Disturb: func(tb testing.TB, nc *nats.Conn) { tb.Helper(); c.MustStepDown(tb, nc) },
		})
	})
	t.Run("a refusal needs the leader's word", func(t *testing.T) { testStaleFollower(t, c) })
	t.Run("the leader is killed under 64 writers", func(t *testing.T) { testKill(t, c) })
}

func mustOpenAt(t *testing.T, url string, change ...func(*eventstore.Config)) *eventstore.Log {
	t.Helper()
	nc, err := eventstore.Connect(t.Context(), eventstore.ConnectConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	cfg := eventstore.Config{Conn: nc, Replicas: 3}
	for _, f := range change {
		f(&cfg)
	}
	return eventstoretest.MustOpen(t, cfg)
}

// A follower whose links are held up answers from what it has, and does not know
// better. The leader's answer comes late, but right.
func testStaleFollower(t *testing.T, c *eventstoretest.Cluster) {
	near := mustOpenAt(t, c.NodeURL(0))
	// A request that the far node passes on is lost: it is soon asked again.
	far := mustOpenAt(t, c.NodeURL(2), func(c *eventstore.Config) { c.AckTimeout = 100 * time.Millisecond })
	control, err := nats.Connect(c.NodeURL(0))
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	for c.MustLeader(t, control) == 2 {
		c.MustStepDown(t, control)
	}
	key := eventstoretest.Key("acct_stale", 1)
	c.HoldFar()
	eventstoretest.MustAppend(t, near, eventstoretest.Meta("c"), eventstoretest.Created("acct_stale", 1))
	h, err := far.Load(t.Context(), key, eventstore.Nearest)
	if err != nil || len(h.Events) != 0 {
		t.Errorf("the follower was to be stale: %d events, %v", len(h.Events), err)
	}
	answer := make(chan error, 1)
	go func() {
		h, err := far.Load(t.Context(), key, eventstore.Leader)
		if err == nil && len(h.Events) != 1 {
			err = fmt.Errorf("the leader has %d events", len(h.Events))
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		t.Errorf("the leader cannot be reached, and answered: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	c.ReleaseFar()
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

// outcome is what a writer was told about its command.
type outcome struct {
	command string
	key     eventstore.Aggregate
	seq     uint64 // 0: no answer
}

func testKill(t *testing.T, c *eventstoretest.Cluster) {
	const writers, connections, before, after = 64, 4, 500, 500
	logs := make([]*eventstore.Log, connections)
	for i := range logs {
		logs[i] = mustOpenAt(t, c.URL())
	}
	control, err := nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	start, err := logs[0].Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var acked, stop atomic.Uint64
	var mu sync.Mutex
	var outcomes []outcome
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := 0; stop.Load() == 0; n++ {
				o := execute(ctx, t, logs[w%connections], w, n)
				if o.seq > 0 {
					acked.Add(1)
				}
				mu.Lock()
				outcomes = append(outcomes, o)
				mu.Unlock()
			}
		})
	}
	tail := tailFrom(ctx, logs[0], start+1)

	reach := func(n uint64) {
		eventstoretest.Eventually(t, time.Minute, "commands are acknowledged", func() bool { return acked.Load() >= n })
	}
	reach(before)
	leader := c.MustLeader(t, control)
	killed := time.Now()
	c.MustKill(t, leader)
	at := acked.Load()
	reach(at + writers + 1) // more than could have been on the way
	t.Logf("node %d killed after %d commands; acknowledged again after %v", leader, at, time.Since(killed).Round(10*time.Millisecond))
	c.MustRestart(t, leader)
	reach(at + after)
	stop.Store(1)
	wg.Wait()

	head, err := logs[0].Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventstoretest.Eventually(t, time.Minute, "the tail reaches the end", func() bool { return tail.reached.Load() == head })
	cancel()
	if err := <-tail.done; !errors.Is(err, context.Canceled) {
		t.Errorf("tail: %v", err)
	}
	checkOutcomes(t, logs[1], start, outcomes)
}

// execute runs the n-th command of a writer: every fourth creates a key, the
// others rename it.
func execute(ctx context.Context, t *testing.T, log *eventstore.Log, w, n int) outcome {
	t.Helper()
	number := w*1000 + n/4
	o := outcome{command: fmt.Sprintf("%d-%d", w, n), key: eventstoretest.Key("acct_kill", number)}
	e, err := eventstoretest.Execute(ctx, log, o.key, o.command, func(eventstore.History) []domain.Event {
		if n%4 == 0 {
			return []domain.Event{eventstoretest.KeyCreated("acct_kill", number)}
		}
		return []domain.Event{eventstoretest.Renamed(o.command)}
	})
	if err != nil {
		t.Errorf("command %s: %v", o.command, err)
		return o
	}
	o.seq = e.Seq
	return o
}

// checkOutcomes compares what the writers were told with what the log holds.
func checkOutcomes(t *testing.T, log *eventstore.Log, start uint64, outcomes []outcome) {
	t.Helper()
	stored := make(map[string]uint64)
	next := uint64(1)
	for e, err := range log.Replay(t.Context(), eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Seq != next {
			t.Fatalf("event %d comes where %d is due", e.Seq, next)
		}
		next++
		if e.Seq <= start {
			continue
		}
		if twice := stored[e.CommandID]; twice > 0 {
			t.Errorf("command %s is stored at %d and at %d", e.CommandID, twice, e.Seq)
		}
		stored[e.CommandID] = e.Seq
	}
	for _, o := range outcomes {
		if o.seq > 0 && stored[o.command] != o.seq {
			t.Errorf("command %s was acknowledged at %d and is stored at %d", o.command, o.seq, stored[o.command])
		}
	}
	if len(stored) != len(outcomes) {
		t.Errorf("%d commands, %d stored", len(outcomes), len(stored))
	}
	t.Logf("%d commands, each stored once", len(outcomes))
}

type tail struct {
	reached atomic.Uint64
	done    chan error
}

func tailFrom(ctx context.Context, log *eventstore.Log, from uint64) *tail {
	r := &tail{done: make(chan error, 1)}
	go func() {
		next := from
		r.done <- log.Tail(ctx, from, func(_ context.Context, b eventstore.Batch) error {
			for _, e := range b.Events {
				if e.Seq != next {
					return fmt.Errorf("event %d comes where %d is due", e.Seq, next)
				}
				next++
			}
			if b.CaughtUp {
				r.reached.Store(next - 1)
			}
			return nil
		})
	}()
	return r
}
