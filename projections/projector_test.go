package projections_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProjectorFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := projectionstest.NewLog(claim("acme", "key_1", 1)), &fakeStore{}
		p, stop := mustRun(t, store, log, projections.Config{})
		mustWait(t, p, 1)
		for i := range 20 {
			log.Append(rename("acme", "key_1", fmt.Sprintf("name %d", i)))
			mustWait(t, p, uint64(i)+2)
			if k := store.key("key_1"); k.Name != fmt.Sprintf("name %d", i) || k.Seq != uint64(i)+2 {
				t.Fatalf("after waiting for %d: %+v", i+2, k)
			}
		}
		s := p.Status()
		if s.Seq != 21 || s.Head != 21 || !s.CaughtUp || s.Err != nil || s.Stopped || !s.Leading || s.Leader != "the leader" || s.Generation != 1 ||
			!s.BehindSince.IsZero() || s.Rate <= 0 {
			t.Errorf("status: %+v", s)
		}
		if s.Job.Kind != projections.JobBuild || s.Job.Phase != projections.PhaseDone || s.Job.Running() || s.Job.Seq != 1 {
			t.Errorf("job: %+v", s.Job)
		}
		if err := stop(); err != nil {
			t.Errorf("run: %v", err)
		}
		if s := p.Status(); !s.Stopped || s.Leading {
			t.Errorf("status after the end: %+v", s)
		}
		if store.leading != nil || store.building {
			t.Error("the lead or the build is still held")
		}
	})
}

// A reader does not wait for the linger to end, and events that nobody waits for
// share a transaction.
func TestLingerEndsForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writes := 0
		store := &fakeStore{fault: func(call string) error {
			if call == "lead.write" {
				writes++
			}
			return nil
		}}
		log := projectionstest.NewLog(claim("acme", "key_1", 1))
		p, _ := mustRun(t, store, log, projections.Config{Linger: time.Hour, LeadEvery: time.Hour})
		mustWait(t, p, 1)
		for i := range 50 {
			log.Append(rename("acme", "key_1", fmt.Sprintf("name %d", i)))
		}
		mustWait(t, p, 51)
		log.Append(rename("acme", "key_1", "last"))
		mustWait(t, p, 52)
		if writes > 5 {
			t.Errorf("%d transactions for 51 events", writes)
		}
	})
}

func TestWaitForEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := mustRun(t, &fakeStore{}, projectionstest.NewLog(), projections.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := p.WaitFor(ctx, 1); domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != projections.CodeBehind || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait until the deadline: %v", err)
		}
		waited := make(chan error)
		go func() { waited <- p.WaitFor(context.WithoutCancel(t.Context()), 1) }()
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != projections.CodeStopped {
			t.Errorf("wait until the stop: %v", err)
		}
	})
}

func TestHistoryReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{}
		first := projectionstest.NewLog(claim("acme", "key_1", 1), rename("acme", "key_1", "new"))
		projectionstest.Project(t, store, first, projections.Config{})
		before := *store.tables()
		other := rename("acme", "key_1", "other")
		other.ID = "another event"
		for name, log := range map[string]*projectionstest.Log{
			"shorter": projectionstest.NewLog(claim("acme", "key_1", 1)),
			"empty":   projectionstest.NewLog(),
			"another": projectionstest.NewLog(claim("acme", "key_1", 1), other, rename("acme", "key_1", "third")),
		} {
			p := mustNew(t, store, log, projections.Config{})
			_, checked := p.Check(t.Context(), ignore)
			for what, err := range map[string]error{"run": p.Run(t.Context()), "rebuild": p.Rebuild(t.Context()), "check": checked} {
				alarm, ok := errors.AsType[*projections.HistoryError](err)
				if !ok || !errors.Is(err, eventstore.ErrHistoryReplaced) || alarm.Checkpoint.Seq != 2 {
					t.Errorf("%s, %s: %v", name, what, err)
				}
			}
			if s := p.Status(); !s.Stopped || !errors.Is(s.Err, eventstore.ErrHistoryReplaced) || s.Seq != 0 {
				t.Errorf("%s: status %+v", name, s)
			}
		}
		if after := store.tables(); after.at != before.at || after.keys["key_1"].Name != "new" || len(after.audit) != 2 || store.generation != 1 {
			t.Errorf("the tables changed: %+v", after)
		}
	})
}

// strange is an event that the projector does not know.
type strange struct{ domain.Event }

func (strange) Type() domain.EventType { return "keyledger.strange.v1" }

// TestStopsAtUnknownEvents: what comes before the event is taken in, nothing is
// skipped, and no first tables are shown that end there.
func TestStopsAtUnknownEvents(t *testing.T) {
	unknown := rename("acme", "key_1", "x")
	unknown.Data = strange{}
	endpoint := rename("acme", "key_1", "x")
	endpoint.Aggregate.Kind = "endpoint"
	for name, bad := range map[string]eventstore.Event{"type": unknown, "kind": endpoint} {
		for _, live := range [...]bool{false, true} {
			t.Run(fmt.Sprintf("%s live=%t", name, live), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log, store := projectionstest.NewLog(), &fakeStore{}
					if live {
						projectionstest.Project(t, store, log, projections.Config{})
					}
					log.Append(claim("acme", "key_1", 1), rename("acme", "key_1", "before"), bad, rename("acme", "key_1", "after"))
					p := mustNew(t, store, log, projections.Config{})
					for what, err := range map[string]error{"run": p.Run(t.Context()), "rebuild": p.Rebuild(t.Context())} {
						e, ok := errors.AsType[*projections.EventError](err)
						if !ok || e.Seq != 3 || e.EventID != "event-3" || !strings.Contains(err.Error(), "seq 3") {
							t.Errorf("%s: %v", what, err)
						}
					}
					if s := p.Status(); s.Seq != 2 || !s.Stopped || s.Err == nil || s.Leading || s.Job.Phase != projections.PhaseFailed {
						t.Errorf("status: %+v", s)
					}
					err := p.WaitFor(t.Context(), 4)
					if _, ok := errors.AsType[*projections.EventError](err); !ok || domain.CodeOf(err) != projections.CodeStopped {
						t.Errorf("wait: %v", err)
					}
					if tables := store.tables(); live != (tables != nil) || live && (tables.at.Seq != 2 || tables.keys["key_1"].Name != "before") {
						t.Errorf("tables: %+v", tables)
					}
				})
			})
		}
	}
}

func TestTailErrorsStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := &eventstore.UnknownTypeError{Seq: 2, Type: "keyledger.key.painted.v1"}
		log := &brokenTail{Log: projectionstest.NewLog(), err: cause}
		store := &fakeStore{}
		projectionstest.Project(t, store, log.Log, projections.Config{})
		log.Append(claim("acme", "key_1", 1))
		p := mustNew(t, store, log, projections.Config{})
		if err := p.Run(t.Context()); !errors.Is(err, cause) {
			t.Errorf("run: %v", err)
		}
		if s := p.Status(); s.Seq != 1 || !s.Stopped || !errors.Is(s.Err, cause) {
			t.Errorf("status: %+v", s)
		}
	})
}

// brokenTail hands over the first run of events and fails.
type brokenTail struct {
	*projectionstest.Log
	err error
}

func (l *brokenTail) Tail(ctx context.Context, from uint64, handle func(context.Context, eventstore.Batch) error) error {
	return l.Log.Tail(ctx, from, func(ctx context.Context, b eventstore.Batch) error {
		return errors.Join(handle(ctx, b), l.err)
	})
}

// TestVoidClaims states the rule of claims by examples; the model of
// projectionstest states it once more.
func TestVoidClaims(t *testing.T) {
	forged := claim("acme", "key_3", 3)
	forged.Aggregate.Account = "umbrella"
	otherID := claim("acme", "key_4", 4)
	otherID.Aggregate.ID = "key_5"
	log := projectionstest.NewLog(
		claim("acme", "key_1", 1),
		claim("umbrella", "key_1", 2),   // 2: the id is acme's
		rename("umbrella", "key_1", ""), // 3: and stays so
		claim("umbrella", "key_2", 1),   // 4: the mac is key_1's
		claim("umbrella", "key_2", 9),   // 5: the aggregate is void for good
		forged,                          // 6: the body says acme, the subject umbrella
		claim("acme", "key_3", 3),       // 7: so the forgery took nothing
		otherID,                         // 8: the body names another key
		rename("acme", "key_6", ""),     // 9: no such key
		claim("acme", "key_6", 6),       // 10: nor will there be one of that account
		claim("default", "key_6", 6),    // 11: another account may have it
		claim("acme", "key_1", 7),       // 12: created twice
		rename("acme", "key_1", "ours"), // 13: the first goes on
	)
	want := map[uint64]projections.VoidReason{
		2: projections.VoidKeyIDTaken, 3: projections.VoidKeyIDTaken, 4: projections.VoidMacTaken, 5: projections.VoidMacTaken,
		6: projections.VoidSubjectMismatch, 8: projections.VoidSubjectMismatch, 9: projections.VoidNoKey, 10: projections.VoidNoKey,
		12: projections.VoidCreatedTwice,
	}
	var out syncBuilder
	registry := prometheus.NewRegistry()
	store := &fakeStore{}
	p, stop := mustRun(t, store, log, projections.Config{BatchSize: 1, Registerer: registry, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	mustWait(t, p, 13)
	// The alarm was raised: it is not once more when the events are only read again.
	if err := p.Rebuild(t.Context()); err != nil {
		t.Error(err)
	}
	if result, err := p.Check(t.Context(), ignore); err != nil || result.Differences != 0 {
		t.Errorf("check: %+v, %v", result, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, e := range store.tables().audit {
		if e.Void != want[e.Seq] {
			t.Errorf("event %d: %q, want %q", e.Seq, e.Void, want[e.Seq])
		}
	}
	if keys := store.tables().keys; len(keys) != 3 || keys["key_1"].Name != "ours" || keys["key_6"].Account != "default" {
		t.Errorf("keys: %+v", keys)
	}
	if n := strings.Count(out.String(), "alarm: event is void"); n != len(want) {
		t.Errorf("%d alarms, want %d:\n%s", n, len(want), out.String())
	}
	if n := metric(t, registry, "void_events_total"); n != float64(len(want)) {
		t.Errorf("the metric counts %v, want %d", n, len(want))
	}
	if n := metric(t, registry, "events_total"); n != 13 {
		t.Errorf("the metric counts %v events, want 13", n)
	}
}

type syncBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuilder) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(text)
}

func (s *syncBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestNewRefuses(t *testing.T) {
	if _, err := projections.New(projections.Config{}); err == nil {
		t.Error("a projector without a store")
	}
	cfg := projections.Config{Store: &fakeStore{}, Log: projectionstest.NewLog(), Registerer: prometheus.NewRegistry()}
	if _, err := projections.New(cfg); err != nil {
		t.Error(err)
	}
	if _, err := projections.New(cfg); err == nil {
		t.Error("the same metrics twice")
	}
}
