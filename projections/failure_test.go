package projections_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// TestFaults: errors that may pass lose nothing and double nothing, even where a
// write or a swap was done and its answer lost.
func TestFaults(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 0))
				log := projectionstest.NewLog()
				log.RunSize = 3
				for i := range 40 {
					id := domain.KeyID(fmt.Sprintf("key_%d", i/4))
					if i%4 == 0 {
						log.Append(claim("acme", id, byte(i+1)))
					} else {
						log.Append(rename("acme", id, fmt.Sprintf("name %d", i)))
					}
				}
				store, want := &fakeStore{}, &fakeStore{}
				store.fault = func(call string) error {
					often := 30 // a build begins again after each
					if strings.HasPrefix(call, "lead") {
						often = 4
					}
					if random.IntN(often) > 0 {
						return nil
					}
					return errAway()
				}
				cfg := projections.Config{BatchSize: 7, CacheSize: 2, RetryMax: time.Second}
				mustProject(t, store, log, cfg)
				for i := range 20 {
					log.Append(rename("acme", "key_1", fmt.Sprintf("later %d", i)))
				}
				mustProject(t, store, log, cfg)
				store.fault = nil
				mustProject(t, want, log, cfg)
				if got, want := store.tables(), want.tables(); !reflect.DeepEqual(got, want) {
					t.Errorf("%+v\nwant %+v", got, want)
				}
			})
		})
	}
}

// mustProject brings the store level with the log, however often something is away.
func mustProject(t *testing.T, store projections.Store, log *projectionstest.Log, cfg projections.Config) {
	t.Helper()
	p, stop := mustRun(t, store, log, cfg)
	head := uint64(len(log.Events()))
	for p.WaitFor(t.Context(), head) != nil {
		if p.Status().Stopped {
			t.Fatalf("stopped: %v", p.Status().Err)
		}
		pass(time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestStoreAway: while the store is away the status and the metrics say so and the
// lag grows, readers who wait are told at once, and the projector goes on by itself
// when it is back.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		store := &fakeStore{fault: func(string) error {
			if away.Load() {
				return errAway()
			}
			return nil
		}}
		log, registry := projectionstest.NewLog(claim("acme", "key_1", 1)), prometheus.NewRegistry()
		p, stop := mustRun(t, store, log, projections.Config{Registerer: registry})
		mustWait(t, p, 1)
		if lag := metric(t, registry, "lag_seconds") + metric(t, registry, "lag_events"); lag != 0 || metric(t, registry, "leading") != 1 {
			t.Errorf("lag %v when level", lag)
		}

		away.Store(true)
		log.Append(rename("acme", "key_1", "new"))
		began := time.Now()
		if err := p.WaitFor(t.Context(), 2); domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != projections.CodeUnavailable {
			t.Errorf("wait: %v", err)
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("told after %v", took)
		}
		began = time.Now()
		if err := p.WaitFor(t.Context(), 2); domain.CodeOf(err) != projections.CodeUnavailable || time.Since(began) > 0 {
			t.Errorf("wait again: %v after %v", err, time.Since(began))
		}
		mustWait(t, p, 1) // what was read before is there, as far as the projector knows
		log.Append(rename("acme", "key_1", "newer"), rename("acme", "key_1", "newest"))
		pass(10 * time.Second)
		if s := p.Status(); s.Seq != 1 || s.Head != 4 || s.Stopped || s.Leading || s.BehindSince.IsZero() || domain.CodeOf(s.Err) != projections.CodeUnavailable {
			t.Errorf("status: %+v", s)
		}
		if events, seconds := metric(t, registry, "lag_events"), metric(t, registry, "lag_seconds"); events != 3 || seconds < 9 || seconds > 12 {
			t.Errorf("lag of %v events, %v s", events, seconds)
		}
		if metric(t, registry, "leading") != 0 || metric(t, registry, "retries_total") < 3 {
			t.Error("leading, or no retries")
		}

		away.Store(false)
		pass(6 * time.Second) // the longest wait between tries is 5 s
		mustWait(t, p, 4)
		if s := p.Status(); s.Seq != 4 || s.Err != nil || !s.BehindSince.IsZero() || !s.Leading {
			t.Errorf("status when it is back: %+v", s)
		}
		if metric(t, registry, "lag_seconds") != 0 || metric(t, registry, "batch_events") == 0 || metric(t, registry, "apply_seconds") == 0 {
			t.Error("metrics when it is back")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestHiccup: who waits does not hear of a single failure.
func TestHiccup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Bool
		store := &fakeStore{fault: func(call string) error {
			if call == "lead.write" && fail.CompareAndSwap(true, false) {
				return errAway()
			}
			return nil
		}}
		log := projectionstest.NewLog(claim("acme", "key_1", 1))
		p, _ := mustRun(t, store, log, projections.Config{})
		mustWait(t, p, 1)
		fail.Store(true)
		log.Append(rename("acme", "key_1", "new"))
		mustWait(t, p, 2)
		if fail.Load() || p.Status().Err != nil {
			t.Errorf("failed: %t, status %+v", !fail.Load(), p.Status())
		}
	})
}

