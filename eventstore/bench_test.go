package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

// BenchmarkAppend puts Append beside its limit: a bare JetStream publish of as
// many bytes to a new subject each, with the same sync setting.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 64} {
		nc := eventstoretest.MustConnect(b, eventstoretest.MustServer(b, embedded.Config{}))
		log := eventstoretest.MustOpen(b, eventstore.Config{Conn: nc})
		js, err := jetstream.New(nc)
		if err != nil {
			b.Fatal(err)
		}
		body := eventstoretest.MustAppend(b, log, eventstoretest.Meta("c"), eventstoretest.Created("acct_0", 0))[0].Raw
		var n atomic.Int64
		b.Run(fmt.Sprintf("raw/%d", writers), func(b *testing.B) {
			parallel(b, writers, func() error {
				_, err := js.PublishMsg(b.Context(), &nats.Msg{Subject: "keyledger.events.raw.key." + strconv.FormatInt(n.Add(1), 10), Data: body})
				return err
			})
		})
		b.Run(fmt.Sprintf("append/%d", writers), func(b *testing.B) {
			parallel(b, writers, func() error {
				_, err := log.Append(b.Context(), eventstoretest.Meta("c"), eventstoretest.Created("acct_1", int(n.Add(1))))
				return err
			})
		})
	}
}

// parallel runs f b.N times in all, by as many goroutines as there are writers.
func parallel(b *testing.B, writers int, f func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range writers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkTail reads 100,000 events, first without decoding them. The second
// figure is the limit that rebuilds and verifiers are measured against.
func BenchmarkTail(b *testing.B) {
	const total = 100_000
	nc := eventstoretest.MustConnect(b, eventstoretest.MustServer(b, embedded.Config{Sync: embedded.SyncLazy}))
	log := eventstoretest.MustOpen(b, eventstore.Config{Conn: nc})
	for from := 0; from < total; from += 1000 {
		changes := make([]eventstore.Change, 1000)
		for i := range changes {
			changes[i] = eventstoretest.Created("acct_1", from+i)
		}
		eventstoretest.MustAppend(b, log, eventstoretest.Meta("c"), changes...)
	}
	rate := func(b *testing.B) {
		b.Helper()
		b.ReportMetric(float64(b.N)*total/b.Elapsed().Seconds(), "events/s")
	}
	b.Run("raw", func(b *testing.B) {
		js, err := jetstream.New(nc)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			c, err := js.OrderedConsumer(b.Context(), eventstore.StreamName, jetstream.OrderedConsumerConfig{})
			if err != nil {
				b.Fatal(err)
			}
			n, done := 0, make(chan struct{})
			consuming, err := c.Consume(func(jetstream.Msg) {
				if n++; n == total {
					close(done)
				}
			}, jetstream.PullMaxMessages(1000))
			if err != nil {
				b.Fatal(err)
			}
			<-done
			consuming.Stop()
		}
		rate(b)
	})
	b.Run("decode", func(b *testing.B) {
		enough := errors.New("enough")
		for b.Loop() {
			err := log.Tail(b.Context(), 1, func(_ context.Context, batch eventstore.Batch) error {
				if batch.CaughtUp {
					return enough
				}
				return nil
			})
			if !errors.Is(err, enough) {
				b.Fatal(err)
			}
		}
		rate(b)
	})
}

func BenchmarkLoad(b *testing.B) {
	nc := eventstoretest.MustConnect(b, eventstoretest.MustServer(b, embedded.Config{Sync: embedded.SyncLazy}))
	log := eventstoretest.MustOpen(b, eventstore.Config{Conn: nc})
	for events := range 6 {
		data := []domain.Event{eventstoretest.KeyCreated("acct_1", events)}
		for i := 1; i < events; i++ {
			data = append(data, eventstoretest.Renamed(strconv.Itoa(i)))
		}
		if events > 0 {
			eventstoretest.MustAppend(b, log, eventstoretest.Meta("c"), eventstore.Change{Aggregate: eventstoretest.Key("acct_1", events), Events: data})
		}
	}
	for name, consistency := range map[string]eventstore.Consistency{"nearest": eventstore.Nearest, "leader": eventstore.Leader} {
		for _, events := range []int{0, 1, 2, 5} {
			b.Run(fmt.Sprintf("%s/%d", name, events), func(b *testing.B) {
				for b.Loop() {
					h, err := log.Load(b.Context(), eventstoretest.Key("acct_1", events), consistency)
					if err != nil || len(h.Events) != events {
						b.Fatal(len(h.Events), err)
					}
				}
			})
		}
	}
}
