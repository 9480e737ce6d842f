package eventstore_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

func TestOpenSide(t *testing.T) {
	log := eventstoretest.MustOpen(t, eventstore.Config{
		Conn: eventstoretest.MustConnect(t, eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy})),
	})
	for _, side := range []eventstore.Side{eventstore.SideCommands, eventstore.SideOutcomes, eventstore.SideDead, eventstore.SideUsage} {
		for range 2 { // made, then found
			stream, err := log.OpenSide(t.Context(), side)
			if err != nil {
				t.Fatalf("%s: %v", side, err)
			}
			if got := stream.CachedInfo().Config.Name; got != string(side) {
				t.Errorf("%s is called %s", side, got)
			}
		}
	}
	if _, err := log.OpenSide(t.Context(), "OTHER"); err == nil {
		t.Error("a stream that is not known was opened")
	}
}

func TestSideDrift(t *testing.T) {
	log := eventstoretest.MustOpen(t, eventstore.Config{
		Conn: eventstoretest.MustConnect(t, eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy})),
	})
	if _, err := log.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{
		Name: string(eventstore.SideUsage), Subjects: []string{"keyledger.usage.a"}, Storage: jetstream.MemoryStorage, NoAck: true,
		Retention: jetstream.InterestPolicy,
	}); err != nil {
		t.Fatal(err)
	}
	_, err := log.OpenSide(t.Context(), eventstore.SideUsage)
	drift, ok := errors.AsType[*eventstore.DriftError](err)
	if !ok || len(drift.Fields) != 5 || !strings.Contains(err.Error(), "nats stream edit "+string(eventstore.SideUsage)) {
		t.Errorf("got %v", err)
	}
}

// TestSideIsReadAsItMustBe: what decides how a stream is read, and what goes when it
// is full, is the same everywhere; limits are the operator's.
func TestSideIsReadAsItMustBe(t *testing.T) {
	for name, c := range map[string]struct {
		side  eventstore.Side
		edit  func(*jetstream.StreamConfig)
		drift string
	}{
		"no direct reads":               {eventstore.SideOutcomes, func(c *jetstream.StreamConfig) { c.AllowDirect = false }, "allow_direct"},
		"outcomes without end":          {eventstore.SideOutcomes, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = -1 }, "max_msgs_per_subject"},
		"one command of each name":      {eventstore.SideCommands, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }, "max_msgs_per_subject"},
		"commands that go":              {eventstore.SideCommands, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard"},
		"reports that are refused":      {eventstore.SideUsage, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardNew }, "discard"},
		"more bytes":                    {eventstore.SideCommands, func(c *jetstream.StreamConfig) { c.MaxBytes *= 2 }, ""},
		"no limit":                      {eventstore.SideUsage, func(c *jetstream.StreamConfig) { c.MaxBytes = -1 }, ""},
		"a shorter age":                 {eventstore.SideUsage, func(c *jetstream.StreamConfig) { c.MaxAge /= 2 }, ""},
		"dead letters of each producer": {eventstore.SideDead, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 100 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			log := mustStoring(t, 64<<30)
			stream, err := log.OpenSide(t.Context(), c.side)
			if err != nil {
				t.Fatal(err)
			}
			cfg := stream.CachedInfo().Config
			c.edit(&cfg)
			if _, err := log.JetStream().UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			stream, err = log.OpenSide(t.Context(), c.side)
			if drift, ok := errors.AsType[*eventstore.DriftError](err); c.drift != "" && (!ok || len(drift.Fields) != 1 || drift.Fields[0].Name != c.drift) {
				t.Errorf("opened with %v, want a drift of %s", err, c.drift)
			}
			if c.drift == "" && (err != nil || stream.CachedInfo().Config.MaxBytes != cfg.MaxBytes) {
				t.Errorf("not opened as it was: %v", err)
			}
			for _, s := range log.LookAside(t.Context()) {
				if wrong := s.Stream == string(c.side) && c.drift != ""; wrong != (s.Err != nil) || s.Missing != (s.Stream != string(c.side)) {
					t.Errorf("looked at %+v", s)
				}
			}
		})
	}
}

func mustStoring(t *testing.T, bytes int64) *eventstore.Log {
	t.Helper()
	return eventstoretest.MustOpen(t, eventstore.Config{
		Conn: eventstoretest.MustConnect(t, eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy, MaxStoreBytes: bytes})),
	})
}

