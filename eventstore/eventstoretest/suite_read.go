package eventstoretest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

func testFilters(t *testing.T, site Site) {
	log, acct := site.open(t), account(t)
	other := acct + "_2"
	later := Meta("c3")
	later.Time = Time().Add(3 * time.Hour)
	var all []eventstore.Event
	all = append(all, MustAppend(t, log, Meta("c1"), Created(acct, 1), Created(acct, 2))...)
	all = append(all, MustAppend(t, log, Meta("c2"), Created(other, 1))...)
	all = append(all, MustAppend(t, log, later,
		eventstore.Change{Aggregate: Key(acct, 1), ExpectedSeq: all[0].Seq, Events: []domain.Event{Renamed("x"), domain.KeyRevoked{Reason: "r", RevokedAt: Time()}}})...)
	first, last := all[0].Seq, all[4].Seq
	for name, c := range map[string]struct {
		filter eventstore.Filter
		want   []int
	}{
		"everything from a seq":     {eventstore.Filter{FromSeq: first}, []int{0, 1, 2, 3, 4}},
		"up to a seq":               {eventstore.Filter{FromSeq: first, ToSeq: first + 2}, []int{0, 1, 2}},
		"account":                   {eventstore.Filter{Account: acct}, []int{0, 1, 3, 4}},
		"other account":             {eventstore.Filter{Account: other}, []int{2}},
		"key":                       {eventstore.Filter{Account: acct, Key: KeyID(1)}, []int{0, 3, 4}},
		"key of any account":        {eventstore.Filter{Key: KeyID(1), FromSeq: first}, []int{0, 2, 3, 4}},
		"type":                      {eventstore.Filter{FromSeq: first, Types: []domain.EventType{domain.TypeKeyRevoked}}, []int{4}},
		"types":                     {eventstore.Filter{Account: acct, Types: []domain.EventType{domain.TypeKeyRevoked, domain.TypeKeyCreated}}, []int{0, 1, 4}},
		"time":                      {eventstore.Filter{Account: acct, FromTime: Time().Add(time.Hour)}, []int{3, 4}},
		"time in the future":        {eventstore.Filter{Account: acct, FromTime: time.Now().Add(time.Hour)}, nil},
		"account, up to a seq":      {eventstore.Filter{Account: acct, ToSeq: first + 2}, []int{0, 1}},
		"account, between events":   {eventstore.Filter{Account: acct, FromSeq: first + 2, ToSeq: first + 2}, nil},
		"from beyond the end":       {eventstore.Filter{FromSeq: last + 1000}, nil},
		"account, beyond the end":   {eventstore.Filter{Account: acct, FromSeq: last + 1}, nil},
		"unknown account":           {eventstore.Filter{Account: acct + "_3"}, nil},
		"account and seq and types": {eventstore.Filter{Account: acct, FromSeq: first + 1, Types: []domain.EventType{domain.TypeKeyCreated}}, []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			var want []eventstore.Event
			for _, i := range c.want {
				want = append(want, all[i])
			}
			got := mustCollect(t, log, c.filter)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", seqs(got), seqs(want))
			}
		})
	}
	// The caller may stop, and start again where it stopped.
	var got []eventstore.Event
	for from := first; len(got) < 5; {
		for e, err := range log.Replay(t.Context(), eventstore.Filter{FromSeq: from}) {
			if err != nil {
				t.Fatal(err)
			}
			got, from = append(got, e), e.Seq+1
			break
		}
	}
	if !reflect.DeepEqual(got, all) {
		t.Errorf("in pages of one: got %v, want %v", seqs(got), seqs(all))
	}
	if err := log.Health(); err != nil {
		t.Errorf("a reader's odd wishes raised an alarm: %v", err)
	}
}

