package projectionstest

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
)

// Store is a read store under test.
type Store interface {
	projections.Store
	projections.Reader
	Close() error
}

// Opener opens the store that lives in a directory, or under its name; an empty
// one the first time. The suite closes what it opens.
type Opener func(tb testing.TB, dir string) Store

// Run holds a store to the contract of package projections.
func Run(t *testing.T, open Opener) {
	for _, test := range [...]struct {
		name string
		run  func(*testing.T, Opener)
	}{
		{"Empty", testEmpty},
		{"Building", testBuilding},
		{"BatchIsOneTransaction", testBatchIsOneTransaction},
		{"WrongCheckpoint", testWrongCheckpoint},
		{"Claims", testClaims},
		{"Reopen", testReopen},
		{"Model", testModel},
		{"Paging", testPaging},
		{"PageTokens", testPageTokens},
		{"Queries", testQueries},
		{"Changes", testChanges},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open) })
	}
}

func testEmpty(t *testing.T, open Opener) {
	store := mustOpen(t, open, t.TempDir())
	cp, err := store.Checkpoint(t.Context())
	if err != nil || cp != (projections.Checkpoint{}) {
		t.Fatalf("checkpoint of an empty store: %+v, %v", cp, err)
	}
	Project(t, store, NewLog(), projections.Config{})
	keys, err := store.Keys(t.Context(), projections.KeyQuery{Now: Start()})
	if err != nil || len(keys.Keys) != 0 || keys.Next != "" {
		t.Errorf("keys of an empty store: %+v, %v", keys, err)
	}
	audit, err := store.Audit(t.Context(), projections.AuditQuery{})
	if err != nil || len(audit.Entries) != 0 || audit.Next != "" {
		t.Errorf("audit of an empty store: %+v, %v", audit, err)
	}
	if _, err := store.Key(t.Context(), "key_none"); domain.KindOf(err) != domain.KindNotFound || domain.CodeOf(err) != domain.CodeKeyNotFound {
		t.Errorf("key of an empty store: %v", err)
	}
}

// testBuilding: before the first build is finished, readers are told so, or see
// what is written; never an error of another kind.
func testBuilding(t *testing.T, open Opener) {
	store := mustOpen(t, open, t.TempDir())
	read := func() error {
		_, err := store.Keys(t.Context(), projections.KeyQuery{Now: Start()})
		return err
	}
	if err := read(); err != nil && domain.CodeOf(err) != projections.CodeBuilding {
		t.Errorf("keys while building: %v", err)
	}
	mustWrite(t, store, batch(projections.Checkpoint{}, 1, "one"))
	mustFinish(t, store)
	mustFinish(t, store) // again: nothing to do
	if err := read(); err != nil {
		t.Errorf("keys after building: %v", err)
	}
	if cp, err := store.Checkpoint(t.Context()); err != nil || cp != (projections.Checkpoint{Seq: 1, EventID: "one"}) {
		t.Errorf("checkpoint after building: %+v, %v", cp, err)
	}
}

func testBatchIsOneTransaction(t *testing.T, open Opener) {
	for _, finished := range [...]bool{false, true} {
		t.Run(fmt.Sprintf("finished=%t", finished), func(t *testing.T) {
			store := mustOpen(t, open, t.TempDir())
			first := batch(projections.Checkpoint{}, 1, "one")
			mustWrite(t, store, first)
			if finished {
				mustFinish(t, store)
			}
			bad := batch(first.To, 2, "two")
			bad.Macs = append(bad.Macs, bad.Macs[0]) // the same row again: refused in the middle of the batch
			err := store.Write(t.Context(), bad)
			if err == nil && !finished { // a build may say it at the next call
				_, err = store.Checkpoint(t.Context())
			}
			if err == nil || errors.Is(err, projections.ErrCheckpointMoved) {
				t.Fatalf("write of a row that is there already: %v", err)
			}
			cp, err := store.Checkpoint(t.Context())
			if !finished && cp == (projections.Checkpoint{}) {
				mustWrite(t, store, first) // a build may begin again from nothing
				cp = first.To
			}
			if err != nil || cp != first.To {
				t.Fatalf("checkpoint after a batch that failed: %+v, %v", cp, err)
			}
			mustWrite(t, store, batch(first.To, 2, "two")) // so nothing of it was there
			if !finished {
				mustFinish(t, store)
			}
			page, err := store.Keys(t.Context(), projections.KeyQuery{Now: Start()})
			if err != nil || len(page.Keys) != 2 {
				t.Errorf("keys: %+v, %v", page, err)
			}
		})
	}
}

