package projections

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/keyledger/keyledger/domain"
)

// Matches reports whether a record is one that the query asks for, where it is not
// bounded by an index: everything but At, Sort and pages. It is what every store's
// conditions must come to, and what stores call on versions of the past.
func (p KeyPlan) Matches(r *KeyRecord) bool {
	return (p.Account == "" || r.Account == p.Account) &&
		(p.Type == "" || r.Type == p.Type) &&
		(p.Environment == "" || r.Environment == p.Environment) &&
		(p.Status == "" || r.Status(p.Now) == p.Status) &&
		(p.Scope == "" || r.Scopes.Cover(p.Scope)) &&
		(p.CreatedBy == "" || r.CreatedBy == p.CreatedBy) &&
		p.Created.holds(micros(r.CreatedAt)) && p.Expires.holds(micros(r.ExpiresAt)) && p.LastUsed.holds(micros(r.LastUsedAt)) &&
		(p.UnusedSince.IsZero() || r.CreatedAt.Before(p.UnusedSince) && r.LastUsedAt.Before(p.UnusedSince)) &&
		(p.SearchText == "" || strings.Contains(SearchText(r.Key), p.SearchText))
}

// holds reports whether a time in microseconds is in the range; 0 is no time.
func (r TimeRange) holds(at int64) bool {
	if r.IsZero() {
		return true
	}
	return at != 0 && (r.From.IsZero() || at >= r.From.UnixMicro()) && (r.Before.IsZero() || at < r.Before.UnixMicro())
}

// NeverMicros stands for "never" where keys are sorted by expiry.
const NeverMicros = math.MaxInt64

// SortMicros returns the time that the key is sorted by, in microseconds since
// 1970: [NeverMicros] for a key that does not expire, 0 for one that was never used.
func (r *KeyRecord) SortMicros(by SortColumn) int64 {
	switch {
	case by == ByUse:
		return micros(r.LastUsedAt)
	case by == ByExpiry && r.ExpiresAt.IsZero():
		return NeverMicros
	case by == ByExpiry:
		return r.ExpiresAt.UnixMicro()
	default:
		return 0
	}
}

// position returns the key's place in an order.
func (r *KeyRecord) position(by SortColumn) Position {
	at := Position{Seq: r.CreatedSeq, Time: r.SortMicros(by)}
	if by == ByName {
		at.Name = FoldName(r.Name)
	}
	return at
}

// FoldName returns what names are sorted by, byte by byte. Folding happens here,
// since databases differ in what they take for the same letter.
func FoldName(name string) string { return strings.ToLower(name) }

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
// plain substring: name, description and metadata in lower case. It begins with
// [FoldName] of the name.
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
