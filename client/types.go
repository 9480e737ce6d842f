package client

import "time"

// The media types of the API.
const (
	MediaTypeJSON        = "application/json"
	MediaTypeProblem     = "application/problem+json" // RFC 9457
	MediaTypeNDJSON      = "application/x-ndjson"
	MediaTypeEventStream = "text/event-stream"
	MediaTypeCSV         = "text/csv"
)

// The headers of the API beyond the usual ones.
const (
	// HeaderIdempotencyKey names a command; sent again under the same name, it
	// is not done again. 1 to 255 visible ASCII characters.
	HeaderIdempotencyKey = "Idempotency-Key"
	// HeaderReplayed is "true" on the answer to a command that had been done before.
	HeaderReplayed = "Idempotent-Replayed"
	// HeaderRequestID names a request in the logs. Callers may choose it: 1 to
	// 64 letters, digits, '-' and '_'.
	HeaderRequestID = "X-Request-Id"
	// HeaderExportToSeq is the sequence number up to which an export goes.
	HeaderExportToSeq = "Export-To-Seq"
	// TrailerExportRows is the number of entries of an export, behind its last byte:
	// an export that was cut off has none, or another number.
	TrailerExportRows = "Export-Rows"
)

// Key is a key as every answer shows it. It never holds the token, any part of
// its secret, or its mac.
type Key struct {
	ID          string            `json:"id" doc:"The key's id: key_ and 16 letters and digits, which its token carries too." example:"key_4fJq0Zr8kLw2TnXb"`
	Account     string            `json:"account" doc:"The tenant that owns the key." example:"default"`
	KeyType     string            `json:"key_type" enum:"api,management" doc:"api: a customer's key. management: a key of the control plane."`
	Name        string            `json:"name" example:"Production Server"`
	Description string            `json:"description"`
	Environment string            `json:"environment,omitempty" enum:"live,test" doc:"Absent for management keys, which have none."`
	Scopes      []string          `json:"scopes" nullable:"false" doc:"What the key may do: scopes of GET /v1/scopes, resource:* or *." example:"[\"invoices:read\"]"`
	FullAccess  bool              `json:"full_access" doc:"Whether the key holds every scope of the catalogue, whatever it grows to."`
	Grants      *Grants           `json:"grants,omitempty" doc:"What a management key may give to the keys it makes."`
	Display     string            `json:"display" doc:"The token's prefix and the first 8 characters of the key's id." example:"sk_live_4fJq0Zr8…"`
	Status      string            `json:"status" enum:"active,revoked,expired" doc:"What the key is now, by the server's clock."`
	Expiring    bool              `json:"expiring" doc:"Whether the key is active and expires within 7 days."`
	ExpiresAt   *time.Time        `json:"expires_at" doc:"When the key expires; null: never."`
	AllowedIPs  []string          `json:"allowed_ips" nullable:"false" doc:"The address ranges (CIDR) the key works from; empty: from anywhere."`
	Metadata    map[string]string `json:"metadata"`
	CreatedAt   time.Time         `json:"created_at"`
	CreatedBy   string            `json:"created_by" doc:"The id of the management key that made it, or _system."`
	UpdatedAt   *time.Time        `json:"updated_at" doc:"When the key was last changed by an update; null: never."`
	LastUsedAt  *time.Time        `json:"last_used_at" doc:"When the key was last seen by a verifier; null: not known."`
	RevokedAt   *time.Time        `json:"revoked_at"`
	// RevokeReason is empty unless the key was revoked.
	RevokeReason string     `json:"revoke_reason"`
	RotatedFrom  string     `json:"rotated_from" doc:"The key that this one was put in the place of."`
	ReplacedBy   string     `json:"replaced_by" doc:"The key that was put in this one's place."`
	EndsAt       *time.Time `json:"ends_at" doc:"When a rotated key stops working."`
	// LastUsedSinceRotationAt tells whether a rotated key can be ended before its time.
	LastUsedSinceRotationAt *time.Time `json:"last_used_since_rotation_at" doc:"When the token of a rotated key was last used after the rotation; null: not since, as far as is reported, or it was not rotated. Uses are reported every minute."`
	Seq                     uint64     `json:"seq" doc:"The sequence number of the key's last event. It is the ETag too."`
}

