package verify_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
	"github.com/keyledger/keyledger/verify"
)

// TestOnARealLog follows an embedded log: what was acknowledged is seen after
// WaitFor, by a verifier that ran all along and by one that begins afterwards.
func TestOnARealLog(t *testing.T) {
	log := eventstoretest.MustEmbedded(t)
	f := newFixture(t, nil)
	mustFollow(t, f.Verifier, log)

	spec, token := f.spec(t, nil)
	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeUnknown)
	created := eventstoretest.MustAppend(t, log, meta("create"), change(spec, 0, domain.KeyCreated{KeySpec: spec, CreatedBy: "key_op", CreatedAt: start}))
	must(t, f.WaitFor(t.Context(), created[0].Seq))
	expect(t, f.Verify(token, verify.Requirement{Scopes: []domain.Scope{"invoices:read"}}), verify.CodeValid)

	revoked := eventstoretest.MustAppend(t, log, meta("revoke"), change(spec, created[0].Seq, domain.KeyRevoked{Reason: "test", RevokedAt: start}))
	must(t, f.WaitFor(t.Context(), revoked[0].Seq))
	got := f.Verify(token, verify.Requirement{})
	if got.Code != verify.CodeRevoked || got.AsOfSeq != revoked[0].Seq {
		t.Errorf("%s as of %d", got.Code, got.AsOfSeq)
	}

	later := newFixture(t, nil)
	mustFollow(t, later.Verifier, log)
	if later.AsOf() != revoked[0].Seq {
		t.Errorf("caught up as of %d, want %d", later.AsOf(), revoked[0].Seq)
	}
	expect(t, later.Verify(token, verify.Requirement{}), verify.CodeRevoked)
}

// TestRaceForAMac lets many accounts claim one mac at once, which no expectation
// on a subject can prevent: the lowest seq owns it, for every verifier.
func TestRaceForAMac(t *testing.T) {
	const claims = 16
	log := eventstoretest.MustEmbedded(t)
	f := newFixture(t, nil)
	mustFollow(t, f.Verifier, log)

	first, token := f.spec(t, nil)
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		lowest eventstore.Event
		last   uint64
	)
	for range claims {
		spec, _ := f.spec(t, func(s *domain.KeySpec) { s.Account = "other" })
		spec.Mac = first.Mac
		group.Go(func() {
			events, err := log.Append(t.Context(), meta(string(spec.ID)), change(spec, 0, domain.KeyImported{KeySpec: spec, CreatedBy: "key_op", ImportedAt: start}))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if lowest.Seq == 0 || events[0].Seq < lowest.Seq {
				lowest = events[0]
			}
			last = max(last, events[0].Seq)
		})
	}
	group.Wait()
	later := newFixture(t, nil)
	mustFollow(t, later.Verifier, log)
	for _, v := range []*verify.Verifier{f.Verifier, later.Verifier} {
		must(t, v.WaitFor(t.Context(), last))
		got := v.Verify(token, verify.Requirement{})
		if got.Code != verify.CodeValid || string(got.KeyID) != lowest.Aggregate.ID {
			t.Errorf("%s for key %s, want the one of seq %d, %s", got.Code, got.KeyID, lowest.Seq, lowest.Aggregate.ID)
		}
		if got := v.Stats(); got != (verify.Stats{Keys: 1, Void: claims - 1}) {
			t.Errorf("stats %+v", got)
		}
	}
}

func meta(command string) eventstore.Meta {
	return eventstore.Meta{Time: start, Actor: "key_op", Command: domain.CommandCreateKey, CommandID: command}
}

func change(spec domain.KeySpec, expected uint64, data ...domain.Event) eventstore.Change {
	return eventstore.Change{Aggregate: eventstore.KeyAggregate(spec.Account, spec.ID), ExpectedSeq: expected, Events: data}
}

// mustFollow runs the verifier on a log until the test ends, and waits until it is ready.
func mustFollow(tb testing.TB, v *verify.Verifier, log verify.Tailer) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ready := make(chan struct{})
	ran := make(chan error, 1)
	go func() { ran <- v.Run(ctx, &signalling{Tailer: log, v: v, ready: ready}) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		tb.Fatal("the verifier did not become ready")
	}
}

// signalling is a log that closes ready once the verifier is.
type signalling struct {
	verify.Tailer
	v     *verify.Verifier
	ready chan struct{}
	once  sync.Once
}

func (s *signalling) Tail(ctx context.Context, from uint64, handle func(context.Context, eventstore.Batch) error) error {
	return s.Tailer.Tail(ctx, from, func(ctx context.Context, b eventstore.Batch) error {
		err := handle(ctx, b)
		if s.v.Ready() {
			s.once.Do(func() { close(s.ready) })
		}
		return err
	})
}
