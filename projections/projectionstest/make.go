package projectionstest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
)

// open opens a store at a new place, for the length of the test.
func (s Suite) open(t *testing.T) (store Store, place string) {
	t.Helper()
	place = s.NewPlace(t)
	return s.mustOpen(t, place), place
}

func (s Suite) mustOpen(t *testing.T, place string) Store {
	t.Helper()
	store := s.Open(t, place)
	t.Cleanup(func() { mustClose(t, store) })
	return store
}

func mustClose(t *testing.T, store Store) {
	t.Helper()
	if err := store.Close(); err != nil {
		t.Errorf("close the store: %v", err)
	}
}

func mustState(t *testing.T, store Store) projections.State {
	t.Helper()
	state, err := store.State(t.Context())
	if err != nil {
		t.Fatalf("state: %v", err)
	}
	return state
}

func mustCheckpoint(t *testing.T, w projections.Writer) projections.Checkpoint {
	t.Helper()
	cp, err := w.Checkpoint(t.Context())
	if err != nil {
		t.Fatalf("checkpoint: %v", err)
	}
	return cp
}

// mustLead leads for the length of the test.
func mustLead(t *testing.T, store Store) projections.Lead {
	t.Helper()
	lead, err := store.Lead(t.Context())
	if err != nil {
		t.Fatalf("lead: %v", err)
	}
	t.Cleanup(func() { _ = lead.Close(ctx()) }) // a test may have closed it, or the store
	return lead
}

// mustBuild begins a build, and discards it at the end of the test.
func mustBuild(t *testing.T, store Store) projections.Build {
	t.Helper()
	build, err := store.Build(t.Context())
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	t.Cleanup(func() { _ = build.Discard(ctx()) })
	return build
}

func mustWrite(t *testing.T, w projections.Writer, b projections.Batch) projections.Checkpoint {
	t.Helper()
	if err := w.Write(t.Context(), b); err != nil {
		t.Fatalf("write a batch from %+v: %v", b.From, err)
	}
	return b.To
}

// mustSwap completes a build and puts it in the place of the live tables.
func mustSwap(t *testing.T, build projections.Build) {
	t.Helper()
	if err := build.Complete(t.Context()); err != nil {
		t.Fatalf("complete the build: %v", err)
	}
	if err := build.Swap(t.Context()); err != nil {
		t.Fatalf("swap: %v", err)
	}
	mustDiscard(t, build)
}

func mustDiscard(t *testing.T, build projections.Build) {
	t.Helper()
	if err := build.Discard(t.Context()); err != nil {
		t.Fatalf("discard the build: %v", err)
	}
}

// mustReplace builds tables of the batches in the place of the live ones.
func mustReplace(t *testing.T, store Store, batches ...projections.Batch) {
	t.Helper()
	build := mustBuild(t, store)
	for _, b := range batches {
		mustWrite(t, build, b)
	}
	mustSwap(t, build)
}

// names returns the names of all keys, oldest first.
func names(t *testing.T, store Store) []string {
	t.Helper()
	page, err := store.Keys(t.Context(), projections.KeyQuery{Now: Start(), Sort: projections.SortOldest, PageSize: projections.MaxPageSize})
	if err != nil {
		t.Fatalf("keys: %v", err)
	}
	var list []string
	for _, k := range page.Keys {
		list = append(list, k.Name)
	}
	return list
}

// ctx is for helpers that serve *rapid.T too, which has no context to inherit, and
// for what is done after a test.
func ctx() context.Context { return context.Background() }

// claims makes a batch of n claims of keys with a name. Event and key n are those
// of seq n.
func claims(from projections.Checkpoint, n int, name string) projections.Batch {
	b := projections.Batch{From: from, To: from}
	for range n {
		seq := b.To.Seq + 1
		e := created(int(seq), "acme")
		data, _ := e.Data.(domain.KeyCreated)
		data.Name = name
		record := projections.KeyRecord{Key: projections.Normalize(domain.Evolve(domain.Key{}, data)), Seq: seq, CreatedSeq: seq}
		b.To = projections.Checkpoint{Seq: seq, EventID: fmt.Sprintf("event-%d", seq), Clock: Start()}
		b.Versions = append(b.Versions, projections.KeyVersion{KeyRecord: record})
		b.Audit = append(b.Audit, projections.AuditEntry{
			Seq: seq, Time: Start(), Clock: Start(), Account: "acme", Actor: e.Actor, Action: projections.ActionKeyCreated,
			Subject: string(record.ID), EventID: b.To.EventID,
		})
		b.Macs = append(b.Macs, projections.MacClaim{Hash: projections.HashMac(data.Mac), Key: record.ID, Seq: seq})
	}
	return b
}

func keyID(n int) domain.KeyID { return domain.KeyID(fmt.Sprintf("key_%016d", n)) }

func created(n int, account domain.AccountID) eventstore.Event {
	return event(account, n, domain.KeyCreated{
		KeySpec: domain.KeySpec{
			ID: keyID(n), Account: account, Type: domain.KeyTypeAPI, Name: fmt.Sprintf("key %d", n), Environment: domain.EnvironmentLive,
			Scopes: domain.Scopes{"invoices:read"}, Mac: domain.Mac{byte(n), byte(n >> 8), byte(n >> 16), 2}, PepperID: "pepper1",
			Display: fmt.Sprintf("sk_live_%08d…", n),
		},
		CreatedBy: "key_operator", CreatedAt: Start(),
	})
}

func updated(n int, account domain.AccountID, name string) eventstore.Event {
	return event(account, n, domain.KeyUpdated{Name: &name, UpdatedAt: Start().Add(time.Minute)})
}

func event(account domain.AccountID, n int, data domain.KeyEvent) eventstore.Event {
	return eventstore.Event{
		Source: "test", Time: Start(), Aggregate: eventstore.KeyAggregate(account, keyID(n)), Actor: "key_operator",
		Command: domain.CommandCreateKey, CommandID: "command", RequestID: "request", Data: data,
	}
}