// Grants is what a management key may give to the keys it makes.
type Grants struct {
	Environments []string `json:"environments" nullable:"false" doc:"live, test or both."`
	Scopes       []string `json:"scopes" nullable:"false" doc:"Scopes of the catalogue, resource:* or *."`
}

// KeyResult is the answer to a command about a key.
type KeyResult struct {
	Key Key `json:"key"`
	// Token is the secret, shown this once. It is absent when the command makes
	// none, when the caller made the token, and on every repeat of a command.
	Token string `json:"token,omitempty" doc:"The secret, shown this once. Absent on repeats and where the caller made the token."`
	Seq   uint64 `json:"seq" doc:"The sequence number of the command's last event. Reads with min_seq wait for it."`
	// AsOfSeq is set in answers about the past.
	AsOfSeq *uint64 `json:"as_of_seq,omitempty" nullable:"false" doc:"With at or seq: the last event that the answer takes into account. Absent otherwise."`
}

// KeyPage is one page of a list of keys.
type KeyPage struct {
	Keys          []Key  `json:"keys" nullable:"false"`
	NextPageToken string `json:"next_page_token" doc:"Send it as page_token for the next page; empty on the last."`
	PrevPageToken string `json:"prev_page_token" doc:"Send it as page_token for the page before; empty on the first."`
	// AsOfSeq is set in lists of the past.
	AsOfSeq *uint64 `json:"as_of_seq,omitempty" nullable:"false" doc:"With at or seq: the last event that the list takes into account; 0: before the first. Absent otherwise."`
	// Count is set where it was asked for.
	Count *KeyCount `json:"count,omitempty" nullable:"false" doc:"With count=true: how many keys match, whatever the page. Absent otherwise."`
}

// KeyCount is how many keys match a query.
type KeyCount struct {
	Keys    int  `json:"keys" doc:"How many were found."`
	AtLeast bool `json:"at_least" doc:"Whether there may be more: counting ended at its bound."`
}

// CreateKeyRequest asks for a key. Give scopes or full_access, and expires_on,
// expires_at or neither.
type CreateKeyRequest struct {
	Name        string            `json:"name" doc:"1 to 100 characters." example:"Production Server"`
	Environment string            `json:"environment" enum:"live,test"`
	Scopes      []string          `json:"scopes,omitempty" nullable:"false" doc:"Scopes of GET /v1/scopes, or resource:*. At most 64." example:"[\"invoices:read\",\"payouts:read\"]"`
	FullAccess  bool              `json:"full_access,omitempty" doc:"Instead of scopes: everything in the catalogue, whatever it grows to."`
	ExpiresOn   *string           `json:"expires_on,omitempty" format:"date" doc:"The key expires at midnight UTC at the beginning of this day."`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty" doc:"The key expires at this instant."`
	Description string            `json:"description,omitempty" doc:"At most 500 characters."`
	Metadata    map[string]string `json:"metadata,omitempty" doc:"At most 16 entries; names to 40 characters, values to 500."`
	AllowedIPs  []string          `json:"allowed_ips,omitempty" nullable:"false" doc:"At most 32 address ranges (CIDR)."`
	Account     string            `json:"account,omitempty" doc:"The tenant that owns the key. Only instance keys may name one."`
	TokenSHA256 string            `json:"token_sha256,omitempty" doc:"For a token that the caller made: its SHA-256 in hex. The token itself is never sent."`
}

// CreateManagementKeyRequest asks for a key of the control plane. Its token is made by
// the server and no other: what rules over keys must not be guessable.
type CreateManagementKeyRequest struct {
	Name        string     `json:"name" doc:"1 to 100 characters." example:"billing service"`
	Description string     `json:"description,omitempty" doc:"At most 500 characters."`
	Account     string     `json:"account,omitempty" doc:"The tenant it acts for; _root for the instance. Only instance keys may name one."`
	Scopes      []string   `json:"scopes" nullable:"false" doc:"Management scopes of GET /v1/scopes." example:"[\"keyledger.keys:read\",\"keyledger.keys:write\"]"`
	Grants      *Grants    `json:"grants,omitempty" doc:"What it may give to the keys it makes; absent: nothing."`
	ExpiresOn   *string    `json:"expires_on,omitempty" format:"date" doc:"It expires at midnight UTC at the beginning of this day."`
	ExpiresAt   *time.Time `json:"expires_at,omitempty" doc:"It expires at this instant."`
}

