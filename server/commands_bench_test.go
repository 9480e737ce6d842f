package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
	"github.com/keyledger/keyledger/server/servertest"
)

// commandWindow is how long each side is measured at a time.
const commandWindow = 2 * time.Second

// BenchmarkCommands compares create commands over HTTP, every one synced before
// its answer, with the limit: as many raw JetStream publishers, each expecting an
// empty subject, on a server with the same sync setting in the same run. The two
// take turns, so that both meet the same disk.
//
//	raw/s, http/s      medians of the rounds
//	rate-ratio         http/s over raw/s, median of the rounds' ratios
//	latency-ratio      median latency of one over the other, likewise
func BenchmarkCommands(b *testing.B) {
	for _, clients := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			publish := rawPublisher(b)
			create := httpCreator(b, clients)
			var raws, https, rates, latencies []float64
			for b.Loop() {
				for range 3 {
					raw := measure(b, clients, commandWindow, publish)
					over := measure(b, clients, commandWindow, create)
					raws, https = append(raws, raw.rate), append(https, over.rate)
					rates = append(rates, over.rate/raw.rate)
					latencies = append(latencies, over.latency.Seconds()/raw.latency.Seconds())
				}
			}
			b.ReportMetric(median(raws), "raw/s")
			b.ReportMetric(median(https), "http/s")
			b.ReportMetric(median(rates), "rate-ratio")
			b.ReportMetric(median(latencies), "latency-ratio")
		})
	}
}

// measured is what a window saw.
type measured struct {
	rate    float64 // a second
	latency time.Duration
}

// measure calls do from as many goroutines as there are clients, one call after
// the other, for a window.
func measure(b *testing.B, clients int, window time.Duration, do func(client, n int) error) measured {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for client := range clients {
		wg.Go(func() {
			var own []time.Duration
			for n := 0; time.Since(start) < window; n++ {
				before := time.Now()
				if err := do(client, n); err != nil {
					b.Error(err)
					return
				}
				own = append(own, time.Since(before))
			}
			mu.Lock()
			took = append(took, own...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	slices.Sort(took)
	return measured{rate: float64(len(took)) / time.Since(start).Seconds(), latency: took[len(took)/2]}
}

// rawPublisher publishes messages of an event's size to a stream of their own.
func rawPublisher(b *testing.B) func(client, n int) error {
	b.Helper()
	conn := eventstoretest.MustConnect(b, eventstoretest.MustServer(b, embedded.Config{Sync: embedded.SyncAlways}))
	js, err := jetstream.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	_, err = js.CreateStream(b.Context(), jetstream.StreamConfig{
		Name: "RAW", Subjects: []string{"raw.>"}, Storage: jetstream.FileStorage, Replicas: 1,
		AllowDirect: true, AllowAtomicPublish: true, DenyDelete: true, DenyPurge: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 900)
	ctx := context.WithoutCancel(b.Context())
	var mu sync.Mutex
	seen := map[int]int{} // subjects go on over the windows
	return func(client, _ int) error {
		mu.Lock()
		seen[client]++
		subject := "raw." + strconv.Itoa(client) + "." + strconv.Itoa(seen[client])
		mu.Unlock()
		_, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: body, Header: nats.Header{}}, jetstream.WithExpectLastSequenceForSubject(0, subject))
		return err
	}
}

// httpCreator creates keys over HTTP.
func httpCreator(b *testing.B, clients int) func(client, n int) error {
	b.Helper()
	stack := servertest.MustStart(b, servertest.Config{
		Sync: embedded.SyncAlways, Logger: slog.New(slog.NewJSONHandler(io.Discard, nil)), //nolint:sloglint // lines are made, as in earnest
	})
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	b.Cleanup(transport.CloseIdleConnections)
	caller := &http.Client{Transport: transport}
	const body = `{"name":"Production Server","environment":"live","scopes":["invoices:read","payouts:read"],"description":"made by the benchmark"}`
	return func(int, int) error {
		request, err := http.NewRequest(http.MethodPost, stack.URL+"/v1/keys", strings.NewReader(body)) //nolint:noctx // a benchmark's
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+stack.Operator)
		request.Header.Set("Content-Type", "application/json")
		answer, err := caller.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close() //nolint:errcheck // only read
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			return err
		}
		if answer.StatusCode != http.StatusCreated {
			return fmt.Errorf("create answered %d", answer.StatusCode)
		}
		return nil
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
