package projectionstest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// testOrders reads lists in every order, both ways, with pages of every size, where
// many keys are equal in what the order goes by.
func testOrders(t *testing.T, s Suite) {
	store, _ := s.open(t)
	log := NewLog(Example(150, 11)...)
	Project(t, store, log, projections.Config{})
	m := NewModel(log.Events())
	var uses []projections.KeyUse
	for i := range 40 {
		uses = append(uses, projections.KeyUse{Key: keyID(i), At: Start().Add(time.Duration(i%5) * time.Hour)})
	}
	if err := Use(t.Context(), store, uses...); err != nil {
		t.Fatal(err)
	}
	m.Use(uses...)
	now := m.clock(150)
	for _, order := range append(projections.KeySorts(), "") {
		for _, size := range [...]int{1, 2, 3, 7, projections.MaxPageSize} {
			readAll(t, keyPages(store, m, projections.KeyQuery{Now: now, Sort: order}), size)
			readAll(t, keyPages(store, m, projections.KeyQuery{Now: now, Sort: order, Account: "acme", Status: domain.StatusActive}), size)
		}
	}
	past := m.Moment(projections.At{Seq: 90})
	for _, order := range [...]projections.KeySort{projections.SortNewest, projections.SortOldest} {
		for _, size := range [...]int{1, 3, projections.MaxPageSize} {
			readAll(t, keyPages(store, m, projections.KeyQuery{At: &past, Sort: order}), size)
		}
	}
	for _, oldest := range [...]bool{false, true} {
		for _, size := range [...]int{1, 7, projections.MaxPageSize} {
			readAll(t, entryPages(store, m, projections.AuditQuery{OldestFirst: oldest}), size)
			readAll(t, entryPages(store, m, projections.AuditQuery{OldestFirst: oldest, Account: "acme", FromSeq: 20, ToSeq: 130}), size)
		}
	}
}