func testWrongCheckpoint(t *testing.T, open Opener) {
	store := mustOpen(t, open, t.TempDir())
	first := batch(projections.Checkpoint{}, 1, "one")
	mustWrite(t, store, first)
	for _, finished := range [...]bool{false, true} {
		if finished {
			mustFinish(t, store)
		}
		for _, from := range [...]projections.Checkpoint{{}, {Seq: 1, EventID: "other"}, {Seq: 2, EventID: "one"}} {
			if err := store.Write(t.Context(), batch(from, 5, "five")); !errors.Is(err, projections.ErrCheckpointMoved) {
				t.Errorf("finished=%t: write from %+v: %v", finished, from, err)
			}
		}
	}
	page, err := store.Keys(t.Context(), projections.KeyQuery{Now: Start()})
	if cp, cpErr := store.Checkpoint(t.Context()); err != nil || cpErr != nil || cp != first.To || len(page.Keys) != 1 {
		t.Errorf("after refusals: checkpoint %+v, %v; keys %+v, %v", cp, cpErr, page, err)
	}
	lost := batch(first.To, 2, "two")
	lost.Ended = []projections.EndedVersion{{Key: "key_none", FromSeq: 1, ToSeq: 2}}
	if err := store.Write(t.Context(), lost); err == nil {
		t.Error("a version was ended that is not there")
	}
}

