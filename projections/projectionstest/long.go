package projectionstest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/projections"
)

// LongHistory is a history of many events, and questions about it.
type LongHistory struct {
	Events int // 0: 100,000
	Seed   int // of the events and the questions
	// Moments is how many moments of the past are asked about; 0: 40.
	Moments int
}

// RunLong takes a long history into a store, through a projector, and compares the
// store's answers with the model's: as things are, and as they were at random
// moments. It returns a digest of all answers, which is the same for every store.
func RunLong(t *testing.T, s Suite, h LongHistory) string {
	t.Helper()
	if h.Events == 0 {
		h.Events = 100_000
	}
	if h.Moments == 0 {
		h.Moments = 40
	}
	began := time.Now()
	phase := func(name string) {
		t.Logf("%s: %s", name, time.Since(began).Round(time.Millisecond))
		began = time.Now()
	}
	log := NewLog(Example(h.Events, h.Seed)...)
	log.RunSize = 512
	phase("make the history")
	store, _ := s.open(t)
	Project(t, store, log, projections.Config{})
	phase("take it in")
	l := &long{t: t, store: store, m: NewModel(log.Events()), seed: h.Seed, sum: sha256.New()}
	l.use()
	checkState(t, store, l.m)
	phase("fold the model")
	l.everything()
	phase("compare everything")
	l.present(h.Moments)
	phase("compare the present")
	l.past(h.Moments)
	phase("compare the past")
	digest := hex.EncodeToString(l.sum.Sum(nil))
	t.Logf("seed %d: %d events, %d keys, %d questions, %d rows; digest %s", h.Seed, h.Events, len(l.m.present()), l.questions, l.rows, digest)
	return digest
}

// long asks, compares, and sums up the answers.
type long struct {
	t     *testing.T
	store Store
	m     *Model
	seed  int
	sum   hash.Hash

	questions, rows int
}

// drawn draws something about the history, another at every call.
func drawn[T any](l *long, draw func(questions) T) T {
	l.seed++
	return rapid.Custom(func(t *rapid.T) T { return draw(questions{t, l.m}) }).Example(l.seed)
}

// answer adds answers to the digest.
func (l *long) answer(answers ...any) {
	l.t.Helper()
	l.questions++
	l.rows += len(answers)
	for _, a := range answers {
		text, err := json.Marshal(a)
		if err != nil {
			l.t.Fatal(err)
		}
		l.sum.Write(append(text, '\n'))
	}
}

// list reads a list up to a limit, and a little back, and adds it to the digest.
func list[T any](l *long, p *pager[T], limit, size int) {
	l.t.Helper()
	var rows []any
	p.begin(l.t, size)
	for {
		for _, row := range p.page.rows[:min(len(p.page.rows), limit-len(rows))] { // however the store's pages end
			rows = append(rows, row)
		}
		if len(rows) == limit || !p.next(l.t, size) {
			break
		}
	}
	for range 2 {
		p.prev(l.t, size)
	}
	l.answer(rows...)
}

// use notes uses of some keys, and of keys that are not known.
func (l *long) use() {
	l.t.Helper()
	end := l.m.clock(uint64(len(l.m.events)))
	var uses []projections.KeyUse
	for n := 0; n < len(l.m.events); n += 7 {
		uses = append(uses, projections.KeyUse{Key: keyID(n), At: end.Add(-time.Duration(n%977) * time.Hour)})
	}
	mustUse(l.t, l.store, uses...)
	l.m.Use(uses...)
}

// everything compares all keys and all entries.
func (l *long) everything() {
	l.t.Helper()
	now := l.m.clock(uint64(len(l.m.events)))
	list(l, keyPages(l.store, l.m, projections.KeyQuery{Now: now}), len(l.m.events), projections.MaxPageSize)
	list(l, entryPages(l.store, l.m, projections.AuditQuery{OldestFirst: true}), len(l.m.events), projections.MaxPageSize)
	for _, order := range projections.KeySorts() {
		list(l, keyPages(l.store, l.m, projections.KeyQuery{Now: now, Sort: order}), 2000, 300)
	}
}

// present compares answers about things as they are.
func (l *long) present(n int) {
	l.t.Helper()
	for range n {
		q := drawn(l, func(d questions) projections.KeyQuery { return d.keys(nil) })
		pages := keyPages(l.store, l.m, q)
		checkCount(l.t, l.store, q, len(pages.want))
		list(l, pages, 700, 200)
		list(l, entryPages(l.store, l.m, drawn(l, questions.audit)), 700, 200)
		l.key(nil)
	}
}

// past compares answers about moments, in their order, since the model folds on.
func (l *long) past(n int) {
	l.t.Helper()
	var moments []projections.Moment
	for range n {
		at := checkMoment(l.t, l.store, l.m, drawn(l, questions.at))
		l.answer(at.Seq, projections.Micros(at.Time))
		moments = append(moments, at)
	}
	slices.SortFunc(moments, func(a, b projections.Moment) int { return int(a.Seq) - int(b.Seq) })
	for i, at := range moments {
		if i%(n/4+1) == n/8 { // a few times everything
			list(l, keyPages(l.store, l.m, projections.KeyQuery{At: &at}), len(l.m.events), projections.MaxPageSize)
		}
		for range 2 {
			q := drawn(l, func(d questions) projections.KeyQuery { return d.keys(&at) })
			pages := keyPages(l.store, l.m, q)
			checkCount(l.t, l.store, q, len(pages.want))
			list(l, pages, 700, 200)
		}
		for range 5 {
			l.key(&at)
		}
	}
}

// key compares one key.
func (l *long) key(at *projections.Moment) {
	l.t.Helper()
	id := drawn(l, func(d questions) int { return rapid.IntRange(0, len(l.m.present())).Draw(d.t, "key") })
	checkKey(l.t, l.store, l.m, keyID(id), at)
	key, err := l.store.Key(ctx(), keyID(id), at)
	l.answer(key, err == nil)
}
