package feed_test

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	natstest "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/eventstore/feed"
)

// TestWatermillSuite is Watermill's own suite, with every test that applies. Nothing
// here delivers exactly once, and the context of what is published stays with the
// publisher.
func TestWatermillSuite(t *testing.T) {
	b := mustBroker(t)
	features := tests.Features{
		ConsumerGroups:                      true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true, // with more than one, Exclusive keeps it: see TestExclusive
		Persistent:                          true,
		NewSubscriberReceivesOldMessages:    false, // of a group that has them; of a new one see TestNewGroups
		GenerateTopicFunc:                   topic,
	}
	if !raceDetector { // the suite's own test of reconnects reads what it writes elsewhere
		features.RestartServiceCommand = []string{os.Args[0], "-restart", b.mustRestarter(t)}
	}
	tests.TestPubSub(t, features, b.constructor("all"), b.groupConstructor)
}

// TestNewGroups is the suite's test of subscribers that get what was there before
// them: each has a group of its own.
func TestNewGroups(t *testing.T) {
	b := mustBroker(t)
	tests.TestNewSubscriberReceivesOldMessages(t, tests.TestContext{
		TestID: tests.NewTestID(), Features: tests.Features{NewSubscriberReceivesOldMessages: true, GenerateTopicFunc: topic},
	}, func(t *testing.T) (message.Publisher, message.Subscriber) {
		t.Helper()
		return b.groupConstructor(t, watermill.NewShortUUID())
	})
}

func topic(tctx tests.TestContext) string { return "topics." + tctx.TestID.String() }

// stream carries the topics of all tests.
const stream = "TOPICS"

// broker is a NATS server that can be restarted at its port.
type broker struct {
	js      jetstream.JetStream
	options natstest.Options

	mu     sync.Mutex
	server *natstest.Server
}

func mustBroker(tb testing.TB) *broker {
	tb.Helper()
	b := &broker{options: natstest.Options{
		ServerName: "test", Host: "127.0.0.1", Port: natstest.RANDOM_PORT, JetStream: true, StoreDir: tb.TempDir(), NoLog: true, NoSigs: true,
	}}
	b.mustStart(tb)
	tb.Cleanup(b.stop)
	nc := b.mustConnect(tb)
	var err error
	if b.js, err = jetstream.New(nc); err != nil {
		tb.Fatal(err)
	}
	if _, err := b.js.CreateStream(tb.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{"topics.>"}}); err != nil {
		tb.Fatal(err)
	}
	return b
}

func (b *broker) mustConnect(tb testing.TB) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect(b.server.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

func (b *broker) mustStart(tb testing.TB) {
	tb.Helper()
	server, err := natstest.NewServer(&b.options)
	if err != nil {
		tb.Fatal(err)
	}
	server.Start()
	if !server.ReadyForConnections(10 * time.Second) {
		tb.Fatal("the server did not start")
	}
	if addr, ok := server.Addr().(*net.TCPAddr); ok {
		b.options.Port = addr.Port
	}
	b.server = server
}

func (b *broker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// mustRestarter returns an address: who connects to it gets "ok" after the server
// was restarted.
func (b *broker) mustRestarter(tb testing.TB) string {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.stop()
			b.mustStart(tb)
			b.mu.Unlock()
			_, _ = conn.Write([]byte("ok"))
			_ = conn.Close()
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}

func (b *broker) constructor(group string) tests.PubSubConstructor {
	return func(t *testing.T) (message.Publisher, message.Subscriber) {
		t.Helper()
		return b.groupConstructor(t, group)
	}
}

func (b *broker) groupConstructor(t *testing.T, group string) (message.Publisher, message.Subscriber) {
	t.Helper()
	return b.mustPublisher(t), b.mustSubscriber(t, feed.SubscriberConfig{Durable: named(group)})
}

func named(group string) func(string) string {
	return func(topic string) string {
		return group + "-" + strings.NewReplacer(".", "_", "*", "any").Replace(topic)
	}
}

func (b *broker) mustPublisher(tb testing.TB) *feed.Publisher {
	tb.Helper()
	p, err := feed.NewPublisher(feed.PublisherConfig{JetStream: b.js})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

// mustSubscriber fills in what the test leaves open, with waits that fit a test.
func (b *broker) mustSubscriber(tb testing.TB, cfg feed.SubscriberConfig) *feed.Subscriber {
	tb.Helper()
	cfg.Stream = stream
	if cfg.JetStream == nil {
		cfg.JetStream = b.js
	}
	if cfg.Durable == nil {
		cfg.Durable = named("group")
	}
	if cfg.AckWait == 0 {
		cfg.AckWait = 2 * time.Second
	}
	if cfg.RetryFirst == 0 {
		cfg.RetryFirst, cfg.RetryMost = time.Millisecond, 50*time.Millisecond
	}
	if cfg.Drain == 0 {
		cfg.Drain = 100 * time.Millisecond
	}
	s, err := feed.NewSubscriber(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// mustSubscribe subscribes for as long as the test runs.
func mustSubscribe(tb testing.TB, s *feed.Subscriber, topic string) <-chan *message.Message {
	tb.Helper()
	messages, err := s.Subscribe(context.WithoutCancel(tb.Context()), topic)
	if err != nil {
		tb.Fatal(err)
	}
	return messages
}
