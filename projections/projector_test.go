package projections_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
	"github.com/keyledger/keyledger/projections/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProjectorFollows(t *testing.T) {
	log := projectionstest.NewLog(claim("acme", "key_1", 1))
	store := mustStore(t, t.TempDir())
	p, stop := mustRun(t, store, log, projections.Config{})
	mustWait(t, p, 1)
	for i := range 20 {
		log.Append(rename("acme", "key_1", fmt.Sprintf("name %d", i)))
		mustWait(t, p, uint64(i)+2)
		if k, err := store.Key(t.Context(), "key_1"); err != nil || k.Name != fmt.Sprintf("name %d", i) || k.Seq != uint64(i)+2 {
			t.Fatalf("after waiting for %d: %+v, %v", i+2, k, err)
		}
	}
	if s := p.Status(); s.Seq != 21 || s.Head != 21 || !s.CaughtUp || s.Err != nil || s.Stopped {
		t.Errorf("status: %+v", s)
	}
	if err := stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	if s := p.Status(); !s.Stopped {
		t.Errorf("status after the end: %+v", s)
	}
}

// A reader does not wait for the linger to end, and events that nobody waits for
// share a transaction.
func TestLingerEndsForReaders(t *testing.T) {
	log := projectionstest.NewLog(claim("acme", "key_1", 1))
	store := &countingStore{Store: mustStore(t, t.TempDir())}
	p, stop := mustRun(t, store, log, projections.Config{Linger: time.Hour})
	mustWait(t, p, 1)
	for i := range 50 {
		log.Append(rename("acme", "key_1", fmt.Sprintf("name %d", i)))
	}
	mustWait(t, p, 51)
	log.Append(rename("acme", "key_1", "last"))
	mustWait(t, p, 52)
	if err := stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	if n := store.writes.Load(); n > 20 {
		t.Errorf("%d transactions for 52 events", n)
	}
}

type countingStore struct {
	*sqlite.Store
	writes atomic.Int64
}

func (s *countingStore) Write(ctx context.Context, b projections.Batch) error {
	s.writes.Add(1)
	return s.Store.Write(ctx, b)
}

func TestWaitForEnds(t *testing.T) {
	p, stop := mustRun(t, mustStore(t, t.TempDir()), projectionstest.NewLog(), projections.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.WaitFor(ctx, 1); domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != projections.CodeBehind || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait until the deadline: %v", err)
	}
	waited := make(chan error)
	go func() { waited <- p.WaitFor(context.WithoutCancel(t.Context()), 1) }()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != projections.CodeStopped {
		t.Errorf("wait until the stop: %v", err)
	}
}

func TestHistoryReplaced(t *testing.T) {
	dir := t.TempDir()
	first := projectionstest.NewLog(claim("acme", "key_1", 1), rename("acme", "key_1", "new"))
	store := mustStore(t, dir)
	projectionstest.Project(t, store, first, projections.Config{})
	other := rename("acme", "key_1", "other")
	other.ID = "another event"
	for name, log := range map[string]*projectionstest.Log{
		"shorter": projectionstest.NewLog(claim("acme", "key_1", 1)),
		"empty":   projectionstest.NewLog(),
		"another": projectionstest.NewLog(claim("acme", "key_1", 1), other, rename("acme", "key_1", "third")),
	} {
		p, err := projections.New(projections.Config{Store: store, Log: log, RetryMin: time.Microsecond, RetryMax: time.Microsecond})
		if err != nil {
			t.Fatal(err)
		}
		err = p.Run(t.Context())
		alarm, ok := errors.AsType[*projections.HistoryError](err)
		if !ok || !errors.Is(err, eventstore.ErrHistoryReplaced) || alarm.Checkpoint.Seq != 2 {
			t.Errorf("%s: %v", name, err)
		}
		if s := p.Status(); !s.Stopped || !errors.Is(s.Err, eventstore.ErrHistoryReplaced) || s.Seq != 0 {
			t.Errorf("%s: status %+v", name, s)
		}
	}
	if k, err := store.Key(t.Context(), "key_1"); err != nil || k.Name != "new" {
		t.Errorf("the tables changed: %+v, %v", k, err)
	}
}

// strange is an event that the projector does not know.
type strange struct{ domain.Event }

func (strange) Type() domain.EventType { return "keyledger.strange.v1" }

