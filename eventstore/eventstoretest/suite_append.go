package eventstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

func testAppendLoad(t *testing.T, site Site) {
	log, acct := site.open(t), account(t)
	one := MustAppend(t, log, Meta("one"), Created(acct, 1))
	two := MustAppend(t, log, Meta("two"),
		eventstore.Change{Aggregate: Key(acct, 2), Events: []domain.Event{KeyCreated(acct, 2), Renamed("second")}},
		eventstore.Change{Aggregate: Key(acct, 1), ExpectedSeq: one[0].Seq, Events: []domain.Event{Renamed("first")}},
		Created(acct, 3))
	for i, e := range two {
		if want := two[0].Seq + uint64(i); e.Seq != want {
			t.Errorf("event %d of a batch has seq %d, want %d", i, e.Seq, want)
		}
	}
	for _, c := range []struct {
		key  int
		want []eventstore.Event
	}{
		{1, []eventstore.Event{one[0], two[2]}},
		{2, two[:2]},
		{3, two[3:]},
		{4, nil},
	} {
		for _, consistency := range []eventstore.Consistency{eventstore.Leader, eventstore.Nearest} {
			got := mustLoad(t, log, Key(acct, c.key), consistency)
			if len(got.Events) != len(c.want) || len(c.want) > 0 && !reflect.DeepEqual(got.Events, c.want) {
				t.Errorf("key %d: loaded\n%+v\nwant\n%+v", c.key, got.Events, c.want)
			}
			if len(c.want) > 0 && got.LastSeq != c.want[len(c.want)-1].Seq || len(c.want) == 0 && got.LastSeq != 0 {
				t.Errorf("key %d: last seq %d", c.key, got.LastSeq)
			}
		}
	}
	testLongHistory(t, log, acct)
}

// testLongHistory has more events than one page of a read.
func testLongHistory(t *testing.T, log *eventstore.Log, acct domain.AccountID) {
	t.Helper()
	const n = 600
	events := []domain.Event{KeyCreated(acct, 9)}
	for i := range n - 1 {
		events = append(events, Renamed(fmt.Sprint(i)))
	}
	want := MustAppend(t, log, Meta("long"), eventstore.Change{Aggregate: Key(acct, 9), Events: events})
	got := mustLoad(t, log, Key(acct, 9), eventstore.Leader)
	if !reflect.DeepEqual(got.Events, want) {
		t.Errorf("a history of %d events was loaded as %d others", n, len(got.Events))
	}
}

// mustLoad loads; what the nearest replica does not have yet is waited for.
func mustLoad(t *testing.T, log *eventstore.Log, a eventstore.Aggregate, c eventstore.Consistency) eventstore.History {
	t.Helper()
	leader, err := log.Load(t.Context(), a, eventstore.Leader)
	if err != nil {
		t.Fatal(err)
	}
	var h eventstore.History
	Eventually(t, waitFor, "the replica knows what the leader knows", func() bool {
		if h, err = log.Load(t.Context(), a, c); err != nil {
			t.Fatal(err)
		}
		return h.LastSeq == leader.LastSeq
	})
	return h
}