// testPagingWhileKeysAreCreated reads pages while keys are created and changed, in
// the orders by creation: what was there at the first page comes once each, in
// order; what came later comes after it (oldest first) or not at all.
func testPagingWhileKeysAreCreated(t *testing.T, s Suite) {
	for _, order := range [...]projections.KeySort{projections.SortNewest, projections.SortOldest} {
		t.Run(string(order), func(t *testing.T) {
			store, _ := s.open(t)
			const before, later = 95, 60
			log := NewLog()
			for i := range before {
				log.Append(created(i, "acme"))
			}
			Project(t, store, log, projections.Config{})
			var writing sync.WaitGroup
			q := projections.KeyQuery{Account: "acme", Now: Start(), PageSize: 10, Sort: order}
			var seen []uint64
			for first := true; ; first = false {
				page, err := store.Keys(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				for _, k := range page.Keys {
					seen = append(seen, k.CreatedSeq)
				}
				if first {
					for i := range later {
						log.Append(created(before+i, "acme"), updated(i, "acme", "renamed"))
					}
					writing.Go(func() { Project(t, store, log, projections.Config{BatchSize: 7}) })
				}
				if q.Page = page.Next; q.Page == "" {
					break
				}
			}
			writing.Wait()
			if len(seen) != before && (order == projections.SortNewest || len(seen) < before) {
				t.Fatalf("%d keys, %d were there: %v", len(seen), before, seen)
			}
			for i, seq := range seen {
				want := uint64(i) + 1
				switch {
				case i >= before: // the others were created by every other event
					want = before + 2*uint64(i-before) + 1
				case order == projections.SortNewest:
					want = before - uint64(i)
				}
				if seq != want {
					t.Fatalf("key %d is the one of seq %d, want %d", i, seq, want)
				}
			}
			Check(t, store, log.Events())
		})
	}
}

func testPageTokens(t *testing.T, s Suite) {
	store, _ := s.open(t)
	mustReplace(t, store, claims(projections.Checkpoint{}, 7, "key"))
	q := projections.KeyQuery{Now: Start(), PageSize: 2}
	keys, err := store.Keys(t.Context(), q)
	if err != nil || keys.Next == "" {
		t.Fatalf("first page: %+v, %v", keys, err)
	}
	a := projections.AuditQuery{PageSize: 2}
	audit, err := store.Audit(t.Context(), a)
	if err != nil || audit.Next == "" {
		t.Fatalf("first page: %+v, %v", audit, err)
	}
	past := projections.Moment{Seq: 5, Time: Start()}
	other := projections.Moment{Seq: 6, Time: Start()}
	old, err := store.Keys(t.Context(), projections.KeyQuery{At: &past, PageSize: 2})
	if err != nil || old.Next == "" {
		t.Fatalf("first page of the past: %+v, %v", old, err)
	}
	middle := len(keys.Next) / 2
	flipped := keys.Next[:middle] + string(keys.Next[middle]^1) + keys.Next[middle+1:]
	for name, token := range map[string]string{
		"cut": keys.Next[:len(keys.Next)-2], "other list": audit.Next, "no token": "hello", "too long": strings.Repeat(keys.Next, 20),
		"flipped": flipped, "of the past": old.Next, "line break": keys.Next + "\n",
	} {
		q.Page = token
		wantInvalid(t, "keys, "+name, projections.CodeInvalidPageToken)(store.Keys(t.Context(), q))
	}
	for name, token := range map[string]string{"other list": keys.Next, "no token": "hello", "cut": audit.Next[1:]} {
		a.Page = token
		_, err := store.Audit(t.Context(), a)
		wantInvalid(t, "audit, "+name, projections.CodeInvalidPageToken)(projections.KeyPage{}, err)
	}
	for name, q := range map[string]projections.KeyQuery{
		"filter": {Now: Start(), Account: "acme", Page: keys.Next}, "order": {Now: Start(), Sort: projections.SortOldest, Page: keys.Next},
		"moment": {At: &other, Page: old.Next}, "present": {Now: Start(), Page: old.Next},
	} {
		wantInvalid(t, "keys, another "+name, projections.CodeInvalidPageToken)(store.Keys(t.Context(), q))
	}
	for name, a := range map[string]projections.AuditQuery{"filter": {Account: "acme", Page: audit.Next}, "order": {OldestFirst: true, Page: audit.Next}} {
		_, err := store.Audit(t.Context(), a)
		wantInvalid(t, "audit, another "+name, projections.CodeInvalidPageToken)(projections.KeyPage{}, err)
	}
	q = projections.KeyQuery{Now: Start().Add(time.Hour), PageSize: 5, Page: keys.Next}
	if page, err := store.Keys(t.Context(), q); err != nil || len(page.Keys) != 5 || page.Next != "" || page.Prev == "" {
		t.Errorf("with another page size: %+v, %v", page, err)
	}
}

// wantInvalid takes a refusal of what was asked.
func wantInvalid(t *testing.T, what, code string) func(projections.KeyPage, error) {
	t.Helper()
	return func(_ projections.KeyPage, err error) {
		t.Helper()
		if domain.KindOf(err) != domain.KindInvalid || domain.CodeOf(err) != code {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func testRefusals(t *testing.T, s Suite) {
	store, _ := s.open(t)
	mustReplace(t, store, claims(projections.Checkpoint{}, 3, "key"))
	past := &projections.Moment{Seq: 2, Time: Start()}
	for name, q := range map[string]projections.KeyQuery{
		"type": {Type: "session"}, "environment": {Environment: "prod"}, "status": {Status: "expiring"},
		"page size": {PageSize: projections.MaxPageSize + 1}, "negative page size": {PageSize: -1}, "control character": {Text: "a\x1fb"},
		"order": {Sort: "id"}, "order of the past": {At: past, Sort: projections.SortName}, "use in the past": {At: past, UnusedSince: Start()},
		"last use in the past": {At: past, LastUsed: projections.TimeRange{From: Start()}},
	} {
		q.Now = Start()
		wantInvalid(t, "keys, "+name, domain.CodeValidation)(store.Keys(t.Context(), q))
		if strings.Contains(name, "order") || strings.Contains(name, "page") {
			continue // which a count does not go by
		}
		_, err := store.CountKeys(t.Context(), q)
		wantInvalid(t, "count, "+name, domain.CodeValidation)(projections.KeyPage{}, err)
	}
	for name, q := range map[string]projections.AuditQuery{"action": {Action: "key.lost"}, "page size": {PageSize: -1}} {
		_, err := store.Audit(t.Context(), q)
		wantInvalid(t, "audit, "+name, domain.CodeValidation)(projections.KeyPage{}, err)
	}
	_, err := store.Moment(t.Context(), projections.At{Seq: 4})
	wantInvalid(t, "a moment to come", projections.CodeBeyondHistory)(projections.KeyPage{}, err)
}

// testStrangeText: text that a database may not take finds nothing, or is refused as
// the caller's mistake.
func testStrangeText(t *testing.T, s Suite) {
	store, _ := s.open(t)
	mustReplace(t, store, claims(projections.Checkpoint{}, 3, "key"))
	for _, text := range [...]string{"\x00", "a\x00b", "\xff", "\xed\xa0\x80", "'; drop table keys; --", "$1", "?", strings.Repeat("long", 1000)} {
		for name, q := range map[string]projections.KeyQuery{
			"account": {Account: domain.AccountID(text)}, "creator": {CreatedBy: domain.ActorID(text)}, "scope": {Scope: domain.Scope(text)}, "text": {Text: text},
		} {
			q.Now = Start()
			page, err := store.Keys(t.Context(), q)
			if err != nil && domain.KindOf(err) != domain.KindInvalid || len(page.Keys) > 0 {
				t.Errorf("keys by %s %.20q: %+v, %v", name, text, page, err)
			}
			count, err := store.CountKeys(t.Context(), q)
			if err != nil && domain.KindOf(err) != domain.KindInvalid || count.Keys > 0 {
				t.Errorf("count by %s %.20q: %+v, %v", name, text, count, err)
			}
		}
		for name, q := range map[string]projections.AuditQuery{
			"account": {Account: domain.AccountID(text)}, "actor": {Actor: domain.ActorID(text)}, "key": {Key: domain.KeyID(text)},
			"command": {Command: domain.CommandName(text)}, "command id": {CommandID: text}, "request": {RequestID: text},
		} {
			page, err := store.Audit(t.Context(), q)
			if err != nil && domain.KindOf(err) != domain.KindInvalid || len(page.Entries) > 0 {
				t.Errorf("audit by %s %.20q: %+v, %v", name, text, page, err)
			}
		}
		for _, at := range [...]*projections.Moment{nil, {Seq: 2, Time: Start()}} {
			if _, err := store.Key(t.Context(), domain.KeyID(text), at); domain.KindOf(err) != domain.KindNotFound && domain.KindOf(err) != domain.KindInvalid {
				t.Errorf("key %.20q at %v: %v", text, at, err)
			}
		}
	}
	if got := names(t, store); len(got) != 3 {
		t.Errorf("keys: %v", got)
	}
}

// testBoundedScans: a search that finds nothing among many keys gives up, and goes
// on with the next page.
func testBoundedScans(t *testing.T, s Suite) {
	store, _ := s.open(t)
	const all, part = projections.MaxKeysScanned + 1000, 1000
	build := mustBuild(t, store)
	var at projections.Checkpoint
	for at.Seq < all {
		b := claims(at, part, "hay")
		if at.Seq == 0 { // the oldest is the last that a search from the newest comes to
			b.Versions[0].Name, b.Audit[0].CommandID = "Needle", "needle" // and the last by name
		}
		at = mustWrite(t, build, b)
	}
	mustSwap(t, build)
	past := projections.Moment{Seq: at.Seq, Time: Start()}
	for name, q := range map[string]projections.KeyQuery{"present": {Now: Start()}, "past": {At: &past}} {
		for _, order := range [...]projections.KeySort{projections.SortNewest, projections.SortName, projections.SortExpiresDown, projections.SortUsedDown} {
			if q.Sort = order; q.At != nil && order != projections.SortNewest {
				continue
			}
			q.Text, q.Page = "needle", ""
			page, err := store.Keys(t.Context(), q)
			if err != nil || len(page.Keys) != 0 || page.Next == "" || page.Prev != "" {
				t.Errorf("%s by %s: a search that gives up: %d keys, next %q, %v", name, order, len(page.Keys), page.Next, err)
				continue
			}
			q.Page = page.Next
			page, err = store.Keys(t.Context(), q)
			if err != nil || len(page.Keys) != 1 || page.Keys[0].Name != "Needle" || page.Next != "" || page.Prev == "" {
				t.Errorf("%s by %s: the page after it: %+v, %v", name, order, page, err)
				continue
			}
			q.Page = page.Prev // back over what did not match
			page, err = store.Keys(t.Context(), q)
			if err != nil || len(page.Keys) != 0 || page.Next == "" {
				t.Errorf("%s by %s: the page before it: %d keys, next %q, %v", name, order, len(page.Keys), page.Next, err)
			}
		}
		if count, err := store.CountKeys(t.Context(), projections.KeyQuery{Now: q.Now, At: q.At, Text: "needle"}); err != nil || count != (projections.Count{Keys: 1}) {
			t.Errorf("%s: count: %+v, %v", name, count, err)
		}
		if count, err := store.CountKeys(t.Context(), projections.KeyQuery{Now: q.Now, At: q.At}); err != nil || count != (projections.Count{Keys: all}) {
			t.Errorf("%s: count of all: %+v, %v", name, count, err)
		}
	}
	found, pages := 0, 0
	for q := (projections.AuditQuery{CommandID: "needle"}); pages == 0 || q.Page != ""; pages++ {
		page, err := store.Audit(t.Context(), q)
		if err != nil || pages > all/projections.MaxEntriesScanned+1 {
			t.Fatalf("page %d of a long search: %v", pages, err)
		}
		if (page.SearchedTo != 0) != (page.Next != "") {
			t.Errorf("a search that gives up at %d goes on with %q", page.SearchedTo, page.Next)
		}
		found += len(page.Entries)
		q.Page = page.Next
	}
	if found != 1 {
		t.Errorf("%d entries were found on %d pages", found, pages)
	}
	if page, err := store.Audit(t.Context(), projections.AuditQuery{CommandID: fmt.Sprintf("none-%d", pages), FromSeq: all}); err != nil || page.Next != "" {
		t.Errorf("a short search that finds nothing: %+v, %v", page, err)
	}
}
