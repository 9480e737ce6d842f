package deadlines

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// TestOnePoisonedKey has one key of many whose event the log does not take: the
// others are written within the second, it is told loudly, and written when it can be.
func TestOnePoisonedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told strings.Builder
		registry := prometheus.NewRegistry()
		w := newWorld(t, func(c *Config) {
			c.Notices, c.Registerer = []time.Duration{}, registry
			c.Logger = slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelError}))
		})
		w.createMany(1000, at("2000-01-02"))
		poison := errors.New("the event is too large")
		w.log.failWith(func(changes []eventstore.Change) (bool, error) {
			if slices.ContainsFunc(changes, func(c eventstore.Change) bool { return c.Aggregate.ID == "k500" }) {
				return false, poison
			}
			return true, nil
		})
		worker := w.begin("a")
		w.until(at("2000-01-02"))
		w.pass(time.Second)
		if n := len(w.written()); n != 999 {
			t.Errorf("%d of 999 were written", n)
		}
		if n := w.log.appends.Load(); n > 40 {
			t.Errorf("it took %d appends", n)
		}
		if err := worker.Health(); err == nil || !strings.Contains(err.Error(), "1 keys") {
			t.Errorf("health: %v", err)
		}
		if got := mustGauge(t, registry, "keyledger_deadlines_stuck"); got != 1 {
			t.Errorf("%v are stuck", got)
		}
		if !strings.Contains(told.String(), "key_id=k500") || !strings.Contains(told.String(), poison.Error()) {
			t.Errorf("told: %s", told.String())
		}
		w.log.failWith(nil)
		w.pass(2 * stuckFirst)
		if n := len(w.written()); n != 1000 {
			t.Errorf("%d of 1000 were written in the end", n)
		}
		if err := worker.Health(); err != nil {
			t.Errorf("health: %v", err)
		}
		w.end("a")
	})
}

// TestTroubleOfAnEndedKey has a key that was taken back and that somebody else ended
// before it was tried again: it troubles nobody any more.
func TestTroubleOfAnEndedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.create("k", at("2000-01-10"))
		worker := w.begin("a")
		w.pass(time.Second)
		w.revoke("k")
		worker.mu.Lock()
		worker.troubles["k"] = &trouble{err: errors.New("the event is too large")}
		worker.mu.Unlock()
		if err := worker.Health(); err == nil {
			t.Error("a key in trouble does not show")
		}
		w.pass(2 * time.Second)
		if err := worker.Health(); err != nil {
			t.Errorf("health: %v", err)
		}
		w.end("a")
	})
}

// TestOneRestlessKey has one key of many that somebody changes whenever it is about
// to be written: it does not hold up the others, and has its turn when it rests.
func TestOneRestlessKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.createMany(1000, at("2000-01-10"))
		n := 0
		w.log.failWith(func(changes []eventstore.Change) (bool, error) {
			if slices.ContainsFunc(changes, func(c eventstore.Change) bool { return c.Aggregate.ID == "k500" }) && n < 100 {
				n++
				k, seq := w.state("k500")
				name := fmt.Sprintf("name %d", n)
				own, err := domain.Decide(k, domain.UpdateKey{Name: &name}, w.now().UTC())
				if err == nil {
					_, err = w.log.append(eventstore.Meta{Time: w.now(), Actor: "key_operator"}, []eventstore.Change{change("k500", seq, own...)})
				}
				if err != nil {
					t.Error(err)
				}
			}
			return true, nil
		})
		w.begin("a")
		w.until(at("2000-01-03"))
		w.pass(5 * time.Second)
		if got := len(w.written()); got != 999 {
			t.Errorf("%d of 999 were written", got)
		}
		w.pass(5 * time.Minute)
		if got := len(w.written()); got != 1000 {
			t.Errorf("%d of 1000 were written in the end, after %d changes", got, n)
		}
		w.end("a")
	})
}

// TestTwoWhoBelieveToLead has two workers that both have the lease, as after a
// process that stood still for long: each event is written once.
func TestTwoWhoBelieveToLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.BatchSize, c.MaxWait = 10, time.Hour })
		w.cfg.Lease = everybody{}
		w.createMany(500, at("2000-01-20"))
		w.begin("a")
		w.begin("b")
		w.begin("c")
		w.until(at("2000-01-25"))
		got := w.written()
		if len(got) != 1000 || len(slices.Compact(got)) != 1000 {
			t.Errorf("%d lines, %d of them different", len(got), len(slices.Compact(got)))
		}
		for _, name := range []string{"a", "b", "c"} {
			w.end(name)
		}
	})
}

// everybody has the lease.
type everybody struct{}

func (everybody) Hold(ctx context.Context, _ eventstore.LeaseConfig, work func(context.Context) error) error {
	return work(ctx)
}

// TestHealth tells of deadlines that nobody writes, also where nobody leads, and of
// a log that cannot be followed.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		w := newWorld(t, func(c *Config) { c.Registerer = registry })
		w.create("k", at("2000-01-02"))
		w.log.lease <- struct{}{} // another has it, and does nothing
		standby := w.begin("a")
		if err := standby.Health(); err != nil {
			t.Errorf("at first: %v", err)
		}
		w.until(at("2000-01-03"))
		if err := standby.Health(); err == nil || !strings.Contains(err.Error(), "1 deadlines are due") {
			t.Errorf("nobody writes: %v", err)
		}
		for name, want := range map[string]float64{"due": 1, "lag_seconds": 86400 * 2, "leading": 0, "stuck": 0} {
			if got := mustGauge(t, registry, "keyledger_deadlines_"+name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		<-w.log.lease
		synctest.Wait()
		if err := standby.Health(); err != nil {
			t.Errorf("written: %v", err)
		}
		if got := mustGauge(t, registry, "keyledger_deadlines_leading"); got != 1 {
			t.Errorf("leading is %v", got)
		}
		w.end("a")
		if standby.Health() == nil {
			t.Error("well, though it was stopped")
		}
	})
}

func TestRunEndsWithItsLog(t *testing.T) {
	replaced := fmt.Errorf("tail: %w", eventstore.ErrHistoryReplaced)
	worker, err := New(Config{Log: endingLog{newFakeLog(), replaced}, Lease: everybody{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Run(t.Context()); !errors.Is(err, eventstore.ErrHistoryReplaced) {
		t.Errorf("Run: %v", err)
	}
	if err := worker.Health(); !errors.Is(err, eventstore.ErrHistoryReplaced) {
		t.Errorf("Health: %v", err)
	}
}

// endingLog cannot be followed.
type endingLog struct {
	*fakeLog
	err error
}

func (l endingLog) Tail(context.Context, uint64, func(context.Context, eventstore.Batch) error) error {
	return l.err
}

func mustGauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric is called %s", name)
	return 0
}