func TestStopsAtUnknownEvents(t *testing.T) {
	unknown := rename("acme", "key_1", "x")
	unknown.Data = strange{}
	endpoint := rename("acme", "key_1", "x")
	endpoint.Aggregate.Kind = "endpoint"
	for name, bad := range map[string]eventstore.Event{"type": unknown, "kind": endpoint} {
		t.Run(name, func(t *testing.T) {
			log := projectionstest.NewLog(claim("acme", "key_1", 1), rename("acme", "key_1", "before"), bad, rename("acme", "key_1", "after"))
			store := mustStore(t, t.TempDir())
			p, err := projections.New(projections.Config{Store: store, Log: log})
			if err != nil {
				t.Fatal(err)
			}
			err = p.Run(t.Context())
			if e, ok := errors.AsType[*projections.EventError](err); !ok || e.Seq != 3 || e.EventID != "event-3" || !strings.Contains(err.Error(), "seq 3") {
				t.Errorf("run: %v", err)
			}
			if s := p.Status(); s.Seq != 2 || !s.Stopped || s.Err == nil {
				t.Errorf("status: %+v", s)
			}
			if cp, err := store.Checkpoint(t.Context()); err != nil || cp.Seq != 2 {
				t.Errorf("checkpoint: %+v, %v", cp, err)
			}
		})
	}
}

