package client

import (
	"encoding/json"
	"time"
)

// AuditEntry says what one event of the log did: who did what to which key, when,
// and what changed.
type AuditEntry struct {
	Seq     uint64    `json:"seq" doc:"The event's place in the one total order."`
	Time    time.Time `json:"time" doc:"When it happened, by the clock of the server that took the command."`
	Account string    `json:"account" doc:"The tenant whose key it is." example:"default"`
	Actor   string    `json:"actor" doc:"The id of the management key that asked for it, or _system." example:"key_9bQwXr3LmZ0vTc7K"`
	Action  string    `json:"action" enum:"key.created,key.imported,key.updated,key.rotated,key.revoked,key.expiring,key.expired,key.leaked"`
	Command string    `json:"command" doc:"The command that did it." example:"revoke_key"`
	Subject string    `json:"subject" doc:"The id of the key." example:"key_4fJq0Zr8kLw2TnXb"`
	// Changes never hold a token or its mac.
	Changes []AuditChange `json:"changes" nullable:"false" doc:"The members of the key that changed."`
	Reason  string        `json:"reason" doc:"The reason that the actor gave; empty: none."`
	Void    string        `json:"void" enum:",key_id_taken,mac_taken,subject_mismatch,created_twice,no_such_key" doc:"Why the event had no effect; empty: it had."`

	CommandID string `json:"command_id" doc:"The command's Idempotency-Key, or the name that the server gave it."`
	RequestID string `json:"request_id" doc:"Names the request in the server's log."`
	EventID   string `json:"event_id" doc:"The id of the event, which is unique."`
}

// AuditChange is one member of a key before and after, as JSON values.
type AuditChange struct {
	Field  string          `json:"field" example:"scopes"`
	Before json.RawMessage `json:"before" doc:"null: it was not set."`
	After  json.RawMessage `json:"after" doc:"null: it is no longer set."`
}

// AuditPage is one page of the audit log.
type AuditPage struct {
	Entries       []AuditEntry `json:"entries" nullable:"false"`
	NextPageToken string       `json:"next_page_token" doc:"Send it as page_token for the next page; empty on the last."`
	PrevPageToken string       `json:"prev_page_token" doc:"Send it as page_token for the page before; empty on the first."`
	SearchedToSeq uint64       `json:"searched_to_seq,omitempty" doc:"Where a long search stands: the last entry that was looked at, in a page that ended before it was full. Go on with next_page_token."`
}