func testClaims(t *testing.T, open Opener) {
	for _, finished := range [...]bool{false, true} {
		t.Run(fmt.Sprintf("finished=%t", finished), func(t *testing.T) {
			store := mustOpen(t, open, t.TempDir())
			b := batch(projections.Checkpoint{}, 1, "one")
			b.Voids = []projections.VoidKey{
				{Account: "acme", Key: "key_void", Seq: 1, Reason: projections.VoidMacTaken},
				{Account: "default", Key: "key_void", Seq: 1, Reason: projections.VoidNoKey},
			}
			mustWrite(t, store, b)
			if finished {
				mustFinish(t, store)
			}
			known, err := store.Load(t.Context(), projections.Lookup{
				Keys: []domain.KeyID{b.Versions[0].ID, "key_void", "key_none"},
				Macs: []projections.MacHash{b.Macs[0].Hash, {9}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := known.Keys[b.Versions[0].ID]; len(known.Keys) != 1 || !reflect.DeepEqual(got, b.Versions[0].KeyRecord) {
				t.Errorf("keys: %+v", known.Keys)
			}
			if len(known.Voids) != 1 || len(known.Voids["key_void"]) != 2 {
				t.Errorf("voids: %+v", known.Voids)
			}
			for _, v := range known.Voids["key_void"] {
				if v != b.Voids[0] && v != b.Voids[1] {
					t.Errorf("void: %+v", v)
				}
			}
			if len(known.Macs) != 1 || known.Macs[b.Macs[0].Hash] != b.Macs[0].Key {
				t.Errorf("macs: %+v", known.Macs)
			}
			if known, err := store.Load(t.Context(), projections.Lookup{}); err != nil || len(known.Keys)+len(known.Voids)+len(known.Macs) != 0 {
				t.Errorf("nothing was asked: %+v, %v", known, err)
			}
		})
	}
}

func testReopen(t *testing.T, open Opener) {
	dir := t.TempDir()
	log := NewLog(Example(200, 7)...)
	for range 3 {
		store := open(t, dir)
		Project(t, store, log, projections.Config{BatchSize: 10, CacheSize: 4})
		Check(t, store, log.Events())
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		if err := store.Close(); err != nil {
			t.Fatalf("close again: %v", err)
		}
		if _, err := store.Key(t.Context(), "key_none"); domain.KindOf(err) != domain.KindUnavailable {
			t.Errorf("read of a closed store: %v", err)
		}
		log.Append(Example(20, 8)...)
	}
}

// testModel compares the store with a model over histories that rapid makes, taken
// in with batches, caches and restarts of any size.
func testModel(t *testing.T, open Opener) {
	rapid.Check(t, func(r *rapid.T) {
		events := History(r, 1, 80)
		dir := t.TempDir()
		cut := rapid.IntRange(0, len(events)).Draw(r, "restart after")
		log := NewLog(events[:cut]...)
		log.RunSize = rapid.IntRange(1, 40).Draw(r, "run")
		cfg := projections.Config{BatchSize: rapid.IntRange(1, 60).Draw(r, "batch"), CacheSize: rapid.IntRange(1, 20).Draw(r, "cache")}
		store := open(t, dir)
		Project(t, store, log, cfg)
		if rapid.Bool().Draw(r, "reopen") {
			if err := store.Close(); err != nil {
				r.Fatal(err)
			}
			store = open(t, dir)
		}
		defer func() { _ = store.Close() }()
		log.Append(events[cut:]...)
		Project(t, store, log, cfg)
		Check(r, store, log.Events())
		for range 6 {
			checkQuery(r, store, NewModel(log.Events()), drawQuery(r))
		}
	})
}

// drawQuery draws a query that some of a [History] may match.
func drawQuery(r *rapid.T) projections.KeyQuery {
	h := &history{t: r, now: Start().Add(time.Duration(rapid.IntRange(0, 100).Draw(r, "query hour")) * time.Hour)}
	q := projections.KeyQuery{Now: h.now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(r, "nanoseconds"))), PageSize: rapid.IntRange(1, 20).Draw(r, "page size")}
	maybe := func(label string) bool { return rapid.IntRange(0, 2).Draw(r, label) == 0 }
	if maybe("by account") {
		q.Account = h.account()
	}
	if maybe("by type") {
		q.Type = rapid.SampledFrom([]domain.KeyType{domain.KeyTypeAPI, domain.KeyTypeManagement}).Draw(r, "type")
	}
	if maybe("by environment") {
		q.Environment = rapid.SampledFrom([]domain.Environment{domain.EnvironmentLive, domain.EnvironmentTest}).Draw(r, "environment")
	}
	if maybe("by status") {
		q.Status = rapid.SampledFrom([]domain.Status{domain.StatusActive, domain.StatusRevoked, domain.StatusExpired}).Draw(r, "status")
	}
	if maybe("by scope") {
		q.Scope = rapid.SampledFrom([]domain.Scope{
			"invoices:read", "invoices:*", "*", "clients:write", "clients", domain.ScopeKeysRead, "keyledger.keys:write", `odd":"scope`, "",
		}).Draw(r, "scope")
	}
	if maybe("by text") {
		q.Text = h.text("text")
	}
	if maybe("by expiry") {
		q.ExpiringBefore = h.now.Add(h.hours())
	}
	return q
}

// fataler is what *testing.T and *rapid.T have in common.
type fataler interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// checkQuery reads all pages of a query and compares them with the model.
func checkQuery(t fataler, store projections.Reader, m *Model, q projections.KeyQuery) {
	t.Helper()
	var got []projections.KeyRecord
	for {
		page, err := store.Keys(ctx(), q)
		if err != nil {
			t.Fatalf("keys %+v: %v", q, err)
		}
		got = append(got, page.Keys...)
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	same(t, fmt.Sprintf("keys of %+v", q), got, m.Keys(q))
}

// same compares lists, naming the first difference.
func same[T any](t fataler, what string, got, want []T) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Fatalf("%s: %d, want %d; missing:\n%+v", what, len(got), len(want), want[i])
		case i >= len(want):
			t.Fatalf("%s: %d, want %d; too much:\n%+v", what, len(got), len(want), got[i])
		case !reflect.DeepEqual(got[i], want[i]):
			t.Fatalf("%s: number %d is\n%+v\nwant\n%+v", what, i, got[i], want[i])
		}
	}
}

