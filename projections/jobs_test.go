package projections_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// TestRebuildWhileEventsComeIn: the live tables move all the time, and are ahead of
// the new ones at the first swaps. The leader goes on in the new tables, from their
// rows and not from what it remembers of the old ones, and no error shows.
func TestRebuildWhileEventsComeIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := projectionstest.NewLog(claim("acme", "key_1", 1), claim("acme", "key_2", 2)), &fakeStore{}
		var p *projections.Projector
		phases := map[projections.JobPhase]bool{}
		grow := func() {
			log.Append(rename("acme", "key_1", fmt.Sprintf("name %d", len(log.Events()))))
			mustWait(t, p, uint64(len(log.Events())))
			s := p.Status()
			phases[s.Job.Phase] = true
			if s.Err != nil || s.Job.Kind != projections.JobRebuild || !s.Job.Running() || s.Job.Target != s.Head {
				t.Errorf("status: %+v", s)
			}
		}
		swaps := 0
		store.fault = func(call string) error {
			if call == "swap" && p.Status().Generation == 1 {
				if swaps++; swaps < 5 {
					grow()
				}
			}
			return nil
		}
		store.at = func(call string) {
			if (call == "complete" || call == "build.write" && len(log.Events()) < 10) && p.Status().Generation == 1 {
				grow()
			}
		}
		p = mustNew(t, store, log, projections.Config{})
		stop := run(t, p)
		mustWait(t, p, 2)
		log.Append(rename("acme", "key_2", "right"))
		mustWait(t, p, 3)
		store.edit("key_2", "wrong")

		if err := p.Rebuild(t.Context()); err != nil {
			t.Fatal(err)
		}
		if swaps < 5 || !phases[projections.PhaseReading] || !phases[projections.PhaseIndexing] || !phases[projections.PhaseCatchingUp] {
			t.Errorf("%d swaps, phases %v", swaps, phases)
		}
		if name := store.key("key_2").Name; name != "right" {
			t.Errorf("the row is %q", name)
		}
		description := "what it is for"
		log.Append(event("acme", "key_2", domain.KeyUpdated{Description: &description, UpdatedAt: projectionstest.Start()}))
		head := uint64(len(log.Events()))
		mustWait(t, p, head)
		if k := store.key("key_2"); k.Name != "right" || k.Description != description {
			t.Errorf("the row after another event: %+v", k)
		}
		s := p.Status()
		if s.Err != nil || s.Generation != 2 || !s.Leading || s.Seq != head || s.Job.Phase != projections.PhaseDone || s.Job.Ended.IsZero() {
			t.Errorf("status: %+v", s)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := projectionstest.NewLog(), &fakeStore{}
		for i := range 10 {
			log.Append(claim("acme", domain.KeyID(fmt.Sprintf("key_%d", i)), byte(i)))
		}
		p, _ := mustRun(t, store, log, projections.Config{})
		mustWait(t, p, 10)
		check := func(after uint64) []projections.Difference {
			t.Helper()
			var found []projections.Difference
			result, err := p.Check(t.Context(), func(d projections.Difference) error {
				found = append(found, d)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if result.Differences != len(found) || result.Rows != 10 || result.At.Seq != after || result.At.EventID != fmt.Sprintf("event-%d", after) {
				t.Errorf("result: %+v, %d found", result, len(found))
			}
			if job := p.Status().Job; job.Kind != projections.JobCheck || job.Phase != projections.PhaseDone || job.Differences != len(found) || job.Table != "keys" {
				t.Errorf("job: %+v", job)
			}
			return found
		}
		if found := check(10); found != nil {
			t.Errorf("differences: %+v", found)
		}
		store.edit("key_3", "wrong")
		want := projections.Difference{Table: "keys", Row: "key_3", Column: "name", Want: "a key", Got: "wrong"}
		if found := check(10); len(found) != 1 || found[0] != want {
			t.Errorf("differences: %+v", found)
		}

		// The live tables are ahead of the new ones.
		store.fault = func(call string) error {
			if call == "compare" {
				log.Append(rename("acme", "key_4", "new"), rename("acme", "key_4", "newer"))
				mustWait(t, p, 12)
				log.Append(rename("acme", "key_4", "after the view"))
			}
			return nil
		}
		if found := check(12); len(found) != 1 || found[0] != want {
			t.Errorf("differences: %+v", found)
		}
		store.fault = nil
		mustWait(t, p, 13)

		// A report that has enough ends it.
		enough := errors.New("enough")
		if _, err := p.Check(t.Context(), func(projections.Difference) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("check: %v", err)
		}
		if job := p.Status().Job; job.Phase != projections.PhaseFailed || !errors.Is(job.Err, enough) {
			t.Errorf("job: %+v", job)
		}
	})
}

// TestCheckWaitsForTheLiveTables: they linger, or their leader is slow.
func TestCheckWaitsForTheLiveTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := projectionstest.NewLog(claim("acme", "key_1", 1)), &fakeStore{}
		p, _ := mustRun(t, store, log, projections.Config{Linger: time.Hour, LeadEvery: 24 * time.Hour})
		mustWait(t, p, 1)
		log.Append(rename("acme", "key_1", "lingers")) // ends the linger of the first write, which was none
		mustWait(t, p, 2)
		log.Append(rename("acme", "key_1", "lingers on"))
		began := time.Now()
		result, err := p.Check(t.Context(), ignore)
		if err != nil || result.At.Seq != 3 || time.Since(began) > time.Second {
			t.Errorf("check: %+v, %v after %v", result, err, time.Since(began))
		}
	})
}

