package access_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

const auditor = "key_auditor"

// A reader may have the server keep consumers, durable ones too, but not for long
// once it does not read them.
func TestIdleConsumersGo(t *testing.T) {
	s := mustEmbedded(t)
	s.keys.add(auditor, domain.RootAccount, domain.ScopeAuditRead)
	js, err := jetstream.New(s.mustConnect(t, auditor))
	if err != nil {
		t.Fatal(err)
	}
	durable := func(idle time.Duration) (jetstream.Consumer, error) {
		name := "d" + strconv.FormatInt(int64(idle), 10)
		return js.CreateConsumer(t.Context(), eventstore.StreamName, jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: idle})
	}
	c, err := durable(0)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.CachedInfo().Config.InactiveThreshold; got != 5*time.Minute {
		t.Errorf("a durable consumer is kept for %v", got)
	}
	if _, err := durable(5*time.Minute + time.Second); err == nil {
		t.Error("a durable consumer may be kept for longer")
	}
	if c, err = durable(100 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventstoretest.Eventually(t, 20*time.Second, "the idle durable consumer is gone", func() bool {
		_, err := c.Info(t.Context())
		return errors.Is(err, jetstream.ErrConsumerNotFound)
	})
}

// The server's default would be used up after a thousand, and the node could not
// read its own log any more.
func TestConsumersDoNotRunOut(t *testing.T) {
	s := mustEmbedded(t)
	s.keys.add(auditor, domain.RootAccount, domain.ScopeAuditRead)
	js, err := jetstream.New(s.mustConnect(t, auditor))
	if err != nil {
		t.Fatal(err)
	}
	for range 1001 {
		if _, err := js.CreateConsumer(t.Context(), eventstore.StreamName, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true}); err != nil {
			t.Fatal(err)
		}
	}
	log := eventstoretest.MustOpen(t, eventstore.Config{Conn: s.node})
	n := 0
	for _, err := range log.Replay(t.Context(), eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != events {
		t.Errorf("%d events", n)
	}
}

// A push consumer would go on after its reader's key has ended, to whoever follows
// the subject.
func TestPushConsumersGo(t *testing.T) {
	for name, open := range sites() {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			s.keys.add(auditor, domain.RootAccount, domain.ScopeAuditRead)
			reader, err := jetstream.New(s.mustConnect(t, auditor))
			if err != nil {
				t.Fatal(err)
			}
			pull := jetstream.ConsumerConfig{Name: "pull", AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true}
			push := jetstream.ConsumerConfig{
				Name: "push", AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, DeliverSubject: eventstore.AnnouncePrefix + ".acct_2.spy",
			}
			// Several of the servers may not know the stream's leader yet.
			eventstoretest.Eventually(t, 20*time.Second, "the consumers are made", func() bool {
				_, err := reader.CreateConsumer(t.Context(), eventstore.StreamName, pull)
				if err == nil {
					_, err = reader.CreatePushConsumer(t.Context(), eventstore.StreamName, push)
				}
				return err == nil
			})
			eventstoretest.Eventually(t, 20*time.Second, "the push consumer is gone", func() bool {
				_, err := s.js.PushConsumer(t.Context(), eventstore.StreamName, "push")
				return errors.Is(err, jetstream.ErrConsumerNotFound)
			})
			if _, err := s.js.Consumer(t.Context(), eventstore.StreamName, "pull"); err != nil {
				t.Errorf("the other consumer: %v", err)
			}
		})
	}
}