// UpdateKeyRequest asks for changes to a key. What is absent stays as it is;
// lists and metadata are replaced as a whole.
type UpdateKeyRequest struct {
	Name        *string             `json:"name,omitempty" doc:"1 to 100 characters."`
	Description *string             `json:"description,omitempty" doc:"At most 500 characters."`
	Scopes      *[]string           `json:"scopes,omitempty" nullable:"false"`
	FullAccess  *bool               `json:"full_access,omitempty"`
	Metadata    *map[string]string  `json:"metadata,omitempty"`
	AllowedIPs  *[]string           `json:"allowed_ips,omitempty" nullable:"false"`
	ExpiresOn   Optional[string]    `json:"expires_on,omitzero" doc:"The key expires at midnight UTC at the beginning of this day; null: never."`
	ExpiresAt   Optional[time.Time] `json:"expires_at,omitzero" doc:"The key expires at this instant; null: never."`
}

// RevokeKeyRequest asks that a key be refused for good.
type RevokeKeyRequest struct {
	Reason string `json:"reason,omitempty" doc:"Why, at most 500 characters." example:"laptop lost"`
}

// RotateKeyRequest asks for a new key in a key's place.
type RotateKeyRequest struct {
	Overlap     string `json:"overlap,omitempty" doc:"How long the old key goes on working, as hours, minutes and seconds; absent: it stops at once." example:"24h"`
	TokenSHA256 string `json:"token_sha256,omitempty" doc:"For a token that the caller made: its SHA-256 in hex. The token itself is never sent."`
}

// VerifyRequest asks whether a key may pass, or, with At, whether it would have
// passed. Only Key is required; every other member narrows what passes.
type VerifyRequest struct {
	Key         string     `json:"key,omitempty" doc:"The token, as the caller of your API sent it. Without it, and without key_id, the answer is MISSING."`
	Scopes      []string   `json:"scopes,omitempty" nullable:"false" doc:"The key must hold all of them."`
	Environment string     `json:"environment,omitempty" enum:"live,test" doc:"The key must belong to it."`
	Account     string     `json:"account,omitempty" doc:"The account that owns what is being asked for; the key must belong to it."`
	IP          string     `json:"ip,omitempty" doc:"The address that the caller of your API came from."`
	At          *time.Time `json:"at,omitempty" nullable:"false" doc:"Asks whether the key would have passed at this instant of the past. Needs keyledger.audit:read too."`
	KeyID       string     `json:"key_id,omitempty" doc:"With at, in the place of key: the id of the key."`
}

// VerifyResult says whether a key may pass, and why not.
type VerifyResult struct {
	Valid       bool       `json:"valid"`
	Code        string     `json:"code" enum:"VALID,MISSING,MALFORMED,UNKNOWN,REVOKED,EXPIRED,WRONG_ENVIRONMENT,RESOURCE_NOT_ACCESSIBLE,IP_NOT_ALLOWED,INSUFFICIENT_SCOPE,STALE"`
	Cause       string     `json:"cause,omitempty" doc:"What is wrong, for people. Absent when valid."`
	Solution    string     `json:"solution,omitempty" doc:"What to do about it. Absent when valid."`
	KeyID       string     `json:"key_id,omitempty" doc:"Absent where no key of the caller's matches."`
	Account     string     `json:"account,omitempty"`
	Environment string     `json:"environment,omitempty" enum:"live,test"`
	Scopes      []string   `json:"scopes,omitempty" nullable:"false" doc:"What the key holds."`
	ExpiresAt   *time.Time `json:"expires_at,omitempty" doc:"Absent: never."`
	AsOfSeq     uint64     `json:"as_of_seq" doc:"The sequence number up to which the answer knows the log; with at, the last event before or at that instant."`
}

// Scope is a permission with its description.
type Scope struct {
	Scope       string `json:"scope" example:"invoices:read"`
	Description string `json:"description" example:"View invoices"`
}

// ScopeList is the catalogue of scopes.
type ScopeList struct {
	Scopes           []Scope `json:"scopes" nullable:"false" doc:"What keys may hold."`
	ManagementScopes []Scope `json:"management_scopes" nullable:"false" doc:"What management keys may hold."`
}
