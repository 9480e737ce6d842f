package deadlines

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// TestClockSetForward sets clocks forward while keys have deadlines that they reach by
// it: what is written is what a right clock would have, or comes after the patience.
func TestClockSetForward(t *testing.T) {
	tests := []struct {
		name  string
		run   func(w *world, worker *Worker)
		want  []string
		alarm bool // at the end
	}{
		{
			name: "for good: written when it has stayed so",
			run: func(w *world, worker *Worker) {
				w.set(12 * time.Hour)
				w.pass(DefaultPatience - 10*time.Second)
				w.unwell(worker, "set forward by 12h0m0s")
				w.expect()
				w.pass(20 * time.Second)
			},
			want: []string{"2000-01-01T12:06:02 k expired 2000-01-01T06:00:00"},
		},
		{
			name: "and back: written in time",
			run: func(w *world, worker *Worker) {
				w.set(12 * time.Hour)
				w.pass(time.Minute)
				w.unwell(worker, "set forward")
				w.set(-12 * time.Hour)
				w.pass(2 * time.Second)
				if err := worker.Health(); err != nil {
					w.t.Errorf("set back: %v", err)
				}
				w.until(at("2000-01-01T07:00:00"))
			},
			want: []string{"2000-01-01T06:00:00 k expired 2000-01-01T06:00:00"},
		},
		{
			name: "and in part back: the patience begins anew",
			run: func(w *world, _ *Worker) {
				w.set(12 * time.Hour)
				w.pass(4 * time.Minute)
				w.set(-2 * time.Hour)
				w.pass(4 * time.Minute)
			},
			want:  []string{},
			alarm: true,
		},
		{
			name: "again and again",
			run: func(w *world, _ *Worker) {
				for range 10 {
					w.set(12 * time.Hour)
					w.pass(3 * time.Minute)
				}
			},
			want:  []string{},
			alarm: true,
		},
		{
			name: "by little, as when it is put right",
			run: func(w *world, _ *Worker) {
				w.until(at("2000-01-01T05:30:00"))
				w.set(50 * time.Second)
				w.until(at("2000-01-01T06:00:00"))
			},
			want: []string{"2000-01-01T06:00:00 k expired 2000-01-01T06:00:00"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told strings.Builder
				w := newWorld(t, func(c *Config) {
					c.Patience, c.Notices = 0, []time.Duration{}
					c.Logger = slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelError}))
				})
				w.create("k", at("2000-01-01T06:00:00"))
				worker := w.begin("a")
				w.pass(time.Minute + time.Second)
				tt.run(w, worker)
				w.expect(tt.want...)
				if err := worker.Health(); tt.alarm != errors.Is(err, errDoubt) {
					t.Errorf("health: %v", err)
				}
				for name := range w.stop {
					w.end(name)
				}
				if tt.alarm && !strings.Contains(told.String(), "alarm: deadlines are not written by this node's clock") {
					t.Errorf("told: %s", told.String())
				}
			})
		})
	}
}

// TestClockOfAStandbySetForward has the clock set of a node that stands by and takes
// over then: it knows that it was.
func TestClockOfAStandbySetForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Patience, c.Notices = 0, []time.Duration{} })
		w.create("k", at("2000-01-01T06:00:00"))
		w.log.lease <- struct{}{} // another has it
		worker := w.begin("a")
		w.pass(time.Hour)
		w.set(12 * time.Hour)
		w.pass(3 * time.Second)
		w.unwell(worker, "set forward")
		<-w.log.lease
		w.pass(4 * time.Minute)
		w.expect()
		w.pass(time.Minute)
		w.expect("2000-01-01T13:05:01 k expired 2000-01-01T06:00:00")
		w.end("a")
	})
}

// unwell checks what a worker says of its health.
func (w *world) unwell(worker *Worker, words string) {
	w.t.Helper()
	if err := worker.Health(); err == nil || !strings.Contains(err.Error(), words) {
		w.t.Errorf("health: %v, want %q", err, words)
	}
}

