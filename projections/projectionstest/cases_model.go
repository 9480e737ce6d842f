package projectionstest

import (
	"context"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
)

// Readable is what [Check] asks.
type Readable interface {
	projections.Reader
	State(context.Context) (projections.State, error)
}

// Check compares a store in which no key was used with a model of the log's events:
// every key, and the audit log.
func Check(t fataler, store Readable, events []eventstore.Event) {
	t.Helper()
	check(t, store, NewModel(events))
}

func check(t fataler, store Readable, m *Model) {
	t.Helper()
	readAll(t, keyPages(store, m, projections.KeyQuery{Now: Start()}), projections.MaxPageSize)
	for _, want := range m.all(nil) {
		checkKey(t, store, m, want.ID, nil)
	}
	checkKey(t, store, m, "key_none", nil)
	readAll(t, entryPages(store, m, projections.AuditQuery{}), projections.MaxPageSize)
	checkState(t, store, m)
}

// checkState compares the checkpoint.
func checkState(t fataler, store Readable, m *Model) {
	t.Helper()
	state, err := store.State(ctx())
	var want projections.Checkpoint
	if n := len(m.events); n > 0 {
		want = projections.Checkpoint{Seq: m.events[n-1].Seq, EventID: m.events[n-1].ID, Clock: m.clock(uint64(n))}
	}
	if err != nil || !state.Live || state.At != want {
		t.Fatalf("state %+v, %v; want it at %+v", state, err, want)
	}
}

func checkKey(t fataler, store projections.Reader, m *Model, id domain.KeyID, at *projections.Moment) {
	t.Helper()
	want, exists := m.Key(id, at)
	got, err := store.Key(ctx(), id, at)
	switch {
	case !exists && (domain.KindOf(err) != domain.KindNotFound || domain.CodeOf(err) != domain.CodeKeyNotFound):
		t.Fatalf("key %s at %+v, which there is not: %+v, %v", id, at, got, err)
	case exists && (err != nil || !reflect.DeepEqual(got, want)):
		t.Fatalf("key %s at %+v is\n%+v, %v\nwant\n%+v", id, at, got, err, want)
	}
}

func checkCount(t fataler, store projections.Reader, q projections.KeyQuery, keys int) {
	t.Helper()
	want := projections.Count{Keys: keys}
	if got, err := store.CountKeys(ctx(), q); err != nil || got != want {
		t.Fatalf("count of keys %s: %+v, %v; want %+v", describe(q), got, err, want)
	}
}

func checkMoment(t fataler, store projections.Reader, m *Model, at projections.At) projections.Moment {
	t.Helper()
	want := m.Moment(at)
	got, err := store.Moment(ctx(), at)
	if err != nil || got.Seq != want.Seq || !projections.Micros(got.Time).Equal(want.Time) {
		t.Fatalf("moment %+v: %+v, %v; want %+v", at, got, err, want)
	}
	return got
}

// testModel compares the store with a model over histories that rapid makes, taken
// in with batches, caches, restarts and rebuilds of any size, for a quarter of a
// minute at most.
func testModel(t *testing.T, s Suite) {
	const limit = 15 * time.Second
	began, failed := time.Now(), false
	runs := 0
	rapid.Check(t, func(r *rapid.T) {
		if time.Since(began) > limit && !failed {
			return
		}
		passed := false
		defer func() { failed = failed || !passed }() // rapid looks for a smaller one then, whatever the time
		testOneModel(t, r, s)
		passed = true
		runs++
	})
	t.Logf("%d histories", runs)
}

func testOneModel(t *testing.T, r *rapid.T, s Suite) {
	t.Helper()
	events := History(r, 1, 80)
	place := s.NewPlace(t)
	cut := rapid.IntRange(0, len(events)).Draw(r, "restart after")
	log := NewLog(events[:cut]...)
	log.RunSize = rapid.IntRange(1, 40).Draw(r, "run")
	cfg := projections.Config{BatchSize: rapid.IntRange(1, 60).Draw(r, "batch"), CacheSize: rapid.IntRange(1, 20).Draw(r, "cache")}
	store := s.Open(t, place)
	defer func() { _ = store.Close() }()
	Project(t, store, log, cfg)
	before := NewModel(log.Events())
	uses := questions{r, before}.uses()
	if err := Use(ctx(), store, uses...); err != nil {
		r.Fatalf("use: %v", err)
	}
	switch rapid.IntRange(0, 3).Draw(r, "between") {
	case 0:
		if err := store.Close(); err != nil {
			r.Fatalf("close: %v", err)
		}
		store = s.Open(t, place)
	case 1:
		Rebuild(t, store, log, cfg)
	}
	log.Append(events[cut:]...)
	Project(t, store, log, cfg)
	m := NewModel(log.Events())
	m.Use(uses...)
	check(r, store, m)
	ask(r, store, m, 4)
	for range 3 {
		at := checkMoment(r, store, m, questions{r, m}.at())
		askPast(r, store, m, at, 2)
	}
}

// ask compares answers to random questions about the present.
func ask(r *rapid.T, store projections.Reader, m *Model, n int) {
	for range n {
		q := questions{r, m}.keys(nil)
		pages := keyPages(store, m, q)
		checkCount(r, store, q, len(pages.want))
		stroll(r, pages)
		stroll(r, entryPages(store, m, questions{r, m}.audit()))
	}
}

// askPast compares answers to random questions about a moment.
func askPast(r *rapid.T, store projections.Reader, m *Model, at projections.Moment, n int) {
	for range n {
		q := questions{r, m}.keys(&at)
		pages := keyPages(store, m, q)
		checkCount(r, store, q, len(pages.want))
		stroll(r, pages)
		checkKey(r, store, m, keyID(rapid.IntRange(0, 30).Draw(r, "key")), &at)
	}
}

// stroll reads a list to and fro, with pages of any size, to its end.
func stroll[T any](r *rapid.T, p *pager[T]) {
	size := func() int { return rapid.IntRange(1, 20).Draw(r, "page size") }
	p.begin(r, size())
	for p.next(r, size()) {
		if rapid.IntRange(0, 4).Draw(r, "turn round") == 0 {
			p.prev(r, size())
			p.next(r, size())
		}
	}
	for p.prev(r, size()) {
	}
}
