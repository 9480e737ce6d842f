package deadlines

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

// realNode is a worker on a real log, over a connection of its own.
type realNode struct {
	conn *nats.Conn
	stop context.CancelFunc
	done chan error
}

// MustNode starts a node on a server.
func MustNode(tb testing.TB, s *embedded.Server, cfg Config) *realNode {
	tb.Helper()
	conn, err := s.Connect(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	log := eventstoretest.MustOpen(tb, eventstore.Config{Conn: conn})
	cfg.Log, cfg.Lease = log, log
	worker, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	n := &realNode{conn: conn, stop: stop, done: make(chan error, 1)}
	go func() { n.done <- worker.Run(ctx) }()
	return n
}

// end stops the node in order.
func (n *realNode) end(tb testing.TB) {
	tb.Helper()
	n.stop()
	if err := <-n.done; err != nil {
		tb.Errorf("Run: %v", err)
	}
	n.conn.Close()
}

// kill cuts the node off in whatever it is doing: nothing is finished, and nothing
// given back.
func (n *realNode) kill() {
	n.conn.Close()
	n.stop()
	<-n.done //nolint:errcheck // it was cut off
}

// mustFill appends keys that are made at now and expire at the times that expires gives.
func mustFill(tb testing.TB, log *eventstore.Log, now time.Time, keys int, expires func(n int) time.Time) {
	tb.Helper()
	const batch = 500
	for from := 0; from < keys; from += batch {
		changes := make([]eventstore.Change, 0, batch)
		for n := from; n < min(from+batch, keys); n++ {
			s := spec(domain.KeyID(fmt.Sprintf("key_%016d", n)), expires(n))
			changes = append(changes, change(s.ID, 0, domain.KeyCreated{KeySpec: s, CreatedAt: now}))
		}
		meta := eventstore.Meta{Time: now, Actor: "key_operator", Command: domain.CommandCreateKey, CommandID: fmt.Sprintf("fill-%d", from)}
		if _, err := log.Append(tb.Context(), meta, changes...); err != nil {
			tb.Error(err)
			return
		}
	}
}

// tally counts what the clock wrote, by key and event.
type tally map[domain.KeyID]map[domain.EventType]int

func mustTally(tb testing.TB, log *eventstore.Log) (tally, []eventstore.Event) {
	tb.Helper()
	t, events := tally{}, []eventstore.Event{}
	for e, err := range log.Replay(tb.Context(), eventstore.Filter{}) {
		if err != nil {
			tb.Fatal(err)
		}
		if e.Actor != domain.SystemActor {
			continue
		}
		events = append(events, e)
		id := domain.KeyID(e.Aggregate.ID)
		if t[id] == nil {
			t[id] = map[domain.EventType]int{}
		}
		t[id][e.Type()]++
	}
	return t, events
}

// TestWallClock writes to a real log: not before the deadline by the real clock, and
// soon after it.
func TestWallClock(t *testing.T) {
	s := eventstoretest.MustServer(t, embedded.Config{})
	log := eventstoretest.MustOpen(t, eventstore.Config{Conn: eventstoretest.MustConnect(t, s)})
	const keys, late = 300, 2 * time.Second
	begin := time.Now().UTC()
	expires := func(n int) time.Time { return begin.Add(4*time.Second + time.Duration(n%30)*50*time.Millisecond) }
	node := MustNode(t, s, Config{})
	mustFill(t, log, time.Now().UTC(), keys, expires)
	ends := time.Now().Add(2 * time.Second).UTC().Truncate(time.Microsecond)
	rotated := domain.KeyID(fmt.Sprintf("key_%016d", 7))
	eventstoretest.Eventually(t, 10*time.Second, "the notices are there", func() bool {
		head, err := log.Head(t.Context())
		return err == nil && head == 2*keys
	})
	history, err := log.Load(t.Context(), eventstore.KeyAggregate(domain.DefaultAccount, rotated), eventstore.Leader)
	if err != nil {
		t.Fatal(err)
	}
	eventstoretest.MustAppend(t, log, eventstore.Meta{Time: time.Now(), Actor: "key_operator", Command: domain.CommandRotateKey, CommandID: "rotate"},
		change(rotated, history.LastSeq, domain.KeyRotated{ReplacedBy: "key_next", EndsAt: ends, RotatedAt: time.Now().UTC()}))
	eventstoretest.Eventually(t, 20*time.Second, "everything is written", func() bool {
		head, err := log.Head(t.Context())
		return err == nil && head == 3*keys+1
	})
	node.end(t)
	counts, events := mustTally(t, log)
	for _, e := range events {
		due := time.Time{}
		switch data := any(e.Data).(type) {
		case domain.KeyExpired:
			due = data.ExpiresAt
		case domain.KeyRevoked:
			if due = data.RevokedAt; !due.Equal(ends) || e.Aggregate.ID != string(rotated) {
				t.Errorf("%s was revoked at %s", e.Aggregate, due)
			}
		case domain.KeyExpiring:
			continue
		}
		if e.Time.Before(due) || e.Time.After(due.Add(late)) {
			t.Errorf("%s of %s, due at %s, was written at %s", e.Type(), e.Aggregate.ID, due, e.Time)
		}
	}
	for id, count := range counts {
		last := domain.TypeKeyExpired
		if id == rotated {
			last = domain.TypeKeyRevoked
		}
		if len(count) != 2 || count[domain.TypeKeyExpiring] != 1 || count[last] != 1 {
			t.Errorf("%s: %v", id, count)
		}
	}
}

// TestRandomKills kills three nodes at random while notices and expiries of 10,000
// keys come due: each is written once.
func TestRandomKills(t *testing.T) {
	const keys, nodes = 10_000, 3
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	s := eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy})
	log := eventstoretest.MustOpen(t, eventstore.Config{Conn: eventstoretest.MustConnect(t, s), AckTimeout: time.Minute})
	cfg := Config{LeaseTTL: 400 * time.Millisecond, BatchSize: 100, Duty: 0.8, Patience: -1}

	// Expiries lie in the second hour. The clock stands still until all notices are
	// written, and then runs fast, so that a slow machine gets as many notices.
	begin := time.Now().UTC().Truncate(time.Microsecond)
	var running atomic.Int64 // since when, in ns; 0: it stands still
	cfg.Now = func() time.Time {
		if since := running.Load(); since > 0 {
			return begin.Add(1200 * time.Since(time.Unix(0, since)))
		}
		return begin
	}
	var filling sync.WaitGroup
	seconds := random.Perm(keys)
	filling.Go(func() {
		mustFill(t, log, begin, keys, func(n int) time.Time { return begin.Add(time.Hour + time.Duration(seconds[n]%3600)*time.Second) })
	})

	workers := make([]*realNode, nodes)
	for i := range workers {
		workers[i] = MustNode(t, s, cfg)
	}
	kills, tick := 0, time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	next := uint64(0) // the log's length at the next kill: so it is as hard on a slow machine
	deadline := time.Now().Add(4 * time.Minute)
	for {
		<-tick.C
		head, err := log.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if head >= 3*keys {
			break
		}
		if head == 2*keys {
			running.CompareAndSwap(0, time.Now().UnixNano())
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d events after %d kills", head, 3*keys, kills)
		}
		if head < next {
			continue
		}
		next = head + uint64(random.IntN(2500))
		i := random.IntN(nodes)
		if random.IntN(4) == 0 {
			workers[i].end(t)
		} else {
			workers[i].kill()
			kills++
		}
		workers[i] = MustNode(t, s, cfg)
	}
	filling.Wait()
	for _, n := range workers {
		n.end(t)
	}
	counts, events := mustTally(t, log)
	if len(counts) != keys || len(events) != 2*keys {
		t.Errorf("%d events of %d keys", len(events), len(counts))
	}
	for id, count := range counts {
		if count[domain.TypeKeyExpiring] != 1 || count[domain.TypeKeyExpired] != 1 || len(count) != 2 {
			t.Errorf("%s: %v", id, count)
		}
	}
	for _, e := range events {
		if data, ok := e.Data.(domain.KeyExpired); ok && e.Time.Before(data.ExpiresAt) {
			t.Errorf("%s expired at %s, written at %s", e.Aggregate.ID, data.ExpiresAt, e.Time)
		}
	}
	t.Logf("%d kills: %d notices and expiries, once each", kills, len(events))
}
