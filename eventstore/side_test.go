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
	if !ok || len(drift.Fields) != 4 || !strings.Contains(err.Error(), "nats stream edit "+string(eventstore.SideUsage)) {
		t.Errorf("got %v", err)
	}
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
