package domain

import (
	"net/netip"
	"time"
)

// KeyType tells customers' keys from keys of the control plane.
type KeyType string

// The types of key.
const (
	KeyTypeAPI        KeyType = "api"
	KeyTypeManagement KeyType = "management"
)

// Environment says which of the customer's worlds a key belongs to. Management
// keys have none.
type Environment string

// The environments.
const (
	EnvironmentLive Environment = "live"
	EnvironmentTest Environment = "test"
)

// Valid reports whether e is live or test.
func (e Environment) Valid() bool { return e == EnvironmentLive || e == EnvironmentTest }

// Status is what a key is at an instant. Revoked and expired are final.
type Status string

// The statuses of a key.
const (
	StatusActive  Status = "active"
	StatusRevoked Status = "revoked"
	StatusExpired Status = "expired"
)

// Grants is what a management key may give to the keys it makes.
type Grants struct {
	Environments []Environment `json:"environments"`
	Scopes       Scopes        `json:"scopes"`
}

// KeySpec is what a key is made with. A zero ExpiresAt means never; empty
// AllowedIPs means from anywhere.
type KeySpec struct {
	ID          KeyID             `json:"id"`
	Account     AccountID         `json:"account"`
	Type        KeyType           `json:"key_type"`
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Environment Environment       `json:"environment,omitempty"`
	Scopes      Scopes            `json:"scopes"`
	Grants      *Grants           `json:"grants,omitempty"` // management keys only
	Mac         Mac               `json:"mac"`
	PepperID    string            `json:"pepper_id"`
	Display     string            `json:"display"`
	ExpiresAt   time.Time         `json:"expires_at,omitzero"`
	AllowedIPs  []netip.Prefix    `json:"allowed_ips,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	RotatedFrom KeyID             `json:"rotated_from,omitempty"`
}

// Key is the state of one key: the fold of its events by [Evolve]. The zero value
// is a key that does not exist. Times are UTC; a zero time means "not so".
type Key struct {
	KeySpec
	CreatedAt time.Time
	CreatedBy ActorID
	UpdatedAt time.Time
	Imported  bool

	ReplacedBy KeyID     // the key that rotation put in its place
	RotatedAt  time.Time // when it was rotated
	EndsAt     time.Time // the end of the overlap after rotation

	RevokedAt    time.Time
	RevokeReason string
	ExpiredAt    time.Time // the deadline that KeyExpired recorded
	LeakedAt     time.Time

	// NoticeLead is the shortest lead of which KeyExpiring was emitted for the
	// present deadline; 0 if there was none.
	NoticeLead time.Duration

	// Version counts the key's events: the number that receivers of webhooks
	// see as key_seq.
	Version uint64
}

// Exists reports whether the key was ever created.
func (k Key) Exists() bool { return k.Version > 0 }

// Status returns what the key is at an instant. It goes by the clock: a key past
// the end of its overlap is revoked and one past its expiry is expired, whether or
// not the event is there yet.
func (k Key) Status(now time.Time) Status {
	switch {
	case !k.RevokedAt.IsZero(), passed(k.EndsAt, now) && k.ExpiredAt.IsZero():
		return StatusRevoked
	case !k.ExpiredAt.IsZero(), passed(k.ExpiresAt, now):
		return StatusExpired
	default:
		return StatusActive
	}
}

// Expiring reports whether the key is active and within lead of its expiry.
func (k Key) Expiring(now time.Time, lead time.Duration) bool {
	return k.Status(now) == StatusActive && !k.ExpiresAt.IsZero() && passed(k.ExpiresAt.Add(-lead), now)
}

// Rotated reports whether another key was put in this one's place.
func (k Key) Rotated() bool { return k.ReplacedBy != "" }

// passed reports whether a deadline has come; a zero deadline never does.
func passed(deadline, now time.Time) bool {
	return !deadline.IsZero() && !now.Before(deadline)
}
