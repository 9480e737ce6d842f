package projections

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// AuditEntry says what one event of the log did. There is one for every event,
// void ones included.
type AuditEntry struct {
	Seq  uint64
	Time time.Time // of the event, UTC, whole microseconds
	// Clock is the log's clock at the event: the highest Time up to it.
	Clock   time.Time
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

// Actions returns all actions.
func Actions() []Action {
	return []Action{
		ActionKeyCreated, ActionKeyImported, ActionKeyUpdated, ActionKeyRotated,
		ActionKeyRevoked, ActionKeyExpiring, ActionKeyExpired, ActionKeyLeaked,
	}
}

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
	Account   domain.AccountID
	Actor     domain.ActorID
	Action    Action
	Key       domain.KeyID
	Command   domain.CommandName
	CommandID string
	RequestID string
	// Clock restricts to entries of a span of time, by the log's clock.
	Clock   TimeRange
	FromSeq uint64 // first
	ToSeq   uint64 // last; 0: up to the newest

	OldestFirst bool
	// PageSize is 1 to [MaxPageSize]; 0 means [DefaultPageSize].
	PageSize int
	// Page is the Next or Prev of another page, "" for the first.
	Page string
}

// AuditPage is one page of entries.
type AuditPage struct {
	Entries []AuditEntry
	Next    string // the token of the page after it; "" on the last
	Prev    string // the token of the page before it; "" on the first
	// SearchedTo is the seq of the last entry that was looked at when the page ended
	// before it was full, 0 otherwise: where a long search stands.
	SearchedTo uint64
}

// AuditPlan is a checked [AuditQuery], as stores work with it: of the entries in
// the order of their seq, the first Scan beyond From are looked at, and the first
// PageSize+1 of those that match are found. Entries that an index leads to need not
// be counted by Scan one by one: it bounds the work, and any less is good.
type AuditPlan struct {
	AuditQuery        // PageSize set; times in whole microseconds
	Descending bool   // a page that is read backwards is turned round here
	From       uint64 // only entries beyond it; 0: from the beginning
	Scan       int    // how many entries to look at, at most

	back bool
}

// Plan checks the query and reads its page token.
func (q AuditQuery) Plan() (AuditPlan, error) {
	if q.Action != "" && !slices.Contains(Actions(), q.Action) {
		return AuditPlan{}, domain.Invalid(domain.CodeValidation, "/action", "not an action", "use one such as key.created or key.revoked")
	}
	size, err := pageSize(q.PageSize)
	if err != nil {
		return AuditPlan{}, err
	}
	q.PageSize, q.Clock = size, q.Clock.micros()
	p := AuditPlan{AuditQuery: q, Scan: MaxEntriesScanned, Descending: !q.OldestFirst}
	if q.Page != "" {
		token, err := parseToken(q.Page, q.filter())
		if err != nil {
			return AuditPlan{}, err
		}
		p.From, p.back = token.Seq, token.Back
		p.Descending = p.Descending != p.back
	}
	return p, nil
}

// Page makes the page of what a store found: up to PageSize+1 entries, the last of
// which only tells that there are more. stopped is the seq of the last entry that was
// looked at, if the search ended at Scan with fewer; 0 otherwise.
func (p AuditPlan) Page(found []AuditEntry, stopped uint64) AuditPage {
	page := AuditPage{Entries: found, SearchedTo: stopped}
	if len(found) > p.PageSize {
		page.Entries, page.SearchedTo = found[:p.PageSize], 0
		stopped = page.Entries[p.PageSize-1].Seq
	}
	onward, backward := "", ""
	if stopped != 0 {
		onward = p.token(stopped, p.back)
	}
	switch {
	case p.From == 0:
	case len(page.Entries) > 0:
		backward = p.token(page.Entries[0].Seq, !p.back)
	case p.Descending: // nothing beyond From: the way back begins with the entry there
		backward = p.token(p.From-1, !p.back)
	default:
		backward = p.token(p.From+1, !p.back)
	}
	page.Next, page.Prev = onward, backward
	if p.back {
		page.Next, page.Prev = backward, onward
		slices.Reverse(page.Entries)
	}
	return page
}

func (p AuditPlan) token(seq uint64, back bool) string {
	return makeToken(pageToken{Position: Position{Seq: seq}, Back: back}, p.filter())
}

func (q AuditQuery) filter() string {
	return fmt.Sprintf("audit %q %q %q %q %q %q %q %s %d %d %t", q.Account, q.Actor, q.Action, q.Key, q.Command, q.CommandID, q.RequestID,
		q.Clock.filter(), q.FromSeq, q.ToSeq, q.OldestFirst)
}
