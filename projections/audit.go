package projections

import (
	"encoding/json"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// AuditEntry says what one event of the log did. There is one for every event,
// void ones included.
type AuditEntry struct {
	Seq     uint64
	Time    time.Time // of the event, UTC, whole microseconds
	Account domain.AccountID
	Actor   domain.ActorID
	Action  Action
	Command domain.CommandName
	Subject string // id of the key
	// Changes are the members of the subject that the event changed, in a fixed
	// order. Never the mac or the pepper's id.
	Changes []Change
	// Reason is what the actor gave as the reason, "" if none was asked for.
	Reason string
	// Void says why the event had no effect, "" if it had.
	Void      VoidReason
	CommandID string
	RequestID string
	EventID   string
}

// Action is the short stable name of what happened.
type Action string

// The actions.
const (
	ActionKeyCreated  Action = "key.created"
	ActionKeyImported Action = "key.imported"
	ActionKeyUpdated  Action = "key.updated"
	ActionKeyRotated  Action = "key.rotated"
	ActionKeyRevoked  Action = "key.revoked"
	ActionKeyExpiring Action = "key.expiring"
	ActionKeyExpired  Action = "key.expired"
	ActionKeyLeaked   Action = "key.leaked"
)

// Change is one member before and after, as JSON values; nil (null in JSON) where
// it is unset.
type Change struct {
	Field  string          `json:"field"`
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

// VoidReason says why an event had no effect.
type VoidReason string

// The reasons. All events of an aggregate that is void have the reason of the first.
const (
	// VoidKeyIDTaken: another account holds the key id.
	VoidKeyIDTaken VoidReason = "key_id_taken"
	// VoidMacTaken: another key holds the mac.
	VoidMacTaken VoidReason = "mac_taken"
	// VoidSubjectMismatch: the event names another key or account than its subject.
	VoidSubjectMismatch VoidReason = "subject_mismatch"
	// VoidCreatedTwice: the key exists already, and stays as it is.
	VoidCreatedTwice VoidReason = "created_twice"
	// VoidNoKey: the event changes a key that was never created.
	VoidNoKey VoidReason = "no_such_key"
)

// AuditQuery asks for audit entries. Zero members do not restrict.
type AuditQuery struct {
	Account domain.AccountID
	Key     domain.KeyID
	FromSeq uint64 // first
	ToSeq   uint64 // last; 0: up to the newest
	// PageSize is 1 to [MaxPageSize]; 0 means [DefaultPageSize].
	PageSize int
	// After is the Next of the page before, "" for the first.
	After string
}

// AuditPage is one page of entries, newest first. Next is "" on the last.
type AuditPage struct {
	Entries []AuditEntry
	Next    string
}
