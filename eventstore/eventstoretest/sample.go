package eventstoretest

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// Time is the time of sample events.
func Time() time.Time { return time.Date(2026, 11, 24, 9, 30, 0, 123456000, time.UTC) }

// Meta is what a command with this id notes of itself.
func Meta(commandID string) eventstore.Meta {
	return eventstore.Meta{
		Time: Time(), Actor: "key_operator0000000", Command: domain.CommandCreateKey,
		CommandID: commandID, CommandHash: "hash", RequestID: "req_" + commandID,
	}
}

// Key is the aggregate of the n-th sample key of an account.
func Key(account domain.AccountID, n int) eventstore.Aggregate {
	return eventstore.KeyAggregate(account, KeyID(n))
}

// KeyID is the id of the n-th sample key.
func KeyID(n int) domain.KeyID { return domain.KeyID(fmt.Sprintf("key_%016d", n)) }

// Created is the change that creates the n-th sample key of an account.
func Created(account domain.AccountID, n int) eventstore.Change {
	return eventstore.Change{Aggregate: Key(account, n), Events: []domain.Event{KeyCreated(account, n)}}
}

// KeyCreated is the event of that change.
func KeyCreated(account domain.AccountID, n int) domain.KeyCreated {
	id := KeyID(n)
	return domain.KeyCreated{
		KeySpec: domain.KeySpec{
			ID: id, Account: account, Type: domain.KeyTypeAPI, Name: fmt.Sprintf("Key %d", n),
			Environment: domain.EnvironmentLive, Scopes: domain.Scopes{"invoices:read", "invoices:write"},
			Mac: sha256.Sum256([]byte(string(account) + string(id))), PepperID: "pepper_1", Display: "sk_live_" + string(id[4:12]) + "…",
			ExpiresAt: Time().AddDate(1, 0, 0), Metadata: map[string]string{"team": "billing"},
		},
		CreatedBy: "key_operator0000000", CreatedAt: Time(),
	}
}

// Renamed is an event that changes a key's name.
func Renamed(name string) domain.KeyUpdated {
	return domain.KeyUpdated{Name: &name, UpdatedAt: Time()}
}
