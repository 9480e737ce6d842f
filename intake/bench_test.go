package intake_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/server/servertest"
)

// BenchmarkIntake sends as many create commands through NATS as through HTTP, to
// one node with SyncAlways, by 256 senders each, and takes the time until the last
// has its outcome. KEYLEDGER_BENCH_COMMANDS says how many; 5,000 if it is not set.
//
//	http/s      created over HTTP, each answered before the sender sends another
//	nats/s      from the first publish to the last outcome
//	waiting/s   carried out of a backlog that was there before the door opened
func BenchmarkIntake(b *testing.B) {
	count := 5000
	if text := os.Getenv("KEYLEDGER_BENCH_COMMANDS"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	d := mustDoor(b, servertest.Config{
		Sync: embedded.SyncAlways, Logger: slog.New(slog.NewJSONHandler(io.Discard, nil)), //nolint:sloglint // lines are made, as in earnest
	})
	cfg := d.config()
	cfg.Logger = slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // as above
	cfg.Look, cfg.AckWait = 5*time.Second, 30*time.Second
	for round := 0; b.Loop(); round++ {
		over := func(name string) func(int) string {
			return func(n int) string { return fmt.Sprintf("%s-%d-%d", name, round, n) }
		}
		b.ReportMetric(float64(count)/timed(b, count, d.create(b, over("http"))).Seconds(), "http/s")

		publish := d.publish(b, over("waiting"))
		timed(b, count, publish)
		began := time.Now()
		_, stop := d.mustOpen(b, cfg)
		d.mustFinish(b)
		b.ReportMetric(float64(count)/time.Since(began).Seconds(), "waiting/s")

		began = time.Now()
		timed(b, count, d.publish(b, over("nats")))
		d.mustFinish(b)
		b.ReportMetric(float64(count)/time.Since(began).Seconds(), "nats/s")
		stop()
	}
}

// timed does something count times from 256 goroutines.
func timed(b *testing.B, count int, do func(n int) error) time.Duration {
	b.Helper()
	began := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(count); n = next.Add(1) {
				if err := do(int(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return time.Since(began)
}

func (d *door) create(b *testing.B, id func(int) string) func(int) error {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	b.Cleanup(transport.CloseIdleConnections)
	caller := &http.Client{Transport: transport}
	return func(n int) error {
		r := d.NewRequest(b, b.Context(), servertest.Request{Path: "/v1/keys", Token: d.token, Body: newKey(), Header: map[string]string{"Idempotency-Key": id(n)}})
		answer, err := caller.Do(r)
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

func (d *door) publish(b *testing.B, id func(int) string) func(int) error {
	b.Helper()
	return func(n int) error {
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute) // 256 wait for one disk
		defer cancel()
		_, err := d.js.PublishMsg(ctx, d.message(b, sent{command: "create_key", id: id(n), data: newKey()}))
		return err
	}
}

// mustFinish waits until every command that was published has its outcome.
func (d *door) mustFinish(b *testing.B) {
	b.Helper()
	for deadline := time.Now().Add(time.Hour); ; {
		c, err := d.js.Consumer(b.Context(), string(eventstore.SideCommands), "intake")
		if err == nil && c.CachedInfo().NumPending == 0 && c.CachedInfo().NumAckPending == 0 {
			return
		}
		if time.Now().After(deadline) {
			b.Fatal("the commands are not carried out")
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // polls a condition with a deadline
	}
}
