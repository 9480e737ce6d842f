package projections

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
)

func instant(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// inOrder returns the records as a plan's order has them.
func inOrder(p *KeyPlan, all []KeyRecord) []KeyRecord {
	list := slices.Clone(all)
	slices.SortFunc(list, func(a, b KeyRecord) int { return p.compare(a.position(p.Column), b.position(p.Column)) })
	return list
}

func (p *KeyPlan) compare(a, b Position) int {
	order := cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Time, b.Time), cmp.Compare(a.Seq, b.Seq))
	if p.Descending {
		return -order
	}
	return order
}

// keyPage answers a query as a store does, by the words of [KeyPlan].
func keyPage(t *rapid.T, q KeyQuery, scan int, all []KeyRecord) KeyPage {
	p, err := q.Plan()
	if err != nil {
		t.Fatal(err)
	}
	p.Scan = scan
	var found []KeyRecord
	looked := 0
	for _, r := range inOrder(&p, all) {
		at := r.position(p.Column)
		if p.From != nil && p.compare(at, *p.From) <= 0 {
			continue
		}
		if p.Matches(&r) {
			found = append(found, r)
		}
		if looked++; len(found) > p.PageSize {
			break
		}
		if looked == p.Scan {
			return p.Page(found, &at)
		}
	}
	return p.Page(found, nil)
}

// walk reads a list to its end, back to its beginning and to its end again, in pages
// of any size, and holds what each way yields against the list.
func walk[T comparable](t *rapid.T, want []T, page func(token string, size int) (rows []T, prev, next string)) {
	size := func() int { return rapid.IntRange(1, 4).Draw(t, "page size") }
	rows, prev, next := page("", size())
	if prev != "" {
		t.Fatal("there is a page before the first")
	}
	got := slices.Clone(rows)
	onward := func() {
		for next != "" {
			rows, prev, next = page(next, size())
			got = append(got, rows...)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("onward %v, want %v", got, want)
		}
	}
	onward()
	got = slices.Clone(rows)
	for prev != "" {
		rows, prev, next = page(prev, size())
		got = append(slices.Clone(rows), got...)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("back %v, want %v", got, want)
	}
	got = slices.Clone(rows)
	onward()
}

func TestKeyPagesBothWays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []KeyRecord
		for i := range rapid.IntRange(0, 12).Draw(t, "keys") {
			r := KeyRecord{CreatedSeq: uint64(i)*2 + 1}
			r.Name = rapid.SampledFrom([]string{"a", "A", "b", "ß", ""}).Draw(t, "name")
			r.Account = rapid.SampledFrom([]domain.AccountID{"acme", "umbrella"}).Draw(t, "account")
			for _, at := range []*time.Time{&r.ExpiresAt, &r.LastUsedAt} {
				if n := rapid.Int64Range(0, 3).Draw(t, "time"); n > 0 {
					*at = instant(n)
				}
			}
			all = append(all, r)
		}
		q := KeyQuery{Account: "acme", Now: instant(2), Sort: rapid.SampledFrom(KeySorts()).Draw(t, "sort")}
		scan := rapid.IntRange(1, 6).Draw(t, "scan")
		first, err := q.Plan()
		if err != nil {
			t.Fatal(err)
		}
		var want []uint64
		for _, r := range inOrder(&first, all) {
			if r.Account == "acme" {
				want = append(want, r.CreatedSeq)
			}
		}
		walk(t, want, func(token string, size int) (seqs []uint64, prev, next string) {
			q.Page, q.PageSize = token, size
			if token != "" {
				q.Now = instant(99) // a later page goes on with the first's
			}
			page := keyPage(t, q, scan, all)
			if !page.Now.Equal(instant(2)) {
				t.Fatalf("the query is of %v", page.Now)
			}
			for _, r := range page.Keys {
				seqs = append(seqs, r.CreatedSeq)
			}
			return seqs, page.Prev, page.Next
		})
	})
}