// Check compares a store with a model of the log's events: every key, and the
// audit log.
func Check(t fataler, store Store, events []eventstore.Event) {
	t.Helper()
	m := NewModel(events)
	checkQuery(t, store, m, projections.KeyQuery{Now: Start(), PageSize: projections.MaxPageSize})
	for _, want := range m.Keys(projections.KeyQuery{Now: Start()}) {
		got, err := store.Key(ctx(), want.ID)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("key %s is\n%+v, %v\nwant\n%+v", want.ID, got, err, want)
		}
	}
	var entries []projections.AuditEntry
	for q := (projections.AuditQuery{PageSize: projections.MaxPageSize}); ; {
		page, err := store.Audit(ctx(), q)
		if err != nil {
			t.Fatalf("audit: %v", err)
		}
		entries = append(entries, page.Entries...)
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	for i := range entries {
		if e := &entries[i]; e.Void != "" && len(e.Changes) > 0 {
			t.Errorf("entry %d is void and changes %+v", e.Seq, e.Changes)
		}
		entries[i].Changes, entries[i].Reason = nil, ""
	}
	same(t, "audit", entries, m.Audit(projections.AuditQuery{}))
	cp, err := store.Checkpoint(ctx())
	want := projections.Checkpoint{}
	if n := len(events); n > 0 {
		want = projections.Checkpoint{Seq: events[n-1].Seq, EventID: events[n-1].ID}
	}
	if err != nil || cp != want {
		t.Errorf("checkpoint %+v, %v; want %+v", cp, err, want)
	}
}