// TestReadableButNotWritable: a store that can be read and not written to does not
// look well in between.
func TestReadableButNotWritable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		store := &fakeStore{fault: func(call string) error {
			if call == "lead.write" && full.Load() {
				return errAway()
			}
			return nil
		}}
		log := projectionstest.NewLog(claim("acme", "key_1", 1))
		p, _ := mustRun(t, store, log, projections.Config{})
		mustWait(t, p, 1)
		full.Store(true)
		log.Append(rename("acme", "key_1", "new"))
		if err := p.WaitFor(t.Context(), 2); domain.CodeOf(err) != projections.CodeUnavailable {
			t.Fatal(err)
		}
		for range 1000 {
			if p.Status().Err == nil {
				t.Fatal("it looked well")
			}
			pass(10 * time.Millisecond)
		}
	})
}

func TestBrokenStoreStops(t *testing.T) {
	for _, call := range [...]string{"lead", "lead.checkpoint", "lead.load", "lead.write", "state", "build", "build.write", "complete", "swap"} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cause := errors.New("the schema is not ours")
				store := &fakeStore{fault: func(called string) error {
					if called == call {
						return cause
					}
					return nil
				}}
				log := projectionstest.NewLog(claim("acme", "key_1", 1))
				store.at = func(called string) {
					if called == "swap" { // so that there is something for the leader to write
						log.Append(rename("acme", "key_1", "new"))
					}
				}
				p := mustNew(t, store, log, projections.Config{})
				if err := p.Run(t.Context()); !errors.Is(err, cause) {
					t.Errorf("run: %v", err)
				}
				if s := p.Status(); !s.Stopped || !errors.Is(s.Err, cause) {
					t.Errorf("status: %+v", s)
				}
				if store.leading != nil || store.building {
					t.Error("the lead or the build is still held")
				}
			})
		})
	}
}

// TestTakeover: while one process leads another follows, and takes over when the
// first is cut off or ends; events take effect once.
func TestTakeover(t *testing.T) {
	for _, cut := range [...]bool{false, true} {
		t.Run(fmt.Sprintf("cut=%t", cut), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, store := projectionstest.NewLog(claim("acme", "key_1", 1)), &fakeStore{}
				first, stopFirst := mustRun(t, store, log, projections.Config{})
				mustWait(t, first, 1)
				second, _ := mustRun(t, store, log, projections.Config{})
				if err := second.WaitCaughtUp(t.Context()); err != nil {
					t.Fatal(err)
				}
				if s := second.Status(); s.Leading || s.Leader != "the leader" || s.Generation != 1 || s.Seq != 1 || s.Err != nil {
					t.Errorf("status of the second: %+v", s)
				}
				log.Append(rename("acme", "key_1", "second"))
				mustWait(t, first, 2)
				began := time.Now()
				mustWait(t, second, 2)
				if took := time.Since(began); took > 10*time.Millisecond {
					t.Errorf("the follower saw it after %v", took)
				}

				began = time.Now()
				if cut { // the first goes on, and does not know yet
					store.depose()
				} else if err := stopFirst(); err != nil {
					t.Fatal(err)
				}
				for !second.Status().Leading {
					pass(10 * time.Millisecond)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("taken over after %v", took)
				}
				log.Append(rename("acme", "key_1", "third"))
				mustWait(t, second, 3)
				if cut {
					mustWait(t, first, 3)
					pass(time.Second)
					if s := first.Status(); s.Leading || s.Err != nil || s.Seq != 3 {
						t.Errorf("status of the first: %+v", s)
					}
				}
				if tables := store.tables(); len(tables.audit) != 3 || tables.keys["key_1"].Name != "third" {
					t.Errorf("tables: %+v", tables)
				}
			})
		})
	}
}

// TestFollowersAskSeldom: a follower polls often only while somebody waits.
func TestFollowersAskSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		log, store := projectionstest.NewLog(claim("acme", "key_1", 1)), &fakeStore{}
		projectionstest.Project(t, store, log, projections.Config{})
		if _, err := store.Lead(t.Context()); err != nil { // of someone who does nothing
			t.Fatal(err)
		}
		store.fault = func(string) error {
			asked.Add(1)
			return nil
		}
		p, stop := mustRun(t, store, log, projections.Config{})
		pass(100 * time.Second)
		if n := asked.Swap(0); n > 1000 { // asks for the lead and for the state, each with its answer
			t.Errorf("asked %d times in 100 s", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.WaitFor(ctx, 2); domain.CodeOf(err) != projections.CodeBehind || !strings.Contains(err.Error(), "seq 2") {
			t.Error(err)
		}
		if n := asked.Load(); n < 300 || n > 500 {
			t.Errorf("asked %d times in the second when somebody waited", n)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// pass lets time pass on the bubble's clock.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // no time passes but the bubble's
	synctest.Wait()
}
