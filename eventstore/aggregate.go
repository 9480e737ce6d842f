package eventstore

import (
	"fmt"
	"strings"

	"github.com/keyledger/keyledger/domain"
)

// The names of the log in NATS.
const (
	StreamName    = "KEYLEDGER_EVENTS"
	SubjectPrefix = "keyledger.events"
)

// AggregateKind says what an aggregate is; it is one token of its subject.
type AggregateKind string

// KindKey is the kind of keys.
const KindKey AggregateKind = "key"

// Aggregate names one thing with a history of its own: the unit of an
// expectation. It is comparable.
type Aggregate struct {
	Account domain.AccountID
	Kind    AggregateKind
	ID      string
}

// KeyAggregate names a key.
func KeyAggregate(account domain.AccountID, id domain.KeyID) Aggregate {
	return Aggregate{Account: account, Kind: KindKey, ID: string(id)}
}

// Subject returns the subject that holds the aggregate's events. It is the only
// place that makes one: an id outside [domain.ValidID] (a wildcard, a separator,
// a control character) is refused here and never reaches NATS.
func (a Aggregate) Subject() (string, error) {
	if a.Kind != KindKey {
		return "", fmt.Errorf("subject of an aggregate: unknown kind %q", a.Kind)
	}
	for _, part := range [...]struct{ pointer, id string }{{"/account", string(a.Account)}, {"/id", a.ID}} {
		if !domain.ValidID(part.id) {
			return "", domain.Invalid("invalid_id", part.pointer, "not the form of an id",
				"use 1 to 64 letters, digits, '-' and '_'")
		}
	}
	return SubjectPrefix + "." + string(a.Account) + "." + string(a.Kind) + "." + a.ID, nil
}

// String renders the aggregate for messages.
func (a Aggregate) String() string {
	return fmt.Sprintf("%s %q of account %q", a.Kind, a.ID, a.Account)
}

// parseSubject is the inverse of [Aggregate.Subject].
func parseSubject(subject string) (Aggregate, error) {
	rest, ok := strings.CutPrefix(subject, SubjectPrefix+".")
	account, rest, ok2 := strings.Cut(rest, ".")
	kind, id, ok3 := strings.Cut(rest, ".")
	a := Aggregate{Account: domain.AccountID(account), Kind: AggregateKind(kind), ID: id}
	if !ok || !ok2 || !ok3 || a.Kind != KindKey || !domain.ValidID(account) || !domain.ValidID(id) {
		return Aggregate{}, fmt.Errorf("subject %q is not one of the log", subject)
	}
	return a, nil
}
