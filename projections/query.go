package projections

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// Bounds of every list. A page may hold fewer rows than asked for, even none, and
// still not be the last: a search that finds little stops after the rows below, and
// the token of its page says where it goes on.
const (
	DefaultPageSize = 50
	MaxPageSize     = 1000

	// MaxKeysScanned is how many keys one page looks at, in the order of the list.
	MaxKeysScanned = 20_000
	// MaxKeysCounted is how many keys a count looks at.
	MaxKeysCounted = 200_000
	// MaxEntriesScanned is how many audit entries one page looks at.
	MaxEntriesScanned = 20_000
)

// KeySort is the order of a list of keys; "-" before the member turns it round.
// Keys that are equal in it are in the order of their creation, turned round too.
type KeySort string

// The orders. Keys that never expire come after all that do, keys that were never
// used before all that were; names are compared in lower case, byte by byte.
const (
	SortNewest      KeySort = "-created_at" // the default
	SortOldest      KeySort = "created_at"
	SortName        KeySort = "name"
	SortNameDown    KeySort = "-name"
	SortExpires     KeySort = "expires_at"
	SortExpiresDown KeySort = "-expires_at"
	SortUsed        KeySort = "last_used_at"
	SortUsedDown    KeySort = "-last_used_at"
)

// KeySorts returns all orders.
func KeySorts() []KeySort {
	return []KeySort{SortNewest, SortOldest, SortName, SortNameDown, SortExpires, SortExpiresDown, SortUsed, SortUsedDown}
}

// column returns what the order goes by.
func (s KeySort) column() SortColumn { return SortColumn(strings.TrimPrefix(string(s), "-")) }

// SortColumn is what an order goes by.
type SortColumn string

// The columns.
const (
	ByCreation SortColumn = "created_at" // by CreatedSeq, which never changes
	ByName     SortColumn = "name"
	ByExpiry   SortColumn = "expires_at"
	ByUse      SortColumn = "last_used_at"
)

// TimeRange is a span of time, [From, Before). A zero end does not restrict.
type TimeRange struct{ From, Before time.Time }

// IsZero reports whether the range does not restrict.
func (r TimeRange) IsZero() bool { return r.From.IsZero() && r.Before.IsZero() }

func (r TimeRange) micros() TimeRange {
	return TimeRange{From: Micros(r.From), Before: Micros(r.Before)}
}

func (r TimeRange) filter() string { return fmt.Sprintf("%d-%d", micros(r.From), micros(r.Before)) }

// KeyQuery asks for keys. Zero members do not restrict, except Now.
type KeyQuery struct {
	Account     domain.AccountID
	Type        domain.KeyType
	Environment domain.Environment
	Status      domain.Status // at Now, by the clock, as domain.Key.Status has it
	// Scope matches keys whose scopes cover it: by name, by resource:* or by "*".
	Scope domain.Scope
	// Text matches keys with the text in the name, description, or a key or value
	// of the metadata, whatever the case.
	Text      string
	CreatedBy domain.ActorID
	// Created, Expires and LastUsed match keys that have such a time within the
	// range, whatever their status.
	Created, Expires, LastUsed TimeRange
	// UnusedSince matches keys created before it that were not used at it or later.
	UnusedSince time.Time

	// At asks for the keys as they were at a moment of the past; nil: as they are.
	// Statuses are then those of its Time. Nothing is known of past use, so that
	// LastUsed and UnusedSince cannot be asked for, and the order is one by creation.
	At *Moment
	// Now is the instant at which statuses are computed; required unless At is set.
	// Later pages go on with the Now of the first.
	Now time.Time

	Sort KeySort // "": SortNewest
	// PageSize is 1 to [MaxPageSize]; 0 means [DefaultPageSize].
	PageSize int
	// Page is the Next or Prev of another page, "" for the first.
	Page string
}

// KeyPage is one page of keys. In orders by creation no key is on two pages, and
// keys that are created while pages are read appear on none of the later ones.
type KeyPage struct {
	Keys []KeyRecord
	Next string    // the token of the page after it; "" on the last
	Prev string    // the token of the page before it; "" on the first
	Now  time.Time // the instant of the query: the first page's
}

// Count is how many keys match.
type Count struct {
	Keys int
	// AtLeast says that there may be more: the count ended at [MaxKeysCounted].
	AtLeast bool
}

// KeyPlan is a checked [KeyQuery], as stores work with it: of the keys in the order
// of Column, the first Scan beyond From are looked at, and the first PageSize+1 of
// those that match are found.
type KeyPlan struct {
	KeyQuery              // PageSize, Sort and Now set; times in whole microseconds
	SearchText string     // see [SearchText]; "" does not restrict
	Column     SortColumn // what the order goes by; CreatedSeq decides between equals
	Descending bool       // of both; a page that is read backwards is turned round here
	From       *Position  // only keys beyond it; nil: from the beginning
	Scan       int        // how many keys to look at, at most

	back bool // Page turns the keys round
}

