package projections_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/projectionstest"
	"github.com/keyledger/keyledger/projections/sqlite"
)

// usageStores are both databases.
func usageStores(t *testing.T, do func(t *testing.T, open func() projectionstest.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		path := t.TempDir() + "/keys.db"
		do(t, func() projectionstest.Store {
			store, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			return store
		})
	})
	t.Run("postgresql", func(t *testing.T) {
		url := postgrestest.MustDatabases(t).MustCreate(t)
		do(t, func() projectionstest.Store {
			store, err := postgres.Open(t.Context(), postgres.Config{URL: url, StatementTimeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			return store
		})
	})
}

func mustUsageLog(t *testing.T) *eventstore.Log {
	t.Helper()
	return eventstoretest.MustOpen(t, eventstore.Config{
		Conn: eventstoretest.MustConnect(t, eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy})),
	})
}

// mustPublish publishes report number n of a run: one use of each of some keys.
func mustPublish(t *testing.T, log *eventstore.Log, run string, n uint64, keys ...domain.KeyID) {
	t.Helper()
	now := time.Now()
	r := eventstore.UsageReport{Reporter: "node", Run: run, Number: n, Day: now.UTC().Format(time.DateOnly), From: now, To: now}
	for _, id := range keys {
		r.Uses = append(r.Uses, eventstore.KeyUse{Key: id, Last: now.UnixMicro(), Count: 1})
	}
	if err := log.PublishUsage(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// follow runs a feed until stop is called.
func follow(t *testing.T, cfg projections.UsageConfig) (stop func()) {
	t.Helper()
	cfg.RetryMin, cfg.RetryMax, cfg.LookEvery = time.Millisecond, 50*time.Millisecond, 5*time.Millisecond
	f, err := projections.NewUsageFeed(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

func used(t *testing.T, store projections.UsageReader, id domain.KeyID) (n uint64) {
	t.Helper()
	today := projections.DayOf(time.Now())
	days, err := store.DailyUse(t.Context(), id, today-2, today)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range days {
		n += d.Count
	}
	return n
}

// awaitUse waits until a key was used so often, and sees that it is not more.
func awaitUse(t *testing.T, store projections.UsageReader, id domain.KeyID, want uint64) {
	t.Helper()
	await(t, func() bool {
		got := used(t, store, id)
		if got > want {
			t.Fatalf("%s was used %d times, want %d", id, got, want)
		}
		return got == want
	})
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not come")
		}
	}
}

// TestUsageIsMergedOnce: over restarts of the feed and the store, repeats, two feeds at
// once, a stream that was made anew, and one whose first reports have gone.
func TestUsageIsMergedOnce(t *testing.T) {
	usageStores(t, func(t *testing.T, open func() projectionstest.Store) {
		t.Helper()
		log := mustUsageLog(t)
		store := open()
		n := uint64(0)
		publish := func(reports int) {
			t.Helper()
			for range reports {
				n++
				mustPublish(t, log, "run_1", n, "key_a", domain.KeyID(fmt.Sprint("key_", n)))
			}
		}
		publish(30)
		stop := follow(t, projections.UsageConfig{Store: store, Log: log})
		awaitUse(t, store, "key_a", 30)
		stop()
		publish(10)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		store = open()
		defer func() { _ = store.Close() }()
		stopTwo := follow(t, projections.UsageConfig{Store: store, Log: log})
		stop = follow(t, projections.UsageConfig{Store: store, Log: log})
		publish(10)
		mustPublish(t, log, "run_1", 7, "key_a") // the window drops it
		awaitUse(t, store, "key_a", 50)
		stopTwo()
		stop()

		js := log.JetStream()
		if err := js.DeleteStream(t.Context(), string(eventstore.SideUsage)); err != nil {
			t.Fatal(err)
		}
		n = 45
		publish(10) // five of them were merged
		stop = follow(t, projections.UsageConfig{Store: store, Log: log})
		awaitUse(t, store, "key_a", 55)
		stop()
		publish(5)
		stream, err := js.Stream(t.Context(), string(eventstore.SideUsage))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		publish(3)
		follow(t, projections.UsageConfig{Store: store, Log: log, Registerer: prometheus.NewRegistry()})
		awaitUse(t, store, "key_a", 58)
		if _, err := js.Publish(t.Context(), "keyledger.usage.node", []byte("not a report")); err != nil {
			t.Fatal(err)
		}
		publish(1)
		awaitUse(t, store, "key_a", 59)
	})
}

// TestUsageOfLostDatabase: where the tables are lost, what the stream holds is merged
// from its beginning.
func TestUsageOfLostDatabase(t *testing.T) {
	log := mustUsageLog(t)
	for round := range 2 {
		store, err := sqlite.Open(t.Context(), sqlite.Config{Path: t.TempDir() + "/keys.db"})
		if err != nil {
			t.Fatal(err)
		}
		mustPublish(t, log, "run", uint64(round+1), "key_a")
		stop := follow(t, projections.UsageConfig{Store: store, Log: log})
		awaitUse(t, store, "key_a", uint64(round+1))
		stop()
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// failing is a store that fails at times, before or after it has merged.
type failing struct {
	projections.UsageWriter
	calls atomic.Int64
}

var errLost = errors.New("lost")

func (f *failing) MergeUsage(ctx context.Context, b projections.UsageBatch) error {
	switch f.calls.Add(1) % 4 {
	case 1:
		return errLost
	case 2:
		return errors.Join(f.UsageWriter.MergeUsage(ctx, b), errLost) // the answer was lost
	default:
		return f.UsageWriter.MergeUsage(ctx, b)
	}
}

// TestUsageGoesOn: a store that fails is tried again, and nothing counts twice.
// A process that does not lead merges nothing, and goes on when it does.
func TestUsageGoesOn(t *testing.T) {
	usageStores(t, func(t *testing.T, open func() projectionstest.Store) {
		t.Helper()
		log, store := mustUsageLog(t), open()
		defer func() { _ = store.Close() }()
		var leads atomic.Bool
		var refused atomic.Int64
		leads.Store(true)
		follow(t, projections.UsageConfig{Store: &failing{UsageWriter: store}, Log: log, Leads: func() bool {
			yes := leads.Load()
			if !yes {
				refused.Add(1)
			}
			return yes
		}})
		for n := range uint64(40) {
			mustPublish(t, log, "run", n+1, "key_a")
			if n%10 == 0 {
				awaitUse(t, store, "key_a", n+1)
			}
		}
		awaitUse(t, store, "key_a", 40)
		leads.Store(false)
		await(t, func() bool { return refused.Load() >= 2 }) // who merged asks once, and then who would begin
		mustPublish(t, log, "run", 41, "key_a")
		more := refused.Load() + 3
		await(t, func() bool { return refused.Load() >= more })
		if got := used(t, store, "key_a"); got != 40 {
			t.Errorf("merged without the lead: %d", got)
		}
		leads.Store(true)
		awaitUse(t, store, "key_a", 41)
	})
}