// TestAnotherLeadsWithARightClock has the leader's clock set forward: it gives the
// lease up, and a node whose clock is right writes what is due.
func TestAnotherLeadsWithARightClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Patience, c.Notices = 0, []time.Duration{} })
		w.create("k", at("2000-01-01T00:03:00"))
		w.create("l", at("2000-01-01T06:00:00"))
		first := w.begin("a")
		w.cfg.Now = time.Now
		second := w.begin("b")
		w.pass(time.Minute)
		if !first.leading.Load() || second.leading.Load() {
			t.Fatal("the first does not lead")
		}
		w.set(12 * time.Hour)
		w.pass(2 * time.Second)
		if first.leading.Load() || !second.leading.Load() {
			t.Error("the second does not lead")
		}
		w.pass(3 * time.Minute)
		w.expect("2000-01-01T00:03:00 k expired 2000-01-01T00:03:00")
		if first.Health() == nil || second.Health() != nil {
			t.Errorf("health: %v, %v", first.Health(), second.Health())
		}
		w.end("a")
		w.end("b")
	})
}

// serverClock is a server's, some time ahead of the bubble's.
type serverClock struct {
	ahead atomic.Int64 // ns
	away  atomic.Bool
}

func (s *serverClock) ServerTime(context.Context) (time.Time, error) {
	if s.away.Load() {
		return time.Time{}, domain.NewError(domain.KindUnavailable, "log_unavailable", "away", "wait")
	}
	return time.Now().Add(time.Duration(s.ahead.Load())), nil
}

// TestClockAheadOfTheServer starts a node with a clock that is ahead of the server's,
// which no look at the monotonic clock can tell: nothing is written until they agree.
func TestClockAheadOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &serverClock{}
		w := newWorld(t, func(c *Config) { c.Patience, c.Notices, c.ServerClock = 0, []time.Duration{}, server })
		w.create("k", at("2000-01-01T06:00:00"))
		w.set(12 * time.Hour)
		worker := w.begin("a")
		w.pass(time.Hour)
		w.expect()
		w.unwell(worker, "12h0m0s ahead of the NATS server's")

		w.set(-12 * time.Hour)
		w.pass(2 * time.Second)
		if err := worker.Health(); err != nil {
			t.Errorf("they agree: %v", err)
		}
		w.until(at("2000-01-01T05:00:00"))
		server.ahead.Store(-int64(time.Hour)) // found within a minute, by a node that leads
		w.until(at("2000-01-01T06:30:00"))
		w.expect()
		w.unwell(worker, "1h0m0s ahead")
		server.ahead.Store(int64(time.Hour)) // a node that is late writes late
		w.pass(2 * time.Second)
		w.expect("2000-01-01T06:30:01 k expired 2000-01-01T06:00:00")
		w.end("a")
	})
}

// TestServerDoesNotSayTheTime writes nothing until it does.
func TestServerDoesNotSayTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &serverClock{}
		server.away.Store(true)
		w := newWorld(t, func(c *Config) { c.Patience, c.Notices, c.ServerClock = 0, []time.Duration{}, server })
		w.create("k", at("2000-01-01T01:00:00"))
		worker := w.begin("a")
		w.until(at("2000-01-01T02:00:00"))
		w.expect()
		w.unwell(worker, "1 deadlines are due")
		server.away.Store(false)
		w.pass(retryMost)
		if n := len(w.written()); n != 1 {
			t.Errorf("%d were written", n)
		}
		w.end("a")
	})
}

// TestStepForwardIsComparedBeforeItIsBelieved: that a clock has stayed wrong does not
// make it right where there is another to ask.
func TestStepForwardIsComparedBeforeItIsBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Patience, c.Notices, c.ServerClock = 0, []time.Duration{}, &serverClock{} })
		w.create("k", at("2000-01-01T06:00:00"))
		worker := w.begin("a")
		w.pass(time.Minute)
		w.set(12 * time.Hour)
		w.pass(time.Hour)
		w.expect()
		w.unwell(worker, "12h0m0s ahead of the NATS server's")
		w.end("a")
	})
}
