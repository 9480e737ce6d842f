package domain

import (
	"net/netip"
	"time"
)

// EventType is the stored name of an event, with its version. It is a constant of
// the format, never derived from a Go name.
type EventType string

// The stored names.
const (
	TypeKeyCreated  EventType = "keyledger.key.created.v1"
	TypeKeyImported EventType = "keyledger.key.imported.v1"
	TypeKeyUpdated  EventType = "keyledger.key.updated.v1"
	TypeKeyRotated  EventType = "keyledger.key.rotated.v1"
	TypeKeyRevoked  EventType = "keyledger.key.revoked.v1"
	TypeKeyExpiring EventType = "keyledger.key.expiring.v1"
	TypeKeyExpired  EventType = "keyledger.key.expired.v1"
	TypeKeyLeaked   EventType = "keyledger.key.leaked.v1"
)

// Event is a fact of the log. The set is closed.
//
//sumtype:decl
type Event interface {
	// Type returns the stored name.
	Type() EventType
	isEvent()
}

// KeyEvent is an event of a key.
//
//sumtype:decl
type KeyEvent interface {
	Event
	isKeyEvent()
}

type keyEvent struct{}

func (keyEvent) isEvent()    {}
func (keyEvent) isKeyEvent() {}

// KeyCreated says that a key came to be, by a request or by the rotation of
// another (RotatedFrom).
type KeyCreated struct {
	keyEvent
	KeySpec
	CreatedBy ActorID   `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
}

// KeyImported says that a key made elsewhere is known here from now on, by the
// SHA-256 of its token.
type KeyImported struct {
	keyEvent
	KeySpec
	CreatedBy  ActorID   `json:"created_by"`
	ImportedAt time.Time `json:"imported_at"`
}

// KeyUpdated holds the members that changed, with their new values; a nil member
// did not change.
type KeyUpdated struct {
	keyEvent
	Name        *string            `json:"name,omitempty"`
	Description *string            `json:"description,omitempty"`
	Scopes      *Scopes            `json:"scopes,omitempty"`
	Metadata    *map[string]string `json:"metadata,omitempty"`
	AllowedIPs  *[]netip.Prefix    `json:"allowed_ips,omitempty"`
	Expiry      *Expiry            `json:"expiry,omitempty"`
	UpdatedAt   time.Time          `json:"updated_at"`
}

// Expiry is a change of the expiry; a zero At means never.
type Expiry struct {
	At time.Time `json:"expires_at,omitzero"`
}

// KeyRotated says that another key was put in this one's place. Both work until
// EndsAt.
type KeyRotated struct {
	keyEvent
	ReplacedBy KeyID     `json:"replaced_by"`
	EndsAt     time.Time `json:"ends_at"`
	RotatedAt  time.Time `json:"rotated_at"`
}

// KeyRevoked says that the key is refused for good.
type KeyRevoked struct {
	keyEvent
	Reason    string    `json:"reason"`
	RevokedAt time.Time `json:"revoked_at"`
}

// KeyExpiring is the notice that the key will expire. There is one for each
// deadline and lead.
type KeyExpiring struct {
	keyEvent
	ExpiresAt   time.Time `json:"expires_at"`
	LeadSeconds int64     `json:"lead_seconds"`
}

// KeyExpired says that the key's expiry has passed. ExpiresAt is the deadline, not
// the moment of writing.
type KeyExpired struct {
	keyEvent
	ExpiresAt time.Time `json:"expires_at"`
}

// KeyLeaked says that the key's token was seen where it does not belong.
type KeyLeaked struct {
	keyEvent
	Source   string    `json:"source"`
	Location string    `json:"location,omitempty"`
	LeakedAt time.Time `json:"leaked_at"`
}

// Type returns the stored name.
func (KeyCreated) Type() EventType { return TypeKeyCreated }

// Type returns the stored name.
func (KeyImported) Type() EventType { return TypeKeyImported }

// Type returns the stored name.
func (KeyUpdated) Type() EventType { return TypeKeyUpdated }

// Type returns the stored name.
func (KeyRotated) Type() EventType { return TypeKeyRotated }

// Type returns the stored name.
func (KeyRevoked) Type() EventType { return TypeKeyRevoked }

// Type returns the stored name.
func (KeyExpiring) Type() EventType { return TypeKeyExpiring }

// Type returns the stored name.
func (KeyExpired) Type() EventType { return TypeKeyExpired }

// Type returns the stored name.
func (KeyLeaked) Type() EventType { return TypeKeyLeaked }
