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

func mustOpen(t *testing.T, open Opener, dir string) Store {
	t.Helper()
	store := open(t, dir)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return store
}

func mustWrite(t *testing.T, store Store, b projections.Batch) {
	t.Helper()
	if err := store.Write(t.Context(), b); err != nil {
		t.Fatalf("write a batch from %+v: %v", b.From, err)
	}
}

func mustFinish(t *testing.T, store Store) {
	t.Helper()
	if err := store.FinishBuild(t.Context()); err != nil {
		t.Fatalf("finish the build: %v", err)
	}
}

// ctx is for helpers that serve *rapid.T too, which has no context to inherit.
func ctx() context.Context { return context.Background() }

// batch makes the batch of one claim.
func batch(from projections.Checkpoint, seq uint64, eventID string) projections.Batch {
	e := created(int(seq), "acme")
	data, _ := e.Data.(domain.KeyCreated)
	record := projections.KeyRecord{Key: projections.Normalize(domain.Evolve(domain.Key{}, data)), Seq: seq, CreatedSeq: seq}
	return projections.Batch{
		From: from, To: projections.Checkpoint{Seq: seq, EventID: eventID},
		Versions: []projections.KeyVersion{{KeyRecord: record}},
		Audit: []projections.AuditEntry{{
			Seq: seq, Time: e.Time, Account: "acme", Actor: e.Actor, Action: projections.ActionKeyCreated, Subject: string(record.ID), EventID: eventID,
		}},
		Macs: []projections.MacClaim{{Hash: projections.HashMac(data.Mac), Key: record.ID, Seq: seq}},
	}
}

func keyID(n int) domain.KeyID { return domain.KeyID(fmt.Sprintf("key_%016d", n)) }

func created(n int, account domain.AccountID) eventstore.Event {
	return event(account, n, domain.KeyCreated{
		KeySpec: domain.KeySpec{
			ID: keyID(n), Account: account, Type: domain.KeyTypeAPI, Name: fmt.Sprintf("key %d", n), Environment: domain.EnvironmentLive,
			Scopes: domain.Scopes{"invoices:read"}, Mac: domain.Mac{byte(n), byte(n >> 8), 2}, PepperID: "pepper1", Display: fmt.Sprintf("sk_live_%08d…", n),
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