// TestCheckOfAnotherHistory: the live tables hold another event than the log where
// the view ends.
func TestCheckOfAnotherHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{}
		log := projectionstest.NewLog(claim("acme", "key_1", 1), rename("acme", "key_1", "b"))
		projectionstest.Project(t, store, log, projections.Config{})
		store.fault = func(call string) error {
			if call == "compare" {
				store.live.at.EventID = "another event"
			}
			return nil
		}
		_, err := mustNew(t, store, log, projections.Config{}).Check(t.Context(), ignore)
		if alarm, ok := errors.AsType[*projections.HistoryError](err); !ok || alarm.FoundID != "event-2" || !errors.Is(err, eventstore.ErrHistoryReplaced) {
			t.Errorf("check: %v", err)
		}
	})
}

// TestOneJobAtATime: in a process, and among those that share a store.
func TestOneJobAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := projectionstest.NewLog(claim("acme", "key_1", 1)), &fakeStore{}
		stands, goOn := make(chan struct{}), make(chan struct{})
		var armed atomic.Bool // once the first build is over
		store.at = func(call string) {
			if call == "complete" && armed.Load() {
				close(stands)
				<-goOn
			}
		}
		p, _ := mustRun(t, store, log, projections.Config{})
		mustWait(t, p, 1)
		other, _ := mustRun(t, store, log, projections.Config{})
		armed.Store(true)
		rebuilt := make(chan error)
		go func() { rebuilt <- p.Rebuild(t.Context()) }()
		<-stands
		_, checked := p.Check(t.Context(), ignore)
		for what, err := range map[string]error{
			"rebuild": p.Rebuild(t.Context()), "check": checked, "another process": other.Rebuild(t.Context()),
		} {
			if domain.KindOf(err) != domain.KindConflict || domain.CodeOf(err) != projections.CodeBuildRunning {
				t.Errorf("%s: %v", what, err)
			}
		}
		if job := p.Status().Job; job.Kind != projections.JobRebuild || !job.Running() || job.Phase != projections.PhaseIndexing {
			t.Errorf("job: %+v", job)
		}
		close(goOn)
		if err := <-rebuilt; err != nil {
			t.Error(err)
		}
		store.at = nil
		if err := other.Rebuild(t.Context()); err != nil {
			t.Error(err)
		}
		if store.generation != 3 {
			t.Errorf("generation %d", store.generation)
		}
	})
}

// TestFirstBuildWaitsForAnothers: tables that another process is building are used.
func TestFirstBuildWaitsForAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := projectionstest.NewLog(claim("acme", "key_1", 1)), &fakeStore{}
		store.building = true
		p, _ := mustRun(t, store, log, projections.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.WaitFor(ctx, 1); domain.CodeOf(err) != projections.CodeBehind {
			t.Errorf("wait: %v", err)
		}
		if s := p.Status(); domain.CodeOf(s.Err) != projections.CodeBuildRunning || s.Stopped {
			t.Errorf("status: %+v", s)
		}
		store.mu.Lock()
		store.building = false
		store.mu.Unlock()
		mustWait(t, p, 1)
	})
}

// TestFailedRebuild: a build whose store fails is of no use, and is removed; the live
// tables and who leads in them go on.
func TestFailedRebuild(t *testing.T) {
	for _, call := range [...]string{"build.write", "complete", "swap", "build"} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, store := projectionstest.NewLog(claim("acme", "key_1", 1)), &fakeStore{}
				p, _ := mustRun(t, store, log, projections.Config{})
				mustWait(t, p, 1)
				store.fault = func(called string) error {
					if called == call {
						return errAway()
					}
					return nil
				}
				if err := p.Rebuild(t.Context()); domain.CodeOf(err) != projections.CodeUnavailable {
					t.Errorf("rebuild: %v", err)
				}
				log.Append(rename("acme", "key_1", "new"))
				mustWait(t, p, 2)
				if s := p.Status(); s.Err != nil || s.Generation != 1 || s.Job.Phase != projections.PhaseFailed || store.building {
					t.Errorf("status: %+v", s)
				}
			})
		})
	}
}

// TestCancelledRebuild leaves nothing behind.
func TestCancelledRebuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := projectionstest.NewLog(claim("acme", "key_1", 1)), &fakeStore{}
		p, _ := mustRun(t, store, log, projections.Config{})
		mustWait(t, p, 1)
		ctx, cancel := context.WithCancel(t.Context())
		store.at = func(call string) {
			if call == "build.write" {
				cancel()
			}
		}
		store.fault = func(call string) error {
			if call == "complete" {
				return ctx.Err()
			}
			return nil
		}
		if err := p.Rebuild(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("rebuild: %v", err)
		}
		if store.building || store.generation != 1 {
			t.Error("the build is left behind, or was swapped in")
		}
	})
}

// TestTablesGone: tables that are dropped under a running projector are built anew.
func TestTablesGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := projectionstest.NewLog(claim("acme", "key_1", 1)), &fakeStore{}
		p, _ := mustRun(t, store, log, projections.Config{})
		mustWait(t, p, 1)
		store.mu.Lock()
		store.live = nil
		store.mu.Unlock()
		log.Append(rename("acme", "key_1", "new"))
		mustWait(t, p, 2)
		if name := store.key("key_1").Name; name != "new" || store.generation != 2 {
			t.Errorf("%q, generation %d", name, store.generation)
		}
		if s := p.Status(); s.Err != nil || s.Generation != 2 {
			t.Errorf("status: %+v", s)
		}
	})
}

func TestCheckWithoutTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustNew(t, &fakeStore{}, projectionstest.NewLog(), projections.Config{})
		if _, err := p.Check(t.Context(), ignore); domain.CodeOf(err) != projections.CodeBuilding {
			t.Errorf("check: %v", err)
		}
	})
}