func mustCollect(t *testing.T, log *eventstore.Log, f eventstore.Filter) []eventstore.Event {
	t.Helper()
	var events []eventstore.Event
	for e, err := range log.Replay(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func seqs(events []eventstore.Event) []uint64 {
	out := make([]uint64, len(events))
	for i, e := range events {
		out[i] = e.Seq
	}
	return out
}

func testFollow(t *testing.T, site Site) {
	log, acct := site.open(t), account(t)
	MustAppend(t, log, Meta("c"), Created(acct, 0))
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	n := 0
	for e, err := range log.Follow(ctx, eventstore.Filter{Account: acct}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Aggregate != Key(acct, n) {
			t.Fatalf("got %v, want key %d", e.Aggregate, n)
		}
		if n++; n == 5 {
			cancel() // ends without an error
			continue
		}
		MustAppend(t, log, Meta("c"), Created(acct, n))
	}
	if n != 5 {
		t.Errorf("%d events", n)
	}
	end := MustAppend(t, log, Meta("c"), Created(acct, 9))[0].Seq
	got := 0
	for _, err := range log.Follow(t.Context(), eventstore.Filter{Account: acct, ToSeq: end}) {
		if err != nil {
			t.Fatal(err)
		}
		got++
	}
	if got != 6 {
		t.Errorf("up to a seq: %d events", got)
	}
}

func testAt(t *testing.T, site Site) {
	log, acct := site.open(t), account(t)
	want := MustAppend(t, log, Meta("c"), Created(acct, 1), Created(acct, 2))
	for _, w := range want {
		got, err := log.At(t.Context(), w.Seq)
		if err != nil || !reflect.DeepEqual(got, w) {
			t.Errorf("at %d: %+v, %v", w.Seq, got, err)
		}
	}
	for _, seq := range []uint64{0, want[1].Seq + 1000} {
		if e, err := log.At(t.Context(), seq); !errors.Is(err, eventstore.ErrNoEvent) {
			t.Errorf("at %d: %+v, %v", seq, e, err)
		}
	}
	head, err := log.Head(t.Context())
	if err != nil || head != want[1].Seq {
		t.Errorf("head %d, %v", head, err)
	}
}

// Readers see every event once and in order, whatever happens to the connection
// and to the stream's leader.
func testTailDisturbed(t *testing.T, site Site) {
	const readers, writers, disturbances, between = 3, 8, 3, 50
	log, acct := site.open(t), account(t)
	head, err := log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	url := site.URL
	if site.Through != nil {
		url = site.Through()
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	var appended, stop atomic.Uint64
	end := make(chan uint64, 1)
	tails := make([]*tailed, readers)
	done := make(chan error, readers)
	for i := range tails {
		tails[i] = &tailed{from: head + 1}
		reader := MustOpen(t, eventstore.Config{Conn: site.connectTo(t, url), Replicas: site.Replicas})
		go func() { done <- tails[i].run(ctx, reader) }()
	}
	go func() {
		defer func() { end <- 0 }()
		inParallel(writers, func(w int) {
			for n := 0; stop.Load() == 0; n++ {
				id := fmt.Sprintf("%d-%d", w, n)
				_, err := Execute(ctx, log, Key(acct, w*100000+n), id, func(eventstore.History) []domain.Event {
					return []domain.Event{KeyCreated(acct, w*100000+n)}
				})
				if err != nil {
					t.Errorf("append %s: %v", id, err)
					return
				}
				appended.Add(1)
			}
		})
	}()
	control := site.connect(t)
	for range disturbances {
		before := appended.Load()
		Eventually(t, waitFor, "events are appended", func() bool { return appended.Load() >= before+between })
		site.Disturb(t, control)
	}
	before := appended.Load()
	Eventually(t, waitFor, "events are appended", func() bool { return appended.Load() >= before+between })
	stop.Store(1)
	<-end
	if head, err = log.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tail := range tails {
		Eventually(t, waitFor, "the tails reach the end and say so", func() bool { return tail.caughtUpAt.Load() == head })
	}
	cancel()
	for range tails {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	t.Logf("%d events, %d tails, %d disturbances", appended.Load(), readers, disturbances)
}

// tailed checks the order of what a tail hands over.
type tailed struct {
	from       uint64
	caughtUpAt atomic.Uint64
}

func (r *tailed) run(ctx context.Context, log *eventstore.Log) error {
	next := r.from
	return log.Tail(ctx, r.from, func(_ context.Context, b eventstore.Batch) error {
		for _, e := range b.Events {
			if e.Seq != next {
				return fmt.Errorf("event %d comes where %d is due", e.Seq, next)
			}
			next++
		}
		if b.CaughtUp {
			r.caughtUpAt.Store(next - 1)
		}
		return nil
	})
}

func testTailHandlerError(t *testing.T, site Site) {
	log, acct := site.open(t), account(t)
	from := MustAppend(t, log, Meta("c"), Created(acct, 1), Created(acct, 2))[0].Seq
	broken := errors.New("broken")
	calls := 0
	err := log.Tail(t.Context(), from, func(context.Context, eventstore.Batch) error { calls++; return broken })
	if !errors.Is(err, broken) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	// At the end of the log, the first batch is empty and says so.
	head, err := log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var first *eventstore.Batch
	err = log.Tail(t.Context(), head+1, func(_ context.Context, b eventstore.Batch) error { first = &b; return broken })
	if !errors.Is(err, broken) || first == nil || len(first.Events) != 0 || !first.CaughtUp {
		t.Errorf("%v, %+v", err, first)
	}
}

func testNoGap(t *testing.T, site Site) {
	log := site.open(t)
	events := mustReadAll(t, log)
	ids := make(map[string]bool, len(events))
	for _, e := range events {
		if ids[e.ID] {
			t.Errorf("the id %s is there twice", e.ID)
		}
		ids[e.ID] = true
	}
	if !slices.IsSortedFunc(events, func(a, b eventstore.Event) int { return int(a.Seq) - int(b.Seq) }) {
		t.Error("out of order")
	}
	t.Logf("%d events", len(events))
}