func TestAuditPagesBothWays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []AuditEntry
		for i := range rapid.IntRange(0, 12).Draw(t, "entries") {
			all = append(all, AuditEntry{Seq: uint64(i) + 1, Actor: rapid.SampledFrom([]domain.ActorID{"me", "you"}).Draw(t, "actor")})
		}
		q := AuditQuery{Actor: "me", OldestFirst: rapid.Bool().Draw(t, "oldest first")}
		scan := rapid.IntRange(1, 6).Draw(t, "scan")
		var want []uint64
		for _, e := range all {
			if e.Actor == "me" {
				want = append(want, e.Seq)
			}
		}
		if !q.OldestFirst {
			slices.Reverse(want)
		}
		walk(t, want, func(token string, size int) (seqs []uint64, prev, next string) {
			q.Page, q.PageSize = token, size
			page := auditPage(t, q, scan, all)
			for _, e := range page.Entries {
				seqs = append(seqs, e.Seq)
			}
			return seqs, page.Prev, page.Next
		})
	})
}

// auditPage answers a query as a store does, by the words of [AuditPlan].
func auditPage(t *rapid.T, q AuditQuery, scan int, all []AuditEntry) AuditPage {
	p, err := q.Plan()
	if err != nil {
		t.Fatal(err)
	}
	p.Scan = scan
	entries := slices.Clone(all)
	if p.Descending {
		slices.Reverse(entries)
	}
	var found []AuditEntry
	looked := 0
	for _, e := range entries {
		if p.From != 0 && (e.Seq == p.From || e.Seq < p.From != p.Descending) {
			continue
		}
		if e.Actor == p.Actor {
			found = append(found, e)
		}
		if looked++; len(found) > p.PageSize {
			break
		}
		if looked == p.Scan {
			return p.Page(found, e.Seq)
		}
	}
	return p.Page(found, 0)
}

// TestTokensBelongToTheirQuery: a token is refused with any other filter or order,
// and accepted with another page size.
func TestTokensBelongToTheirQuery(t *testing.T) {
	now := instant(1)
	q := KeyQuery{Now: now}
	plan, err := q.Plan()
	if err != nil {
		t.Fatal(err)
	}
	token := plan.token(Position{Seq: 7}, false)
	for i, other := range []KeyQuery{
		{Account: "a"}, {Type: domain.KeyTypeAPI}, {Environment: domain.EnvironmentLive}, {Status: domain.StatusActive}, {Scope: "a:b"},
		{Text: "a"}, {CreatedBy: "a"}, {Created: TimeRange{From: now}}, {Created: TimeRange{Before: now}}, {Expires: TimeRange{From: now}},
		{LastUsed: TimeRange{From: now}}, {UnusedSince: now}, {At: &Moment{Seq: 1, Time: now}}, {At: &Moment{Seq: 2, Time: now}}, {Sort: SortOldest}, {Sort: SortName},
	} {
		other.Now, other.Page = now, token
		if _, err := other.Plan(); domain.CodeOf(err) != CodeInvalidPageToken {
			t.Errorf("query %d takes the token: %v", i, err)
		}
	}
	q.Page, q.PageSize, q.Now = token, 7, instant(2)
	if p, err := q.Plan(); err != nil || p.From.Seq != 7 || !p.Now.Equal(now) {
		t.Errorf("%+v, %v", p, err)
	}
	audit := AuditQuery{Page: token}
	if _, err := audit.Plan(); domain.CodeOf(err) != CodeInvalidPageToken {
		t.Errorf("the audit log takes a token of keys: %v", err)
	}
}