// testPaging reads pages while keys are created and changed: what was there at the
// first page comes once each, in order; what came later does not.
func testPaging(t *testing.T, open Opener) {
	store := mustOpen(t, open, t.TempDir())
	const before, later = 95, 60
	log := NewLog()
	for i := range before {
		log.Append(created(i, "acme"))
	}
	Project(t, store, log, projections.Config{})
	var writing sync.WaitGroup
	q := projections.KeyQuery{Account: "acme", Now: Start(), PageSize: 10}
	var seen []uint64
	for first := true; ; first = false {
		page, err := store.Keys(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if !page.Now.Equal(Start()) {
			t.Errorf("a later page is of %s", page.Now)
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
		q.Now = q.Now.Add(time.Hour) // later pages go on with the Now of the first
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	writing.Wait()
	if len(seen) != before {
		t.Fatalf("%d keys, want %d: %v", len(seen), before, seen)
	}
	for i, seq := range seen {
		if seq != uint64(before-i) {
			t.Fatalf("key %d is the one of seq %d", i, seq)
		}
	}
	Check(t, store, log.Events())
}

func testPageTokens(t *testing.T, open Opener) {
	store := mustOpen(t, open, t.TempDir())
	log := NewLog()
	for i := range 5 {
		log.Append(created(i, "acme"))
	}
	Project(t, store, log, projections.Config{})
	keys, err := store.Keys(t.Context(), projections.KeyQuery{Now: Start(), PageSize: 2})
	if err != nil || keys.Next == "" {
		t.Fatalf("first page: %+v, %v", keys, err)
	}
	audit, err := store.Audit(t.Context(), projections.AuditQuery{PageSize: 2})
	if err != nil || audit.Next == "" {
		t.Fatalf("first page: %+v, %v", audit, err)
	}
	for name, token := range map[string]string{"cut": keys.Next[:len(keys.Next)-2], "other list": audit.Next, "no token": "hello", "too long": keys.Next + keys.Next + keys.Next} {
		_, err := store.Keys(t.Context(), projections.KeyQuery{Now: Start(), PageSize: 2, After: token})
		if domain.KindOf(err) != domain.KindInvalid || domain.CodeOf(err) != projections.CodeInvalidPageToken {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := store.Keys(t.Context(), projections.KeyQuery{Now: Start(), Account: "acme", After: keys.Next}); domain.CodeOf(err) != projections.CodeInvalidPageToken {
		t.Errorf("with another filter: %v", err)
	}
	if _, err := store.Audit(t.Context(), projections.AuditQuery{Account: "acme", After: audit.Next}); domain.CodeOf(err) != projections.CodeInvalidPageToken {
		t.Errorf("audit with another filter: %v", err)
	}
	if page, err := store.Keys(t.Context(), projections.KeyQuery{Now: Start().Add(time.Hour), PageSize: 3, After: keys.Next}); err != nil || len(page.Keys) != 3 || page.Next != "" {
		t.Errorf("with another page size: %+v, %v", page, err)
	}
}

func testQueries(t *testing.T, open Opener) {
	store := mustOpen(t, open, t.TempDir())
	log := NewLog()
	for i := range 30 {
		log.Append(created(i, []domain.AccountID{"acme", "default"}[i%2]))
		if i%3 == 0 {
			log.Append(updated(i, []domain.AccountID{"acme", "default"}[i%2], "renamed"))
		}
	}
	Project(t, store, log, projections.Config{})
	m := NewModel(log.Events())
	for _, q := range [...]projections.AuditQuery{
		{Account: "acme"}, {Key: keyID(3)}, {Account: "acme", Key: keyID(3)}, {FromSeq: 5}, {ToSeq: 7}, {FromSeq: 5, ToSeq: 9, Account: "default"}, {FromSeq: 100},
	} {
		q.PageSize = 4
		var got []projections.AuditEntry
		want := m.Audit(q)
		for {
			page, err := store.Audit(t.Context(), q)
			if err != nil {
				t.Fatalf("audit %+v: %v", q, err)
			}
			for _, e := range page.Entries {
				e.Changes = nil
				got = append(got, e)
			}
			if q.After = page.Next; q.After == "" {
				break
			}
		}
		same(t, fmt.Sprintf("audit of %+v", q), got, want)
	}
	for name, q := range map[string]projections.KeyQuery{
		"type": {Type: "session"}, "environment": {Environment: "prod"}, "status": {Status: "expiring"},
		"page size": {PageSize: projections.MaxPageSize + 1}, "negative page size": {PageSize: -1}, "control character": {Text: "a\x1fb"},
	} {
		q.Now = Start()
		if _, err := store.Keys(t.Context(), q); domain.KindOf(err) != domain.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func testChanges(t *testing.T, open Opener) {
	store := mustOpen(t, open, t.TempDir())
	first := created(0, "acme")
	revoked := event("acme", 0, domain.KeyRevoked{Reason: "left the <company>", RevokedAt: Start().Add(time.Hour)})
	log := NewLog(first, updated(0, "acme", "renamed"), revoked)
	Project(t, store, log, projections.Config{})
	page, err := store.Audit(t.Context(), projections.AuditQuery{})
	if err != nil || len(page.Entries) != 3 {
		t.Fatalf("audit: %+v, %v", page, err)
	}
	if e := page.Entries[0]; e.Reason != "left the <company>" || fmt.Sprintf("%s", e.Changes) !=
		`[{revoked_at  "2026-03-01T13:00:00Z"} {revoke_reason  "left the \u003ccompany\u003e"}]` {
		t.Errorf("revoke: %q %s", e.Reason, e.Changes)
	}
	if got := fmt.Sprintf("%s", page.Entries[1].Changes); got != `[{name "key 0" "renamed"}]` {
		t.Errorf("update: %s", got)
	}
	want := `[{key_type  "api"} {name  "key 0"} {environment  "live"} {scopes  ["invoices:read"]} {display  "sk_live_00000000…"}]`
	if got := fmt.Sprintf("%s", page.Entries[2].Changes); got != want {
		t.Errorf("create: %s\nwant %s", got, want)
	}
}