func testAtomic(t *testing.T, site Site) {
	log, acct := site.open(t), account(t)
	MustAppend(t, log, Meta("first"), Created(acct, 1))
	before, err := log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, changes := range map[string][]eventstore.Change{
		"conflict first": {Created(acct, 1), Created(acct, 2)},
		"conflict last":  {Created(acct, 2), Created(acct, 3), Created(acct, 1)},
	} {
		if _, err := log.Append(t.Context(), Meta(name), changes...); !errors.Is(err, eventstore.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	after, err := log.Head(t.Context())
	if err != nil || after != before {
		t.Errorf("the log went from %d to %d (%v)", before, after, err)
	}
	for _, key := range []int{2, 3} {
		if h := mustLoad(t, log, Key(acct, key), eventstore.Leader); len(h.Events) > 0 {
			t.Errorf("a part of a batch was stored: %+v", h)
		}
	}
	if got := MustAppend(t, log, Meta("next"), Created(acct, 4)); got[0].Seq != before+1 {
		t.Errorf("refused batches used up seqs: %d after %d", got[0].Seq, before)
	}
	for name, changes := range map[string][]eventstore.Change{
		"nothing":        nil,
		"no event":       {{Aggregate: Key(acct, 5)}},
		"the same twice": {Created(acct, 5), Created(acct, 5)},
	} {
		if _, err := log.Append(t.Context(), Meta(name), changes...); err == nil {
			t.Errorf("%s: stored", name)
		}
	}
}

// The third code, 10164, is what most losers of a race see on a replicated
// stream: testRace looks for it.
func testConflictCodes(t *testing.T, site Site) {
	acct := account(t)
	var mu sync.Mutex
	ids := 0
	log := site.open(t, func(c *eventstore.Config) {
		c.NewID = func() string { // the same four ids over and over
			mu.Lock()
			defer mu.Unlock()
			ids++
			return fmt.Sprintf("%s-%d", acct, ids%4)
		}
	})
	batch := []eventstore.Change{Created(acct, 1), Created(acct, 2)}
	MustAppend(t, log, Meta("c"), batch...)
	ids = 0
	_, err := log.Append(t.Context(), Meta("c"), batch...)
	if !errors.Is(err, eventstore.ErrConflict) || code(err) != 10201 {
		t.Errorf("a batch sent again: %v", err)
	}
	ids = 0
	if _, err = log.Append(t.Context(), Meta("c"), batch[0]); !errors.Is(err, eventstore.ErrConflict) {
		t.Errorf("an event sent again: %v", err)
	}
	ids = 2
	_, err = log.Append(t.Context(), Meta("d"), batch[0])
	if !errors.Is(err, eventstore.ErrConflict) || code(err) != 10071 && code(err) != 10164 {
		t.Errorf("a stale expectation: %v", err)
	}
}

func testRace(t *testing.T, site Site) {
	const writers, rounds = 64, 12
	acct := account(t)
	logs := make([]*eventstore.Log, 4)
	for i := range logs {
		logs[i] = site.open(t)
	}
	var mu sync.Mutex
	seen := make(map[jetstream.ErrorCode]int)
	last := uint64(0)
	for round := range rounds {
		var won []eventstore.Event
		inParallel(writers, func(i int) {
			change := eventstore.Change{Aggregate: Key(acct, 1), ExpectedSeq: last, Events: []domain.Event{KeyCreated(acct, 1)}}
			events, err := logs[i%len(logs)].Append(t.Context(), Meta(fmt.Sprintf("%d-%d", round, i)), change)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, events...)
			case errors.Is(err, eventstore.ErrConflict):
				seen[code(err)]++
			default:
				t.Errorf("round %d: %v", round, err)
			}
		})
		if len(won) != 1 {
			t.Fatalf("round %d has %d winners", round, len(won))
		}
		last = won[0].Seq
	}
	h := mustLoad(t, logs[0], Key(acct, 1), eventstore.Leader)
	if len(h.Events) != rounds {
		t.Errorf("%d events after %d rounds", len(h.Events), rounds)
	}
	t.Logf("codes of the losers: %v", seen)
	if seen[10071]+seen[10164] != rounds*(writers-1) || seen[10071] == 0 || site.Replicas > 1 && seen[10164] == 0 {
		t.Errorf("codes of the losers: %v", seen)
	}
}

