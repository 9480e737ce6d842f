package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

const soon = 20 * time.Second

// bench is a log that is watched, and the means to do to its stream what an
// operator could.
type bench struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	cfg eventstore.Config
	log *eventstore.Log
}

func mustBench(t *testing.T, change ...func(*eventstore.Config)) bench {
	t.Helper()
	nc := eventstoretest.MustConnect(t, eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy}))
	b := bench{nc: nc, cfg: eventstore.Config{Conn: nc, WatchInterval: 20 * time.Millisecond, LeaderWait: 500 * time.Millisecond}}
	for _, f := range change {
		f(&b.cfg)
	}
	var err error
	if b.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	b.log = mustWatched(t, b.cfg)
	return b
}

func mustWatched(t *testing.T, cfg eventstore.Config) *eventstore.Log {
	t.Helper()
	log := eventstoretest.MustOpen(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- log.Watch(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	return log
}

func (b bench) mustChange(t *testing.T, f func(*jetstream.StreamConfig)) {
	t.Helper()
	st, err := b.js.Stream(t.Context(), eventstore.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	f(&cfg)
	if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func (b bench) mustDelete(t *testing.T) jetstream.StreamConfig {
	t.Helper()
	st, err := b.js.Stream(t.Context(), eventstore.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.js.DeleteStream(t.Context(), eventstore.StreamName); err != nil {
		t.Fatal(err)
	}
	return st.CachedInfo().Config
}

// mustCreate makes a stream in place of a deleted one, whose files the server may
// not have removed yet.
func (b bench) mustCreate(t *testing.T, cfg jetstream.StreamConfig) (st jetstream.Stream) {
	t.Helper()
	eventstoretest.Eventually(t, soon, "the stream is created", func() (created bool) {
		var err error
		st, err = b.js.CreateStream(t.Context(), cfg)
		api, refused := errors.AsType[*jetstream.APIError](err)
		if err != nil && (!refused || api.ErrorCode != 10049) {
			t.Fatal(err)
		}
		return err == nil
	})
	return st
}

func (b bench) mustBecome(t *testing.T, what string, is func(error) bool) {
	t.Helper()
	eventstoretest.Eventually(t, soon, "health: "+what, func() bool { return is(b.log.Health()) })
}

func healthy(err error) bool  { return err == nil }
func replaced(err error) bool { return errors.Is(err, eventstore.ErrHistoryReplaced) }

func TestDriftWhileRunning(t *testing.T) {
	var out lockedBuffer
	b := mustBench(t, func(c *eventstore.Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
	b.mustChange(t, func(c *jetstream.StreamConfig) { c.AllowRollup, c.DenyPurge = false, true; c.MaxAge = time.Hour })
	b.mustBecome(t, "drift", func(err error) bool {
		drift, ok := errors.AsType[*eventstore.DriftError](err)
		return ok && len(drift.Fields) == 1 && drift.Fields[0] == eventstore.DriftField{Name: "max_age", Want: "0s", Got: "1h0m0s"}
	})
	if _, err := eventstore.Open(t.Context(), b.cfg); err == nil || !strings.Contains(err.Error(), "max_age: want 0s, got 1h0m0s") ||
		!strings.Contains(err.Error(), "nats stream edit") {
		t.Errorf("open: %v", err)
	}
	// What does not matter to the log may be changed.
	b.mustChange(t, func(c *jetstream.StreamConfig) { c.MaxAge = 0; c.Description = "ours" })
	b.mustBecome(t, "well again", healthy)
	if n := strings.Count(out.String(), "the event log is not well"); n != 1 {
		t.Errorf("the drift was logged %d times:\n%s", n, out.String())
	}
}

func TestDriftAtStart(t *testing.T) {
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"subjects":                           func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "more.>") },
		"max_bytes":                          func(c *jetstream.StreamConfig) { c.MaxBytes = 8 << 20 },
		"consumer_limits.inactive_threshold": func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = 0 },
		"max_msg_size":                       func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 20 },
		"discard":                            func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"deny_purge":                         func(c *jetstream.StreamConfig) { c.DenyPurge = false },
		"deny_delete":                        func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		"allow_direct":                       func(c *jetstream.StreamConfig) { c.AllowDirect = false },
		"allow_atomic":                       func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"allow_msg_ttl": func(c *jetstream.StreamConfig) {
			c.AllowMsgTTL = true
		},
		"allow_msg_schedules": func(c *jetstream.StreamConfig) {
			c.AllowMsgSchedules, c.DenyPurge, c.Discard = true, false, jetstream.DiscardOld
		},
		"storage": func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
	} {
		t.Run(name, func(t *testing.T) {
			b := mustBench(t)
			cfg := b.mustDelete(t)
			change(&cfg)
			b.mustCreate(t, cfg)
			_, err := eventstore.Open(t.Context(), b.cfg)
			drift, ok := errors.AsType[*eventstore.DriftError](err)
			if !ok || !strings.Contains(drift.Error(), "; "+name+": want ") {
				t.Errorf("open: %v", err)
			}
		})
	}
	t.Run("num_replicas", func(t *testing.T) {
		b := mustBench(t)
		b.cfg.Replicas = 3
		if _, err := eventstore.Open(t.Context(), b.cfg); err == nil || !strings.Contains(err.Error(), "num_replicas: want 3, got 1") {
			t.Errorf("open: %v", err)
		}
	})
}

// The stream is made anew under a running node: it must not be taken for the old
// one, neither by a tail nor by an append.
func TestHistoryMadeAnew(t *testing.T) {
	b := mustBench(t)
	eventstoretest.MustAppend(t, b.log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1))
	tail := make(chan error, 1)
	read := make(chan struct{})
	go func() {
		tail <- b.log.Tail(t.Context(), 1, func(_ context.Context, batch eventstore.Batch) error {
			if len(batch.Events) > 0 {
				close(read)
			}
			return nil
		})
	}()
	<-read
	cfg := b.mustDelete(t)
	b.mustCreate(t, cfg)
	b.mustBecome(t, "history replaced", replaced)
	select {
	case err := <-tail:
		if !replaced(err) {
			t.Errorf("tail: %v", err)
		}
	case <-time.After(soon):
		t.Error("the tail goes on")
	}
	_, err := b.log.Append(t.Context(), eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 2))
	if domain.CodeOf(err) != eventstore.CodeLogReplaced || !replaced(err) {
		t.Errorf("append: %v", err)
	}
}

