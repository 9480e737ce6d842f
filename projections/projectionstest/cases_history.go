package projectionstest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// testMoments states by hand what the log's clock is where nodes' clocks differ, and
// what the past looked like.
func testMoments(t *testing.T, s Suite) {
	store, _ := s.open(t)
	log := NewLog()
	at := func(d time.Duration) time.Time { return Start().Add(d) }
	rename := func(name string, time time.Time) {
		e := updated(1, "acme", name)
		if name == "" {
			e = created(1, "acme")
		}
		e.Time = time
		log.Append(e)
	}
	rename("", at(0))
	rename("second", at(time.Hour))
	rename("third", at(30*time.Minute)) // by a clock that is slow
	rename("fourth", at(2*time.Hour))
	Project(t, store, log, projections.Config{BatchSize: 2})
	for _, c := range [...]struct {
		at   projections.At
		want projections.Moment
		name string
	}{
		{projections.At{Time: at(-time.Microsecond)}, projections.Moment{Seq: 0, Time: at(-time.Microsecond)}, ""},
		{projections.At{Time: at(0)}, projections.Moment{Seq: 1, Time: at(0)}, "key 1"},
		{projections.At{Time: at(45 * time.Minute)}, projections.Moment{Seq: 1, Time: at(45 * time.Minute)}, "key 1"},
		{projections.At{Time: at(time.Hour - time.Nanosecond)}, projections.Moment{Seq: 1, Time: at(time.Hour - time.Microsecond)}, "key 1"},
		{projections.At{Time: at(time.Hour)}, projections.Moment{Seq: 3, Time: at(time.Hour)}, "third"},
		{projections.At{Time: at(100 * time.Hour)}, projections.Moment{Seq: 4, Time: at(100 * time.Hour)}, "fourth"},
		{projections.At{Seq: 1}, projections.Moment{Seq: 1, Time: at(0)}, "key 1"},
		{projections.At{Seq: 2}, projections.Moment{Seq: 2, Time: at(time.Hour)}, "second"},
		{projections.At{Seq: 3}, projections.Moment{Seq: 3, Time: at(time.Hour)}, "third"},
	} {
		got, err := store.Moment(t.Context(), c.at)
		if err != nil || got.Seq != c.want.Seq || !projections.Micros(got.Time).Equal(c.want.Time) {
			t.Errorf("moment %+v: %+v, %v; want %+v", c.at, got, err, c.want)
			continue
		}
		key, err := store.Key(t.Context(), keyID(1), &got)
		if c.name == "" && domain.KindOf(err) != domain.KindNotFound || c.name != "" && (err != nil || key.Name != c.name) {
			t.Errorf("key at %+v: %q, %v; want %q", c.at, key.Name, err, c.name)
		}
		page, err := store.Keys(t.Context(), projections.KeyQuery{At: &got})
		if err != nil || len(page.Keys) != min(1, int(c.want.Seq)) || len(page.Keys) > 0 && page.Keys[0].Name != c.name {
			t.Errorf("keys at %+v: %+v, %v; want %q", c.at, page.Keys, err, c.name)
		}
	}
	var seqs []uint64
	page, err := store.Audit(t.Context(), projections.AuditQuery{Clock: projections.TimeRange{From: at(time.Hour), Before: at(2 * time.Hour)}, OldestFirst: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		seqs = append(seqs, e.Seq)
		if !e.Clock.Equal(at(time.Hour)) {
			t.Errorf("the clock at %d is %s", e.Seq, e.Clock)
		}
	}
	if !slices.Equal(seqs, []uint64{2, 3}) {
		t.Errorf("entries of the second hour: %d", seqs)
	}
}

// testChanges states by hand what entries say.
func testChanges(t *testing.T, s Suite) {
	store, _ := s.open(t)
	log := NewLog(
		created(0, "acme"), updated(0, "acme", "renamed"),
		event("acme", 0, domain.KeyLeaked{Source: "scanner", Location: "a/b?c&d", LeakedAt: Start()}),
		event("acme", 0, domain.KeyRevoked{Reason: "left the <company>", RevokedAt: Start().Add(time.Hour)}))
	Project(t, store, log, projections.Config{})
	page, err := store.Audit(t.Context(), projections.AuditQuery{OldestFirst: true})
	if err != nil || len(page.Entries) != 4 {
		t.Fatalf("audit: %+v, %v", page, err)
	}
	for i, want := range [...]string{
		`[{key_type  "api"} {name  "key 0"} {environment  "live"} {scopes  ["invoices:read"]} {display  "sk_live_00000000…"}]`,
		`[{name "key 0" "renamed"}]`,
		`[{leaked_at  "2026-03-01T12:00:00Z"} {leak_source  "scanner"} {leak_location  "a/b?c\u0026d"}]`,
		`[{revoked_at  "2026-03-01T13:00:00Z"} {revoke_reason  "left the \u003ccompany\u003e"}]`,
	} {
		if got := fmt.Sprintf("%s", page.Entries[i].Changes); got != want {
			t.Errorf("changes of entry %d: %s\nwant %s", i+1, got, want)
		}
	}
	if got := page.Entries[3].Reason; got != "left the <company>" {
		t.Errorf("reason: %q", got)
	}
}

// testVoids states by hand which events have no effect, over batches of any size and
// a restart.
func testVoids(t *testing.T, s Suite) {
	stolen, _ := created(2, "acme").Data.(domain.KeyCreated)
	first, _ := created(1, "acme").Data.(domain.KeyCreated)
	stolen.Mac = first.Mac
	forged := created(3, "acme")
	forged.Aggregate.Account = "default"
	log := NewLog(
		created(1, "acme"),
		created(1, "default"),           // another's id
		updated(1, "default", "mine"),   // so it is not theirs
		event("acme", 2, stolen),        // another's mac
		updated(2, "acme", "mine"),      // so there is no key
		forged,                          // of another account than it says
		updated(9, "acme", "nobody's"),  // of no key
		created(1, "acme"),              // again
		updated(1, "acme", "after all"), // and the first is as good as before
		created(3, "acme"),              // what was forged takes nothing
	)
	want := []projections.VoidReason{
		"", projections.VoidKeyIDTaken, projections.VoidKeyIDTaken, projections.VoidMacTaken, projections.VoidMacTaken,
		projections.VoidSubjectMismatch, projections.VoidNoKey, projections.VoidCreatedTwice, "", "",
	}
	for _, size := range [...]int{1, 3, 100} {
		place := s.NewPlace(t)
		store := s.Open(t, place)
		Project(t, store, NewLog(log.Events()[:4]...), projections.Config{BatchSize: size})
		mustClose(t, store)
		store = s.mustOpen(t, place)
		Project(t, store, log, projections.Config{BatchSize: size})
		page, err := store.Audit(t.Context(), projections.AuditQuery{OldestFirst: true})
		if err != nil || len(page.Entries) != len(want) {
			t.Fatalf("audit: %+v, %v", page, err)
		}
		for i, e := range page.Entries {
			if e.Void != want[i] || e.Void != "" && len(e.Changes) > 0 {
				t.Errorf("batches of %d: entry %d is void by %q, want %q; changes %+v", size, e.Seq, e.Void, want[i], e.Changes)
			}
		}
		if got := names(t, store); !slices.Equal(got, []string{"after all", "key 3"}) {
			t.Errorf("batches of %d: keys %v", size, got)
		}
		Check(t, store, log.Events())
	}
}