// A client that does not hear the acknowledgement must find what it stored.
func testLostAck(t *testing.T, site Site) {
	acct := account(t)
	proxy := MustProxy(t, site.Addr)
	nc := site.connectTo(t, "nats://"+proxy.Addr())
	log := MustOpen(t, eventstore.Config{Conn: nc, Replicas: site.Replicas, AckTimeout: time.Second})
	single, batch := []eventstore.Change{Created(acct, 1)}, []eventstore.Change{Created(acct, 2), Created(acct, 3)}
	for name, changes := range map[string][]eventstore.Change{"single": single, "batch": batch} {
		proxy.Deafen()
		if _, err := log.Append(t.Context(), Meta(name), changes...); !errors.Is(err, eventstore.ErrUnknownOutcome) {
			t.Fatalf("%s: %v", name, err)
		}
		before := nc.Stats().Reconnects
		proxy.Cut()
		Eventually(t, waitFor, "the client is back", func() bool { return nc.Stats().Reconnects > before })
		// Sent again without a look, it is a conflict.
		if _, err := log.Append(t.Context(), Meta(name), changes...); !errors.Is(err, eventstore.ErrConflict) {
			t.Errorf("%s: sent again: %v", name, err)
		}
		e, err := Execute(t.Context(), log, changes[0].Aggregate, name, func(eventstore.History) []domain.Event {
			t.Errorf("%s: was not found", name)
			return []domain.Event{Renamed("x")}
		})
		if err != nil || e.CommandID != name {
			t.Errorf("%s: found %+v, %v", name, e, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := log.Append(ctx, Meta("late"), Created(acct, 4)); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func testSizes(t *testing.T, site Site) {
	log, acct := site.open(t), account(t)
	change := func(n, pad int) eventstore.Change {
		e := KeyCreated(acct, n)
		e.Description = strings.Repeat("x", pad)
		return eventstore.Change{Aggregate: Key(acct, n), Events: []domain.Event{e}}
	}
	small := MustAppend(t, log, Meta("c"), change(1, 1))
	fits := eventstore.MaxEventBytes - len(small[0].Raw) + 1
	for name, changes := range map[string][]eventstore.Change{
		"alone":      {change(2, fits+1)},
		"in a batch": {change(2, 1), change(3, fits+1)},
	} {
		_, err := log.Append(t.Context(), Meta("c"), changes...)
		if domain.KindOf(err) != domain.KindTooLarge || domain.CodeOf(err) != domain.CodeEventTooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	largest := MustAppend(t, log, Meta("c"), change(4, fits))
	if len(largest[0].Raw) != eventstore.MaxEventBytes {
		t.Fatalf("the largest event has %d bytes", len(largest[0].Raw))
	}
	MustAppend(t, log, Meta("c"), change(5, fits), change(6, fits))
	h := mustLoad(t, log, Key(acct, 4), eventstore.Leader)
	if !bytes.Equal(h.Events[0].Raw, largest[0].Raw) {
		t.Error("the largest event came back changed")
	}
}

func testInjection(t *testing.T, site Site) {
	log := site.open(t)
	for _, id := range []string{"", "*", ">", "a.b", "a b", "a\r\nPUB x 0\r\n", "é", "a\x00b", strings.Repeat("a", 65), "key_*"} {
		for name, a := range map[string]eventstore.Aggregate{
			"account": eventstore.KeyAggregate(domain.AccountID(id), "key_a"),
			"key":     eventstore.KeyAggregate("acct_a", domain.KeyID(id)),
			"kind":    {Account: "acct_a", Kind: eventstore.AggregateKind(id), ID: "key_a"},
		} {
			if _, err := log.Append(t.Context(), Meta("c"), eventstore.Change{Aggregate: a, Events: []domain.Event{Renamed("x")}}); err == nil {
				t.Errorf("append: %s %q was accepted", name, id)
			}
			if _, err := log.Load(t.Context(), a, eventstore.Leader); err == nil {
				t.Errorf("load: %s %q was accepted", name, id)
			}
		}
		if id == "" {
			continue // means "all" in a filter
		}
		for _, f := range []eventstore.Filter{{Account: domain.AccountID(id)}, {Key: domain.KeyID(id)}} {
			for _, err := range log.Replay(t.Context(), f) {
				if domain.KindOf(err) != domain.KindInvalid {
					t.Errorf("replay of %+v: %v", f, err)
				}
			}
		}
	}
}
