package verify_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/verify"
)

func TestStaleUntilCaughtUpAndAfterTheFeed(t *testing.T) {
	f := newFixture(t, nil)
	feed := MustRun(t, f.Verifier)
	spec, token := f.spec(t, nil)
	must(t, feed.send(eventstore.Batch{Events: []eventstore.Event{f.event(spec.ID, domain.KeyCreated{KeySpec: spec})}}))
	got := f.Verify(token, verify.Requirement{})
	expect(t, got, verify.CodeStale)
	if f.Ready() || f.AsOf() != 1 || got.AsOfSeq != 1 {
		t.Errorf("ready %v, as of %d, answer as of %d", f.Ready(), f.AsOf(), got.AsOfSeq)
	}
	must(t, feed.send(eventstore.Batch{CaughtUp: true}))
	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeValid)
	must(t, feed.send(eventstore.Batch{Events: []eventstore.Event{f.event(spec.ID, domain.KeyLeaked{LeakedAt: start})}}))
	if !f.Ready() {
		t.Error("one batch behind is not ready any more")
	}

	broken := errors.New("history was replaced")
	feed.end <- broken
	if err := <-feed.ran; !errors.Is(err, broken) {
		t.Errorf("Run: %v, want %v in it", err, broken)
	}
	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeStale)

	again := &feedOnce{batch: eventstore.Batch{CaughtUp: true}}
	if err := f.Run(t.Context(), again); err == nil || again.from != 3 {
		t.Errorf("the second Run began at %d and returned %v", again.from, err)
	}
	if f.Ready() {
		t.Error("ready after a feed that ended without an error")
	}
}

// feedOnce is a log that gives one batch and then stops, as no log should.
type feedOnce struct {
	from  uint64
	batch eventstore.Batch
}

func (f *feedOnce) Tail(ctx context.Context, from uint64, handle func(context.Context, eventstore.Batch) error) error {
	f.from = from
	return handle(ctx, f.batch)
}

func TestRunEndsWithItsContext(t *testing.T) {
	f := newFixture(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	feed := &feed{from: make(chan uint64, 1)}
	go func() { ran <- f.Run(ctx, feed) }()
	<-feed.from
	cancel()
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := f.WaitFor(t.Context(), 1); domain.KindOf(err) != domain.KindUnavailable {
		t.Errorf("WaitFor after the feed: %v", err)
	}
}

func TestWaitFor(t *testing.T) {
	f := newFixture(t, nil)
	must(t, f.WaitFor(t.Context(), 0))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.WaitFor(canceled, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitFor with a context that has ended: %v", err)
	}

	const waiters = 20
	done := make(chan error, waiters)
	for i := range waiters {
		go func() { done <- f.WaitFor(t.Context(), uint64(1+i%2)) }()
	}
	id, _ := f.create(t, nil)
	f.apply(t, id, domain.KeyRevoked{RevokedAt: start})
	for range waiters {
		must(t, <-done)
	}

	feed := MustRun(t, f.Verifier)
	go func() { done <- f.WaitFor(t.Context(), 3) }()
	feed.end <- errors.New("gone")
	if err := <-done; domain.KindOf(err) != domain.KindUnavailable {
		t.Errorf("WaitFor while the feed ends: %v", err)
	}
}

func TestMissingPepper(t *testing.T) {
	f := newFixture(t, nil)
	other := func(s *domain.KeySpec) { s.PepperID = "p0" }
	revoked, _ := f.create(t, other)
	expiring, _ := f.create(t, func(s *domain.KeySpec) { s.PepperID, s.ExpiresAt = "p0", start.Add(time.Hour) })
	needed, _ := f.create(t, other)

	check := func(wantSeq uint64, wantKey domain.KeyID) {
		t.Helper()
		feed := MustRun(t, f.Verifier)
		err := feed.send(eventstore.Batch{CaughtUp: true})
		var missing *verify.MissingPepperError
		if ran := <-feed.ran; !errors.As(ran, &missing) || !errors.Is(ran, err) {
			t.Fatalf("Run: %v", ran)
		}
		if missing.PepperID != "p0" || missing.Seq != wantSeq || missing.KeyID != wantKey || !strings.Contains(missing.Error(), `"p0"`) {
			t.Errorf("%v; want seq %d and key %s", missing, wantSeq, wantKey)
		}
		if f.Ready() {
			t.Error("ready without the pepper")
		}
	}
	check(1, revoked)
	f.apply(t, revoked, domain.KeyRevoked{RevokedAt: start})
	check(2, expiring)
	f.advance(time.Hour)
	check(3, needed)
	f.apply(t, needed, domain.KeyRevoked{RevokedAt: start})

	feed := MustRun(t, f.Verifier)
	must(t, feed.send(eventstore.Batch{CaughtUp: true}))
	late, _ := f.spec(t, other)
	if err := feed.send(eventstore.Batch{Events: []eventstore.Event{f.event(late.ID, domain.KeyCreated{KeySpec: late})}}); err == nil {
		t.Error("a key with a pepper that is missing passed while running")
	}
	if err := <-feed.ran; err == nil || f.Ready() {
		t.Errorf("Run: %v, ready %v", err, f.Ready())
	}
}

func TestSeveralPeppers(t *testing.T) {
	f := newReady(t, func(c *verify.Config) { c.Peppers = append([]domain.Pepper{MustPepper(t, "p0")}, c.Peppers...) })
	_, token := f.create(t, nil)
	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeValid)
	old, oldToken := f.spec(t, func(s *domain.KeySpec) { s.PepperID = "p0" })
	p0 := MustPepper(t, "p0")
	old.Mac = p0.Mac(sha256Of(oldToken))
	f.apply(t, old.ID, domain.KeyCreated{KeySpec: old})
	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeValid)
	expect(t, f.Verify(oldToken, verify.Requirement{}), verify.CodeValid)
}

func TestNewRefuses(t *testing.T) {
	p := MustPepper(t, "p1")
	for name, cfg := range map[string]verify.Config{
		"no pepper":      {Now: time.Now},
		"no clock":       {Peppers: []domain.Pepper{p}},
		"a pepper twice": {Now: time.Now, Peppers: []domain.Pepper{p, p}},
		"metrics a second time": {Now: time.Now, Peppers: []domain.Pepper{p}, Registerer: func() prometheus.Registerer {
			r := prometheus.NewRegistry()
			if _, err := verify.New(verify.Config{Now: time.Now, Peppers: []domain.Pepper{p}, Registerer: r}); err != nil {
				t.Fatal(err)
			}
			return r
		}()},
	} {
		if v, err := verify.New(cfg); err == nil || v != nil {
			t.Errorf("%s: New returned %v, %v", name, v, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	f := newReady(t, func(c *verify.Config) { c.Registerer = registry })
	id, token := f.create(t, nil)
	f.Verify(token, verify.Requirement{})
	f.Verify("", verify.Requirement{})
	f.Authenticate(token)
	f.apply(t, id, domain.KeyCreated{})
	families, err := registry.Gather()
	must(t, err)
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			if value := m.GetCounter().GetValue() + m.GetGauge().GetValue(); value != 0 {
				got[name] = value
			}
		}
	}
	want := map[string]float64{
		"keyledger_verify_as_of_seq": 2, "keyledger_verify_keys": 1, "keyledger_verify_ready": 1, "keyledger_verify_void_events_total": 1,
		"keyledger_verify_checks_total VALID api": 1, "keyledger_verify_checks_total MISSING api": 1,
		"keyledger_verify_checks_total UNKNOWN management": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("metrics %v, want %v", got, want)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
