package projections_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/sqlite"
)

// lagWriters is how many clients write at once; beyond it the embedded log gets no
// faster.
const lagWriters = 64

// BenchmarkLag writes to an embedded log, synced before each answer as a node does,
// as fast as it takes single events, and measures how long after an acknowledgement
// its event is in the tables: with the linger of a node, for readers that do not
// wait. "behind" is how many events the tables lack, at the same instants.
func BenchmarkLag(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) {
		store, err := sqlite.Open(b.Context(), sqlite.Config{Path: b.TempDir() + "/keys.db"})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = store.Close() })
		benchLag(b, store)
	})
	b.Run("postgresql", func(b *testing.B) {
		store, err := postgres.Open(b.Context(), postgres.Config{URL: postgrestest.MustDatabases(b).MustCreate(b)})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = store.Close() })
		benchLag(b, store)
	})
}

func benchLag(b *testing.B, store projections.Store) {
	b.Helper()
	server := eventstoretest.MustServer(b, embedded.Config{})
	log := eventstoretest.MustOpen(b, eventstore.Config{Conn: eventstoretest.MustConnect(b, server)})
	p, err := projections.New(projections.Config{Store: store, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	if err := p.WaitCaughtUp(ctx); err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex
	acknowledged := map[uint64]time.Time{} // when the event of a seq was
	var newest uint64
	watched := make(chan []time.Duration, 1)
	var behind []uint64
	watching, stopWatching := context.WithCancel(ctx)
	go func() {
		var lags []time.Duration
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for done := false; !done; {
			select {
			case <-tick.C:
			case <-watching.Done():
				done = true
			}
			seq, now := p.Status().Seq, time.Now()
			mu.Lock()
			if newest > seq {
				behind = append(behind, newest-seq)
			}
			for s, at := range acknowledged {
				if s <= seq {
					lags = append(lags, now.Sub(at))
					delete(acknowledged, s)
				}
			}
			mu.Unlock()
		}
		watched <- lags
	}()

	var n atomic.Int64
	began := time.Now()
	b.SetParallelism(lagWriters / 2) // times GOMAXPROCS, 2 where we measure
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(n.Add(1))
			events, err := log.Append(ctx, eventstoretest.Meta(fmt.Sprintf("command-%d", i)), eventstoretest.Created("acme", i))
			if err != nil {
				b.Error(err)
				return
			}
			seq := events[0].Seq
			mu.Lock()
			acknowledged[seq] = time.Now()
			newest = max(newest, seq)
			mu.Unlock()
		}
	})
	rate := float64(n.Load()) / time.Since(began).Seconds()
	stopWatching()
	lags := <-watched
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	slices.Sort(lags)
	slices.Sort(behind)
	b.ReportMetric(rate, "events/s")
	if len(lags) > 0 && len(behind) > 0 {
		b.ReportMetric(float64(lags[len(lags)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(behind[len(behind)-1]), "most-behind")
	}
	b.ReportMetric(0, "ns/op")
}
