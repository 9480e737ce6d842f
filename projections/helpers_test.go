package projections_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// metric sums up the samples of one metric of the projector.
func metric(t *testing.T, registry *prometheus.Registry, name string) (total float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range families {
		if f.GetName() != "keyledger_projections_"+name {
			continue
		}
		found = true
		for _, m := range f.GetMetric() {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	if !found {
		t.Fatalf("no metric %s", name)
	}
	return total
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

func ignore(projections.Difference) error { return nil }

func mustNew(t *testing.T, store projections.Store, log projections.Log, cfg projections.Config) *projections.Projector {
	t.Helper()
	cfg.Store, cfg.Log = store, log
	p, err := projections.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mustRun starts a projector, which ends with the test. stop ends it before, and
// returns what Run returned.
func mustRun(t *testing.T, store projections.Store, log projections.Log, cfg projections.Config) (p *projections.Projector, stop func() error) {
	t.Helper()
	p = mustNew(t, store, log, cfg)
	return p, run(t, p)
}

// run is [mustRun] for a projector that is made.
func run(t *testing.T, p *projections.Projector) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() }) // who wants to know what Run returned has stopped it
	return stop
}

func mustWait(t *testing.T, p *projections.Projector, seq uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.WaitFor(ctx, seq); err != nil {
		t.Fatal(err)
	}
}
