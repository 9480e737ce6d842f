package projections

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// Page sizes of all lists.
const (
	DefaultPageSize = 50
	MaxPageSize     = 1000
)

// KeyQuery asks for keys as they are now. Zero members do not restrict, except Now.
type KeyQuery struct {
	Account     domain.AccountID
	Type        domain.KeyType
	Environment domain.Environment
	Status      domain.Status // at Now, by the clock, as domain.Key.Status has it
	// Scope matches keys whose scopes cover it: by name, by resource:* or by "*".
	Scope domain.Scope
	// Text matches keys with the text in the name, description, or a key or value
	// of the metadata, whatever the case.
	Text string
	// ExpiringBefore matches keys with an expiry before it, whatever their status.
	ExpiringBefore time.Time
	// Now is the instant at which Status is computed; required. Later pages go on
	// with the Now of the first.
	Now time.Time
	// PageSize is 1 to [MaxPageSize]; 0 means [DefaultPageSize].
	PageSize int
	// After is the Next of the page before, "" for the first.
	After string
}

// KeyPage is one page of keys, newest first by creation. Keys that are created
// while pages are read appear on none of the later ones, and no key repeats.
type KeyPage struct {
	Keys []KeyRecord
	Next string    // "" on the last page
	Now  time.Time // the instant of the query: the first page's
}

// KeyPlan is a checked [KeyQuery], as stores work with it.
type KeyPlan struct {
	KeyQuery          // PageSize set; Now and ExpiringBefore in whole microseconds
	BeforeSeq  uint64 // only keys created before it; 0: no limit
	SearchText string // see [SearchText]; "" does not restrict
}

// Plan checks the query and reads its page token.
func (q KeyQuery) Plan() (KeyPlan, error) {
	if q.Now.IsZero() {
		return KeyPlan{}, fmt.Errorf("query keys: Now is not set")
	}
	if err := q.check(); err != nil {
		return KeyPlan{}, err
	}
	size, err := pageSize(q.PageSize)
	if err != nil {
		return KeyPlan{}, err
	}
	q.PageSize, q.Now, q.ExpiringBefore = size, Micros(q.Now), Micros(q.ExpiringBefore)
	p := KeyPlan{KeyQuery: q, SearchText: strings.ToLower(q.Text)}
	if q.After != "" {
		pos, err := parseToken(q.After, q.filter())
		if err != nil {
			return KeyPlan{}, err
		}
		p.BeforeSeq, p.Now = pos.Seq, time.UnixMicro(pos.Now).UTC()
	}
	return p, nil
}

// Page makes the page of what a store found: up to PageSize+1 keys, the last of
// which only tells that there are more.
func (p KeyPlan) Page(found []KeyRecord) KeyPage {
	page := KeyPage{Keys: found, Now: p.Now}
	if len(found) > p.PageSize {
		page.Keys = found[:p.PageSize]
		page.Next = makeToken(position{Seq: page.Keys[p.PageSize-1].CreatedSeq, Now: p.Now.UnixMicro()}, p.filter())
	}
	return page
}

func (q KeyQuery) check() error {
	switch q.Type {
	case "", domain.KeyTypeAPI, domain.KeyTypeManagement:
	default:
		return domain.Invalid(domain.CodeValidation, "/type", "not a type of key", "use api or management")
	}
	if q.Environment != "" && !q.Environment.Valid() {
		return domain.Invalid(domain.CodeValidation, "/environment", "not an environment", "use live or test")
	}
	switch q.Status {
	case "", domain.StatusActive, domain.StatusRevoked, domain.StatusExpired:
	default:
		return domain.Invalid(domain.CodeValidation, "/status", "not a status", "use active, revoked or expired")
	}
	if strings.Contains(q.Text, searchSeparator) {
		return domain.Invalid(domain.CodeValidation, "/q", "holds a control character", "leave it out")
	}
	return nil
}

// filter identifies what a page token may be used with: everything that decides
// which keys match, except Now, which the token itself carries.
func (q KeyQuery) filter() string {
	return fmt.Sprintf("keys %q %q %q %q %q %q %d",
		q.Account, q.Type, q.Environment, q.Status, q.Scope, q.Text, micros(q.ExpiringBefore))
}

// AuditPlan is a checked [AuditQuery], as stores work with it.
type AuditPlan struct {
	AuditQuery        // PageSize set
	BeforeSeq  uint64 // only entries before it; 0: no limit
}

// Plan checks the query and reads its page token.
func (q AuditQuery) Plan() (AuditPlan, error) {
	size, err := pageSize(q.PageSize)
	if err != nil {
		return AuditPlan{}, err
	}
	q.PageSize = size
	p := AuditPlan{AuditQuery: q}
	if q.After != "" {
		pos, err := parseToken(q.After, q.filter())
		if err != nil {
			return AuditPlan{}, err
		}
		p.BeforeSeq = pos.Seq
	}
	return p, nil
}

// Page makes the page of what a store found: up to PageSize+1 entries, the last
// of which only tells that there are more.
func (p AuditPlan) Page(found []AuditEntry) AuditPage {
	page := AuditPage{Entries: found}
	if len(found) > p.PageSize {
		page.Entries = found[:p.PageSize]
		page.Next = makeToken(position{Seq: page.Entries[p.PageSize-1].Seq}, p.filter())
	}
	return page
}

func (q AuditQuery) filter() string {
	return fmt.Sprintf("audit %q %q %d %d", q.Account, q.Key, q.FromSeq, q.ToSeq)
}

func pageSize(n int) (int, error) {
	switch {
	case n == 0:
		return DefaultPageSize, nil
	case n < 0 || n > MaxPageSize:
		return 0, domain.Invalid(domain.CodeValidation, "/page_size", "out of range", fmt.Sprintf("use 1 to %d", MaxPageSize))
	default:
		return n, nil
	}
}

// CoveringScopes returns the scopes any one of which, held by a key, covers s. It
// is domain.Scopes.Cover turned round, for a query.
func CoveringScopes(s domain.Scope) []domain.Scope {
	if s == domain.FullAccess || strings.HasPrefix(string(s), "keyledger.") {
		return []domain.Scope{s}
	}
	resource, _, _ := strings.Cut(string(s), ":")
	return []domain.Scope{s, domain.Scope(resource + ":*"), domain.FullAccess}
}

// searchSeparator stands between the members of a key's search text, so that no
// query matches across two of them.
const searchSeparator = "\x1f"

// SearchText returns the text in which a query's SearchText is looked for, as a
// plain substring: name, description and metadata in lower case. Folding happens
// here, since databases differ in what they take for the same letter.
func SearchText(k domain.Key) string {
	var b strings.Builder
	b.WriteString(k.Name)
	if k.Description != "" {
		b.WriteString(searchSeparator)
		b.WriteString(k.Description)
	}
	if len(k.Metadata) > 0 {
		for _, name := range slices.Sorted(maps.Keys(k.Metadata)) {
			b.WriteString(searchSeparator)
			b.WriteString(name)
			b.WriteString(searchSeparator)
			b.WriteString(k.Metadata[name])
		}
	}
	return strings.ToLower(b.String())
}

// micros returns the microseconds since 1970, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
