package intake_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/intake"
	"github.com/keyledger/keyledger/server/servertest"
)

const patience = 20 * time.Second

// door is a whole keyledger with a producer at its NATS door.
type door struct {
	*servertest.Stack
	js       jetstream.JetStream
	nc       *nats.Conn
	streams  *eventstore.CommandStreams
	records  *intake.Records
	producer string // a management key of the account default
	token    string // of the producer
}

func mustDoor(tb testing.TB, cfg servertest.Config) *door {
	tb.Helper()
	d := &door{Stack: servertest.MustStart(tb, cfg)}
	d.js = d.Log.JetStream()
	d.nc = d.js.Conn()
	var err error
	if d.streams, err = d.Log.OpenCommands(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if d.records, err = intake.NewRecords(d.Log, d.streams); err != nil {
		tb.Fatal(err)
	}
	made := d.MustManagementKey(tb, "default", domain.ScopeCommands, domain.ScopeKeysWrite, domain.ScopeKeysRead)
	d.producer, d.token = made.Key.ID, made.Token
	return d
}

// config is the usual one, with waits that fit a test.
func (d *door) config() intake.Config {
	return intake.Config{
		Log: d.Log, Commands: d.Commands, Producers: d.Verifier, RetryFirst: 5 * time.Millisecond, RetryMost: 100 * time.Millisecond,
		AckWait: time.Second, Drain: 2 * time.Second, Look: 50 * time.Millisecond,
		Logger: slog.New(slog.NewJSONHandler(d.Logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// mustOpen runs the door until the test ends, or stop is called.
func (d *door) mustOpen(tb testing.TB, cfg intake.Config) (in *intake.Intake, stop func()) {
	tb.Helper()
	in, err := intake.New(cfg, d.streams)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := in.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	tb.Cleanup(stop)
	return in, stop
}

// sent is a command of a test. What is zero is as a good producer would have it.
type sent struct {
	account, producer string // in the subject
	command, id       string
	data              any
	with              map[string]any // members of the event, "" removes
	body              []byte         // instead of an event
	headers           nats.Header
	subject           string
}

func (d *door) message(tb testing.TB, s sent) *nats.Msg {
	tb.Helper()
	if s.account == "" {
		s.account = "default"
	}
	if s.producer == "" {
		s.producer = d.producer
	}
	if s.subject == "" {
		s.subject = "keyledger.commands." + s.account + "." + s.producer + "." + s.command
	}
	if s.body == nil {
		event := map[string]any{
			"specversion": "1.0", "id": s.id, "source": "test", "type": "keyledger.command." + s.command + ".v1", "data": s.data,
		}
		maps.Copy(event, s.with)
		maps.DeleteFunc(event, func(_ string, v any) bool { return v == "" })
		var err error
		if s.body, err = json.Marshal(event); err != nil {
			tb.Fatal(err)
		}
	}
	return &nats.Msg{Subject: s.subject, Data: s.body, Header: s.headers}
}

func (d *door) mustPublish(tb testing.TB, s sent) (seq uint64) {
	tb.Helper()
	ack, err := d.js.PublishMsg(tb.Context(), d.message(tb, s))
	if err != nil {
		tb.Fatal(err)
	}
	return ack.Sequence
}

// ask publishes a command and waits for the reply.
func (d *door) ask(tb testing.TB, s sent) client.CommandReply {
	tb.Helper()
	producer := s.producer
	if producer == "" {
		producer = d.producer
	}
	inbox := eventstore.InboxPrefix(producer) + "." + nats.NewInbox()[len("_INBOX."):]
	sub, err := d.nc.SubscribeSync(inbox)
	if err != nil {
		tb.Fatal(err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection ends with the test
	if s.headers == nil {
		s.headers = nats.Header{}
	}
	s.headers.Set("Keyledger-Reply", inbox)
	d.mustPublish(tb, s)
	msg, err := sub.NextMsg(patience)
	if err != nil {
		tb.Fatalf("no reply to %s %s: %v", s.command, s.id, err)
	}
	var r client.CommandReply
	if err := json.Unmarshal(msg.Data, &r); err != nil {
		tb.Fatal(err)
	}
	return r
}

// mustOutcome waits for the outcome of a command.
func (d *door) mustOutcome(tb testing.TB, account, id string) client.CommandOutcome {
	tb.Helper()
	var o client.CommandOutcome
	mustEventually(tb, "an outcome of "+id, func() bool {
		var err error
		o, err = d.records.Outcome(tb.Context(), domain.AccountID(account), id)
		return err == nil
	})
	return o
}

// mustDead waits for the dead letter of the command with a seq.
func (d *door) mustDead(tb testing.TB, seq uint64) client.DeadLetter {
	tb.Helper()
	var found client.DeadLetter
	mustEventually(tb, fmt.Sprint("a dead letter of ", seq), func() bool {
		list, _, err := d.records.DeadLetters(tb.Context(), eventstore.Senders{}, 0, 1000)
		for _, l := range list {
			if l.SentSeq == seq {
				found = l
				return true
			}
		}
		return err != nil
	})
	return found
}

// mustDrain waits until every command has its outcome and is acknowledged.
func (d *door) mustDrain(tb testing.TB) {
	tb.Helper()
	mustEventually(tb, "nothing waits", func() bool {
		c, err := d.js.Consumer(tb.Context(), string(eventstore.SideCommands), "intake")
		return err == nil && c.CachedInfo().NumPending == 0 && c.CachedInfo().NumAckPending == 0
	})
}

func mustEventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // polls a condition with a deadline
	}
}

// events counts the events of a key.
func (d *door) events(tb testing.TB, key string) (n int) {
	tb.Helper()
	h, err := d.Log.Load(tb.Context(), eventstore.KeyAggregate("default", domain.KeyID(key)), eventstore.Leader)
	if err != nil {
		tb.Fatal(err)
	}
	return len(h.Events)
}

func (d *door) head(tb testing.TB) uint64 {
	tb.Helper()
	head, err := d.Log.Head(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return head
}

func newKey() map[string]any {
	return map[string]any{"name": "a key", "environment": "live", "scopes": []string{"invoices:read"}}
}

func unavailable() error {
	return domain.NewError(domain.KindUnavailable, "log_unavailable", "not now", "wait")
}