func TestTailErrorsStop(t *testing.T) {
	cause := &eventstore.UnknownTypeError{Seq: 2, Type: "keyledger.key.painted.v1"}
	log := &brokenTail{Log: projectionstest.NewLog(claim("acme", "key_1", 1)), err: cause}
	p, err := projections.New(projections.Config{Store: mustStore(t, t.TempDir()), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); !errors.Is(err, cause) {
		t.Errorf("run: %v", err)
	}
	if s := p.Status(); s.Seq != 1 || !s.Stopped || !errors.Is(s.Err, cause) {
		t.Errorf("status: %+v", s)
	}
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

// faulty fails in many ways and works in between.
type faulty struct {
	*sqlite.Store
	calls atomic.Int64
	// after makes Write fail after the batch was written: the answer is lost.
	after bool
}

func (s *faulty) fail() error {
	if s.calls.Add(1)%3 == 0 {
		return nil
	}
	return domain.NewError(domain.KindUnavailable, "test_fault", "not now", "")
}

func (s *faulty) Checkpoint(ctx context.Context) (projections.Checkpoint, error) {
	if err := s.fail(); err != nil {
		return projections.Checkpoint{}, err
	}
	return s.Store.Checkpoint(ctx)
}

func (s *faulty) Load(ctx context.Context, l projections.Lookup) (projections.Known, error) {
	if err := s.fail(); err != nil {
		return projections.Known{}, err
	}
	return s.Store.Load(ctx, l)
}

func (s *faulty) Write(ctx context.Context, b projections.Batch) error {
	if s.after {
		return errors.Join(s.Store.Write(ctx, b), s.fail())
	}
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.Write(ctx, b)
}

func (s *faulty) FinishBuild(ctx context.Context) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.FinishBuild(ctx)
}

// TestFaults: errors that may pass lose nothing and double nothing, even where a
// write was applied and its answer lost.
func TestFaults(t *testing.T) {
	for _, after := range [...]bool{false, true} {
		t.Run(fmt.Sprintf("after=%t", after), func(t *testing.T) {
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
			store := &faulty{Store: mustStore(t, t.TempDir()), after: after}
			cfg := projections.Config{BatchSize: 3, CacheSize: 2, RetryMin: time.Microsecond, RetryMax: time.Millisecond}
			projectionstest.Project(t, store, log, cfg)
			projectionstest.Check(t, store.Store, log.Events())
			for i := range 20 {
				log.Append(rename("acme", "key_1", fmt.Sprintf("later %d", i)))
			}
			projectionstest.Project(t, store, log, cfg)
			projectionstest.Check(t, store.Store, log.Events())
		})
	}
}

// TestUnreadyWhileFailing: while the store fails, the status says why, and the
// projector goes on by itself when it works again.
func TestUnreadyWhileFailing(t *testing.T) {
	store := &switched{Store: mustStore(t, t.TempDir())}
	log := projectionstest.NewLog(claim("acme", "key_1", 1))
	p, stop := mustRun(t, store, log, projections.Config{RetryMin: time.Microsecond, RetryMax: time.Millisecond})
	mustWait(t, p, 1)
	store.off.Store(true)
	log.Append(rename("acme", "key_1", "new"))
	for deadline := time.Now().Add(10 * time.Second); p.Status().Err == nil; time.Sleep(time.Millisecond) { //nolint:forbidigo // polls a condition with a deadline
		if time.Now().After(deadline) {
			t.Fatal("the status shows no error")
		}
	}
	if s := p.Status(); s.Seq != 1 || s.Stopped || domain.CodeOf(s.Err) != "test_fault" {
		t.Errorf("status: %+v", s)
	}
	store.off.Store(false)
	mustWait(t, p, 2)
	if s := p.Status(); s.Seq != 2 || s.Err != nil {
		t.Errorf("status: %+v", s)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

type switched struct {
	*sqlite.Store
	off atomic.Bool
}

func (s *switched) Write(ctx context.Context, b projections.Batch) error {
	if s.off.Load() {
		return domain.NewError(domain.KindUnavailable, "test_fault", "not now", "")
	}
	return s.Store.Write(ctx, b)
}

// TestSecondWriter: when something else has written the store, the projector goes
// on from where the store is.
func TestSecondWriter(t *testing.T) {
	store := mustStore(t, t.TempDir())
	log := projectionstest.NewLog(claim("acme", "key_1", 1))
	p, stop := mustRun(t, store, log, projections.Config{RetryMin: time.Microsecond})
	mustWait(t, p, 1)
	events := log.Events()
	err := store.Write(t.Context(), projections.Batch{
		From: projections.Checkpoint{Seq: 1, EventID: events[0].ID}, To: projections.Checkpoint{Seq: 2, EventID: "event-2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	log.Append(rename("acme", "key_1", "taken in by the other"), rename("acme", "key_1", "ours"))
	mustWait(t, p, 3)
	if k, err := store.Key(t.Context(), "key_1"); err != nil || k.Name != "ours" || k.Version != 2 {
		t.Errorf("key: %+v, %v", k, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
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
	var out strings.Builder
	registry := prometheus.NewRegistry()
	store := mustStore(t, t.TempDir())
	projectionstest.Project(t, store, log, projections.Config{
		BatchSize: 1, Registerer: registry, Logger: slog.New(slog.NewTextHandler(&out, nil)),
	})
	projectionstest.Check(t, store, log.Events())
	page, err := store.Audit(t.Context(), projections.AuditQuery{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint64]projections.VoidReason{
		2: projections.VoidKeyIDTaken, 3: projections.VoidKeyIDTaken, 4: projections.VoidMacTaken, 5: projections.VoidMacTaken,
		6: projections.VoidSubjectMismatch, 8: projections.VoidSubjectMismatch, 9: projections.VoidNoKey, 10: projections.VoidNoKey,
		12: projections.VoidCreatedTwice,
	}
	for _, e := range page.Entries {
		if e.Void != want[e.Seq] {
			t.Errorf("event %d: %q, want %q", e.Seq, e.Void, want[e.Seq])
		}
	}
	keys, err := store.Keys(t.Context(), projections.KeyQuery{Now: projectionstest.Start()})
	if err != nil || len(keys.Keys) != 3 {
		t.Errorf("keys: %+v, %v", keys.Keys, err)
	}
	if n := strings.Count(out.String(), "alarm: event is void"); n != len(want) {
		t.Errorf("%d alarms, want %d:\n%s", n, len(want), out.String())
	}
	if n := voidEvents(t, registry); n != len(want) {
		t.Errorf("the metric counts %d, want %d", n, len(want))
	}
}

func voidEvents(t *testing.T, registry *prometheus.Registry) int {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() == "keyledger_projections_void_events_total" {
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue()
			}
		}
	}
	return int(total)
}

func TestNewRefuses(t *testing.T) {
	if _, err := projections.New(projections.Config{}); err == nil {
		t.Error("a projector without a store")
	}
	registry := prometheus.NewRegistry()
	cfg := projections.Config{Store: &faulty{}, Log: projectionstest.NewLog(), Registerer: registry}
	if _, err := projections.New(cfg); err != nil {
		t.Error(err)
	}
	if _, err := projections.New(cfg); err == nil {
		t.Error("the same metrics twice")
	}
}

// claim makes a KeyCreated; mac tells claims of one mac from another's.
func claim(account domain.AccountID, id domain.KeyID, mac byte) eventstore.Event {
	return event(account, id, domain.KeyCreated{
		KeySpec: domain.KeySpec{
			ID: id, Account: account, Type: domain.KeyTypeAPI, Name: "a key", Environment: domain.EnvironmentLive,
			Scopes: domain.Scopes{"invoices:read"}, Mac: domain.Mac{mac}, PepperID: "pepper1", Display: "sk_live_…",
		},
		CreatedBy: "key_operator", CreatedAt: projectionstest.Start(),
	})
}

func rename(account domain.AccountID, id domain.KeyID, name string) eventstore.Event {
	return event(account, id, domain.KeyUpdated{Name: &name, UpdatedAt: projectionstest.Start()})
}

func event(account domain.AccountID, id domain.KeyID, data domain.KeyEvent) eventstore.Event {
	return eventstore.Event{Time: projectionstest.Start(), Aggregate: eventstore.KeyAggregate(account, id), Actor: "key_operator", Data: data}
}

func mustStore(t *testing.T, dir string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "keys.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// mustRun starts a projector. stop ends it and returns what Run returned.
func mustRun(t *testing.T, store projections.Store, log projections.Log, cfg projections.Config) (*projections.Projector, func() error) {
	t.Helper()
	cfg.Store, cfg.Log = store, log
	p, err := projections.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return p, func() error {
		cancel()
		return <-ended
	}
}

func mustWait(t *testing.T, p *projections.Projector, seq uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.WaitFor(ctx, seq); err != nil {
		t.Fatal(err)
	}
}
