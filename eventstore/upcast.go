package eventstore

import (
	"errors"

	"github.com/go-json-experiment/json"

	"github.com/keyledger/keyledger/domain"
)

var errUnknownType = errors.New("unknown event type")

// decodeData reads an event's data by its stored name. It is the one place where
// old forms become new ones: when a type gets a second version, its v2 is a case
// of its own, and the case of v1 decodes the old form (a struct kept in this file)
// and returns the v2 event made from it. Cases are never removed; stored events
// are never rewritten.
func decodeData(t domain.EventType, data []byte) (domain.Event, error) {
	switch t {
	case domain.TypeKeyCreated:
		return payload[domain.KeyCreated](data)
	case domain.TypeKeyImported:
		return payload[domain.KeyImported](data)
	case domain.TypeKeyUpdated:
		return payload[domain.KeyUpdated](data)
	case domain.TypeKeyRotated:
		return payload[domain.KeyRotated](data)
	case domain.TypeKeyRevoked:
		return payload[domain.KeyRevoked](data)
	case domain.TypeKeyExpiring:
		return payload[domain.KeyExpiring](data)
	case domain.TypeKeyExpired:
		return payload[domain.KeyExpired](data)
	case domain.TypeKeyLeaked:
		return payload[domain.KeyLeaked](data)
	default:
		return nil, errUnknownType
	}
}

func payload[E domain.Event](data []byte) (domain.Event, error) {
	var e E
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, err
	}
	return e, nil
}

// checkData refuses data without what its kind of event is about: JSON fills
// missing members with zeros in silence.
func checkData(a Aggregate, e domain.Event) error {
	missing := false
	switch e := e.(type) {
	case domain.KeyCreated:
		return checkSpec(a, e.KeySpec, e.CreatedAt.IsZero())
	case domain.KeyImported:
		return checkSpec(a, e.KeySpec, e.ImportedAt.IsZero())
	case domain.KeyUpdated:
		missing = e.UpdatedAt.IsZero()
	case domain.KeyRotated:
		missing = e.ReplacedBy == "" || e.EndsAt.IsZero() || e.RotatedAt.IsZero()
	case domain.KeyRevoked:
		missing = e.RevokedAt.IsZero()
	case domain.KeyExpiring:
		missing = e.ExpiresAt.IsZero()
	case domain.KeyExpired:
		missing = e.ExpiresAt.IsZero()
	case domain.KeyLeaked:
		missing = e.LeakedAt.IsZero()
	}
	if missing {
		return errors.New("a required member is missing")
	}
	return nil
}

func checkSpec(a Aggregate, spec domain.KeySpec, noTime bool) error {
	switch {
	case spec.ID != domain.KeyID(a.ID) || spec.Account != a.Account:
		return errors.New("its id or account is not that of its subject")
	case noTime || spec.Type == "" || spec.Mac.IsZero() || spec.PepperID == "":
		return errors.New("a required member is missing")
	}
	return nil
}