func TestHistoryDeleted(t *testing.T) {
	b := mustBench(t)
	b.mustDelete(t)
	b.mustBecome(t, "history replaced", replaced)
}

// An append that comes before the watch has looked notices it by its own seq.
func TestHistoryMadeAnewBetweenLooks(t *testing.T) {
	b := mustBench(t, func(c *eventstore.Config) { c.WatchInterval = time.Hour })
	for i := range 3 {
		eventstoretest.MustAppend(t, b.log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", i))
	}
	cfg := b.mustDelete(t)
	b.mustCreate(t, cfg)
	if _, err := b.log.Append(t.Context(), eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 9)); !replaced(err) {
		t.Errorf("append: %v", err)
	}
	b.mustBecome(t, "history replaced", replaced)
}

// A position that the log never reached belongs to another history.
func TestTailBeyondTheEnd(t *testing.T) {
	b := mustBench(t)
	eventstoretest.MustAppend(t, b.log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1))
	err := b.log.Tail(t.Context(), 3, func(context.Context, eventstore.Batch) error { return nil })
	if !replaced(err) || !strings.Contains(err.Error(), "it ends at 1") {
		t.Errorf("tail: %v", err)
	}
}

func TestHistoryWithAHole(t *testing.T) {
	b := mustBench(t)
	cfg := b.mustDelete(t)
	cfg.DenyDelete = false
	st := b.mustCreate(t, cfg)
	for range 3 {
		if _, err := b.js.Publish(t.Context(), "keyledger.events.a.key.b", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.DeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	cfg.DenyDelete = true
	if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := eventstore.Open(t.Context(), b.cfg); !replaced(err) {
		t.Errorf("open: %v", err)
	}
}

// What this release cannot read stops a tail after what comes before it.
func TestUnknownTypeStops(t *testing.T) {
	b := mustBench(t)
	good := eventstoretest.MustAppend(t, b.log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1))[0]
	raw := bytes.Replace(good.Raw, []byte("key.created.v1"), []byte("key.renamed.v1"), 1)
	if _, err := b.js.Publish(t.Context(), "keyledger.events.acct_1.key."+good.Aggregate.ID, raw); err != nil {
		t.Fatal(err)
	}
	handed := 0
	err := b.log.Tail(t.Context(), 1, func(_ context.Context, batch eventstore.Batch) error {
		handed += len(batch.Events)
		return nil
	})
	unknown, ok := errors.AsType[*eventstore.UnknownTypeError](err)
	if !ok || unknown.Seq != 2 || unknown.Type != "keyledger.key.renamed.v1" || handed != 1 {
		t.Errorf("tail: %v after %d events", err, handed)
	}
	if _, err := b.log.Load(t.Context(), good.Aggregate, eventstore.Leader); !errors.As(err, &unknown) {
		t.Errorf("load: %v", err)
	}
	if _, err := b.log.At(t.Context(), 2); !errors.As(err, &unknown) {
		t.Errorf("at: %v", err)
	}
	var last error
	for _, err := range b.log.Replay(t.Context(), eventstore.Filter{}) {
		last = err
	}
	if !errors.As(last, &unknown) {
		t.Errorf("replay: %v", last)
	}
}

// A subject below the log's that is none of an aggregate is an error, not skipped.
func TestForeignSubjectStops(t *testing.T) {
	b := mustBench(t)
	if _, err := b.js.Publish(t.Context(), "keyledger.events.stray", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	err := b.log.Tail(t.Context(), 1, func(context.Context, eventstore.Batch) error { return nil })
	if err == nil || !strings.Contains(err.Error(), `event 1: subject "keyledger.events.stray"`) {
		t.Errorf("tail: %v", err)
	}
}