func TestQueriesThatCannotBe(t *testing.T) {
	now := instant(1)
	for i, q := range []KeyQuery{
		{Type: "x"}, {Environment: "x"}, {Status: "x"}, {Sort: "x"}, {Text: "a\x1fb"}, {Text: "\x00"}, {Text: "\x7f"}, {PageSize: -1}, {PageSize: MaxPageSize + 1}, {Page: "x"},
		{At: &Moment{Time: now}, Sort: SortName}, {At: &Moment{Time: now}, UnusedSince: now}, {At: &Moment{Time: now}, LastUsed: TimeRange{From: now}},
	} {
		q.Now = now
		if _, err := q.Plan(); domain.KindOf(err) != domain.KindInvalid {
			t.Errorf("query %d: %v", i, err)
		}
	}
	for i, q := range []AuditQuery{{Action: "x"}, {PageSize: -1}, {Page: "x"}} {
		if _, err := q.Plan(); domain.KindOf(err) != domain.KindInvalid {
			t.Errorf("audit query %d: %v", i, err)
		}
	}
	if _, err := (KeyQuery{}).Plan(); err == nil {
		t.Error("a query without Now")
	}
}

// TestMatches states what each filter takes and leaves, one by one.
func TestMatches(t *testing.T) {
	record := func() KeyRecord {
		return KeyRecord{Key: domain.Key{KeySpec: domain.KeySpec{
			Account: "acme", Type: domain.KeyTypeAPI, Environment: domain.EnvironmentLive, Name: "Billing", Scopes: domain.Scopes{"invoices:*"},
			Metadata: map[string]string{"Team": "Blue"}, ExpiresAt: instant(100),
		}, CreatedBy: "me", CreatedAt: instant(10)}, LastUsedAt: instant(20)}
	}
	plain := record()
	never := record()
	never.LastUsedAt, never.ExpiresAt = time.Time{}, time.Time{}
	span := func(from, before int64) TimeRange { return TimeRange{From: instant(from), Before: instant(before)} }
	for _, c := range []struct {
		q            KeyQuery
		plain, never bool
	}{
		{KeyQuery{}, true, true},
		{KeyQuery{Account: "acme"}, true, true},
		{KeyQuery{Account: "umbrella"}, false, false},
		{KeyQuery{Type: domain.KeyTypeManagement}, false, false},
		{KeyQuery{Environment: domain.EnvironmentTest}, false, false},
		{KeyQuery{Status: domain.StatusActive}, true, true},
		{KeyQuery{Status: domain.StatusExpired}, false, false},
		{KeyQuery{Status: domain.StatusExpired, Now: instant(100)}, true, false},
		{KeyQuery{Scope: "invoices:read"}, true, true},
		{KeyQuery{Scope: "users:read"}, false, false},
		{KeyQuery{CreatedBy: "you"}, false, false},
		{KeyQuery{Text: "bILL"}, true, true},
		{KeyQuery{Text: "team"}, true, true},
		{KeyQuery{Text: "BLUE"}, true, true},
		{KeyQuery{Text: "billingteam"}, false, false},
		{KeyQuery{Created: span(10, 11)}, true, true},  // the first instant is in it,
		{KeyQuery{Created: span(9, 10)}, false, false}, // and the last is not
		{KeyQuery{Expires: span(100, 101)}, true, false},
		{KeyQuery{Expires: TimeRange{From: instant(1)}}, true, false},
		{KeyQuery{Expires: TimeRange{Before: instant(100)}}, false, false},
		{KeyQuery{LastUsed: span(20, 21)}, true, false},
		{KeyQuery{LastUsed: TimeRange{Before: instant(20)}}, false, false},
		{KeyQuery{UnusedSince: instant(20)}, false, true}, // used at it
		{KeyQuery{UnusedSince: instant(21)}, true, true},
		{KeyQuery{UnusedSince: instant(10)}, false, false}, // created at it
	} {
		if c.q.Now.IsZero() {
			c.q.Now = instant(50)
		}
		p, err := c.q.Plan()
		if err != nil {
			t.Fatal(err)
		}
		if got, gotNever := p.Matches(&plain), p.Matches(&never); got != c.plain || gotNever != c.never {
			t.Errorf("%s: %t and %t, want %t and %t", fmt.Sprint(p.filter()), got, gotNever, c.plain, c.never)
		}
	}
}