// Position is a place in an order of keys: what the key there is sorted by.
type Position struct {
	Seq  uint64 // CreatedSeq
	Name string // by name: [FoldName]
	Time int64  // by expiry or use: [KeyRecord.SortMicros]
}

// Plan checks the query and reads its page token.
func (q KeyQuery) Plan() (KeyPlan, error) {
	if q.At != nil {
		q.Now = q.At.Time
	}
	if q.Now.IsZero() {
		return KeyPlan{}, fmt.Errorf("query keys: Now is not set")
	}
	if q.Sort == "" {
		q.Sort = SortNewest
	}
	if err := q.check(); err != nil {
		return KeyPlan{}, err
	}
	size, err := pageSize(q.PageSize)
	if err != nil {
		return KeyPlan{}, err
	}
	q.PageSize, q.Now, q.UnusedSince = size, Micros(q.Now), Micros(q.UnusedSince)
	q.Created, q.Expires, q.LastUsed = q.Created.micros(), q.Expires.micros(), q.LastUsed.micros()
	p := KeyPlan{
		KeyQuery: q, SearchText: strings.ToLower(q.Text), Scan: MaxKeysScanned,
		Column: q.Sort.column(), Descending: strings.HasPrefix(string(q.Sort), "-"),
	}
	if q.Page != "" {
		token, err := parseToken(q.Page, q.filter())
		if err != nil {
			return KeyPlan{}, err
		}
		p.From, p.Now, p.back = &token.Position, time.UnixMicro(token.Now).UTC(), token.Back
		p.Descending = p.Descending != p.back
	}
	return p, nil
}

// PlanCount checks the query, for a count of what it matches: no pages, no order
// but by creation.
func (q KeyQuery) PlanCount() (KeyPlan, error) {
	q.Page, q.Sort, q.PageSize = "", SortNewest, MaxPageSize
	p, err := q.Plan()
	p.Scan = MaxKeysCounted
	return p, err
}

// Page makes the page of what a store found: up to PageSize+1 keys, the last of
// which only tells that there are more. stopped is the place of the last key that
// was looked at, if the search ended at Scan with fewer; nil otherwise.
func (p KeyPlan) Page(found []KeyRecord, stopped *Position) KeyPage {
	page := KeyPage{Keys: found, Now: p.Now}
	more := len(found) > p.PageSize
	if more {
		page.Keys = found[:p.PageSize]
		last := page.Keys[p.PageSize-1].position(p.Column)
		stopped = &last
	}
	onward, backward := "", ""
	if stopped != nil {
		onward = p.token(*stopped, p.back)
	}
	switch {
	case p.From == nil:
	case len(page.Keys) > 0:
		backward = p.token(page.Keys[0].position(p.Column), !p.back)
	default: // nothing beyond From: the way back begins with the key there
		at := *p.From
		if p.Descending {
			at.Seq--
		} else {
			at.Seq++
		}
		backward = p.token(at, !p.back)
	}
	page.Next, page.Prev = onward, backward
	if p.back {
		page.Next, page.Prev = backward, onward
		slices.Reverse(page.Keys)
	}
	return page
}

func (p KeyPlan) token(at Position, back bool) string {
	return makeToken(pageToken{Position: at, Now: p.Now.UnixMicro(), Back: back}, p.filter())
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
	if strings.ContainsFunc(q.Text, unsearchable) {
		return domain.Invalid(domain.CodeValidation, "/q", "holds a control character", "leave it out")
	}
	if !slices.Contains(KeySorts(), q.Sort) {
		return domain.Invalid(domain.CodeValidation, "/sort", "not an order of keys",
			"use created_at, name, expires_at or last_used_at, with - before it to turn it round")
	}
	if q.At == nil {
		return nil
	}
	if q.Sort.column() != ByCreation {
		return domain.Invalid(domain.CodeValidation, "/sort", "the past is listed in the order of creation only", "use created_at or -created_at")
	}
	if !q.LastUsed.IsZero() || !q.UnusedSince.IsZero() {
		return domain.Invalid(domain.CodeValidation, "/unused_since", "nothing is known of use in the past", "leave out what asks for use, or at and seq")
	}
	return nil
}

// unsearchable reports whether no text of a key can hold the character: any control
// character but those of text with several lines.
func unsearchable(r rune) bool {
	return r < 0x20 && r != '\n' && r != '\r' && r != '\t' || r == 0x7f
}

// filter identifies what a page token may be used with: everything that decides
// which keys match and in which order, except Now, which the token itself carries.
func (q KeyQuery) filter() string {
	at := "now"
	if q.At != nil {
		at = fmt.Sprintf("%d %d", q.At.Seq, micros(q.At.Time))
	}
	return fmt.Sprintf("keys %q %q %q %q %q %q %q %s %s %s %d %s %s", q.Account, q.Type, q.Environment, q.Status, q.Scope, q.Text, q.CreatedBy,
		q.Created.filter(), q.Expires.filter(), q.LastUsed.filter(), micros(q.UnusedSince), at, q.Sort)
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

// micros returns the microseconds since 1970, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