// TestSideLimits: the streams beside the log are bounded, by less where the storage is
// small, and can be made in any case; what is set aside for them leaves room.
func TestSideLimits(t *testing.T) {
	sides := []eventstore.Side{eventstore.SideCommands, eventstore.SideOutcomes, eventstore.SideDead, eventstore.SideUsage}
	for _, c := range []struct {
		store int64
		want  []int64 // -1: none
	}{
		{64 << 30, []int64{4 << 30, 1 << 30, 1 << 30, 2 << 30}},
		{4 << 30, []int64{2 << 30, 1 << 30, 1 << 29, 1 << 28}},
		{100 << 20, []int64{32 << 20, 32 << 20, 16 << 20, 8 << 20}},
		{4 << 20, []int64{2 << 20, 1 << 20, -1, -1}},
		{1 << 20, []int64{-1, -1, -1, -1}},
	} {
		log := mustStoring(t, c.store)
		for i, side := range sides {
			stream, err := log.OpenSide(t.Context(), side)
			if err != nil {
				t.Fatalf("%s in %d bytes: %v", side, c.store, err)
			}
			if got := stream.CachedInfo().Config.MaxBytes; got != c.want[i] {
				t.Errorf("%s in %d bytes may take %d, want %d", side, c.store, got, c.want[i])
			}
		}
		eventstoretest.MustAppend(t, log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1))
	}
}

// TestFullSides: a producer is told that its command was not taken, and the first dead
// letters make room for the last.
func TestFullSides(t *testing.T) {
	log := mustStoring(t, 8<<20)
	body := make([]byte, 60<<10)
	for _, c := range []struct {
		side    eventstore.Side
		subject string
		refused bool
	}{{eventstore.SideCommands, "keyledger.commands.a.b.c", true}, {eventstore.SideDead, "keyledger.dead.a.b.c", false}} {
		stream, err := log.OpenSide(t.Context(), c.side)
		if err != nil {
			t.Fatal(err)
		}
		limit := stream.CachedInfo().Config.MaxBytes
		for range limit/int64(len(body)) + 1 {
			if _, err = log.JetStream().Publish(t.Context(), c.subject, body); err != nil {
				break
			}
		}
		if (err != nil) != c.refused {
			t.Errorf("%s, beyond its limit: %v", c.side, err)
		}
		info, err := stream.Info(t.Context())
		if err != nil || info.State.Bytes > uint64(limit) || (info.State.FirstSeq > 1) == c.refused {
			t.Errorf("%s holds %+v, %v", c.side, info.State, err)
		}
	}
	eventstoretest.MustAppend(t, log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1))
}

func TestCommandSubjects(t *testing.T) {
	a := eventstore.CommandAddress{Account: "acct_1", Producer: "key_p", Command: domain.CommandCreateKey}
	s, err := a.Subject()
	if err != nil || s != "keyledger.commands.acct_1.key_p.create_key" {
		t.Fatalf("subject %q, %v", s, err)
	}
	if got, err := eventstore.ParseCommandSubject(s); err != nil || got != a {
		t.Errorf("parsed %+v, %v", got, err)
	}
	dead, err := a.DeadSubject()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := eventstore.ParseDeadSubject(dead); err != nil || got != a {
		t.Errorf("parsed %+v, %v", got, err)
	}
	for _, bad := range []string{"", dead, s + ".more", "keyledger.commands.a.b", "keyledger.commands.a.b.*", "keyledger.commands..b.c", "keyledger.commands.a b.c.d"} {
		if got, err := eventstore.ParseCommandSubject(bad); err == nil {
			t.Errorf("%q was taken for %+v", bad, got)
		}
	}
	for _, id := range []string{"", "*", ">", "a.b", "a b", strings.Repeat("a", 65)} {
		if s, err := eventstore.OutcomeSubject("acct_1", id); err == nil {
			t.Errorf("outcome subject %q", s)
		}
		if s, err := eventstore.UsageSubject(id); err == nil {
			t.Errorf("usage subject %q", s)
		}
		a.Producer = domain.KeyID(id)
		if s, err := a.Subject(); err == nil {
			t.Errorf("command subject %q", s)
		}
	}
}
