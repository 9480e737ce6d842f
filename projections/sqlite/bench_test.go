package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
	"github.com/keyledger/keyledger/projections"
)

// BenchmarkRebuild builds the tables from an embedded log and compares that with a
// tail of the same log that only decodes. The metric "ratio" is the speed of the
// one by that of the other; at least 0.25 is asked for. KEYLEDGER_BENCH_EVENTS
// sets the number of events (100,000), a third of which create keys.
func BenchmarkRebuild(b *testing.B) {
	n := 100_000
	if text := os.Getenv("KEYLEDGER_BENCH_EVENTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatalf("KEYLEDGER_BENCH_EVENTS: %v", err)
		}
	}
	log := eventstoretest.MustEmbedded(b)
	mustFill(b, log, n)
	var decode, rebuild time.Duration
	for b.Loop() {
		start := time.Now()
		mustTail(b, log, n)
		decode += time.Since(start)

		start = time.Now()
		store := mustOpenDefault(b, b.TempDir())
		mustCatchUp(b, store, log)
		rebuild += time.Since(start)
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
	}
	total := float64(n) * float64(b.N)
	b.ReportMetric(total/decode.Seconds(), "decode-events/s")
	b.ReportMetric(total/rebuild.Seconds(), "rebuild-events/s")
	b.ReportMetric(decode.Seconds()/rebuild.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}

func mustOpenDefault(b *testing.B, dir string) *Store {
	b.Helper()
	store, err := Open(b.Context(), Config{Path: dir + "/keys.db"})
	if err != nil {
		b.Fatal(err)
	}
	return store
}

// mustTail reads the log as far as it goes and drops it.
func mustTail(b *testing.B, log *eventstore.Log, n int) {
	b.Helper()
	done, seen := errors.New("done"), 0
	err := log.Tail(b.Context(), 1, func(_ context.Context, run eventstore.Batch) error {
		if seen += len(run.Events); seen >= n {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) || seen != n {
		b.Fatalf("tail: %d events of %d, %v", seen, n, err)
	}
}

func mustCatchUp(b *testing.B, store *Store, log *eventstore.Log) {
	b.Helper()
	p, err := projections.New(projections.Config{Store: store, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	if err := p.WaitCaughtUp(ctx); err != nil {
		b.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// mustFill writes n events: a third create keys, the others change keys that were
// created at any time before.
func mustFill(b *testing.B, log *eventstore.Log, n int) {
	b.Helper()
	const perAppend = 1000 // the most that one atomic batch takes
	random := rand.New(rand.NewPCG(1, 2))
	last := []uint64{} // seq of the last event of each key
	for written := 0; written < n; {
		var changes []eventstore.Change
		var keys []int
		size := min(perAppend, n-written)
		fresh := len(last)
		used := map[int]bool{}
		for len(changes) < size {
			key := random.IntN(max(fresh, 1))
			if fresh == 0 || len(changes)%3 == 0 || used[key] {
				key = len(last)
				last = append(last, 0)
			}
			used[key] = true
			keys = append(keys, key)
			changes = append(changes, eventstore.Change{
				Aggregate: eventstore.KeyAggregate(benchAccount(key), benchKey(key)), ExpectedSeq: last[key],
				Events: []domain.Event{benchEvent(key, last[key] == 0, random)},
			})
		}
		meta := eventstore.Meta{
			Time: time.Date(2026, 3, 1, 0, 0, written, 0, time.UTC), Actor: "key_operator0000000000", Command: domain.CommandUpdateKey,
			CommandID: fmt.Sprintf("command-%d", written), RequestID: fmt.Sprintf("request-%d", written),
		}
		for i, e := range eventstoretest.MustAppend(b, log, meta, changes...) {
			last[keys[i]] = e.Seq
		}
		written += size
	}
}

func benchEvent(key int, fresh bool, random *rand.Rand) domain.Event {
	at := time.Date(2026, 3, 1, 0, 0, key, 0, time.UTC)
	name := fmt.Sprintf("service %d of the billing team", key)
	if !fresh {
		if random.IntN(4) == 0 {
			return domain.KeyRevoked{Reason: "no longer used", RevokedAt: at}
		}
		return domain.KeyUpdated{Name: &name, Scopes: &domain.Scopes{"clients:read", "invoices:*"}, UpdatedAt: at}
	}
	mac := domain.Mac{}
	for i := range mac {
		mac[i] = byte(random.Uint32())
	}
	return domain.KeyCreated{
		KeySpec: domain.KeySpec{
			ID: benchKey(key), Account: benchAccount(key), Type: domain.KeyTypeAPI, Name: name, Description: "made for a benchmark",
			Environment: domain.EnvironmentLive, Scopes: domain.Scopes{"clients:read", "invoices:read", "invoices:write"}, Mac: mac, PepperID: "pepper1",
			Display: fmt.Sprintf("sk_live_%08d…", key), ExpiresAt: at.AddDate(1, 0, 0), Metadata: map[string]string{"team": "billing"},
		},
		CreatedBy: "key_operator0000000000", CreatedAt: at,
	}
}

func benchKey(n int) domain.KeyID { return domain.KeyID(fmt.Sprintf("key_%016d", n)) }

func benchAccount(n int) domain.AccountID { return domain.AccountID(fmt.Sprintf("account%d", n%1000)) }
