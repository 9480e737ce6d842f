package feed_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/eventstore/feed"
)

const patience = 10 * time.Second

func mustReceive(tb testing.TB, messages <-chan *message.Message) *message.Message {
	tb.Helper()
	select {
	case m, ok := <-messages:
		if !ok {
			tb.Fatal("the channel is closed")
		}
		return m
	case <-time.After(patience):
		tb.Fatal("no message came")
		return nil
	}
}

func mustPublish(tb testing.TB, b *broker, subject string, bodies ...string) {
	tb.Helper()
	for _, body := range bodies {
		if _, err := b.js.Publish(tb.Context(), subject, []byte(body)); err != nil {
			tb.Fatal(err)
		}
	}
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

func bodies(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	return list
}

// pending is how many messages of a topic are not acknowledged.
func pending(tb testing.TB, b *broker, topic string) uint64 {
	tb.Helper()
	c, err := b.js.Consumer(tb.Context(), stream, named("group")(topic))
	if err != nil {
		tb.Fatal(err)
	}
	info := c.CachedInfo()
	return info.NumPending + uint64(info.NumAckPending)
}

// A header with several values made another implementation panic.
func TestHeaders(t *testing.T) {
	b := mustBroker(t)
	in := mustSubscribe(t, b.mustSubscriber(t, feed.SubscriberConfig{}), "topics.*")
	sent := &nats.Msg{Subject: "topics.a", Header: nats.Header{
		"Twice": {"one", "two"}, "once": {"1"}, "feed_sequence": {"99"}, "feed_term": {"forged"}, "Watermill-Message-Id": {"m1"},
	}, Data: []byte("x")}
	if _, err := b.js.PublishMsg(t.Context(), sent); err != nil {
		t.Fatal(err)
	}
	m := mustReceive(t, in)
	if got := feed.Values(m, "Twice"); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("Twice is %q", got)
	}
	if feed.Values(m, "none") != nil || m.Metadata.Get("feed_term") != "" {
		t.Errorf("metadata: %v", m.Metadata)
	}
	d := feed.DeliveryOf(m)
	if d.Subject != "topics.a" || d.Sequence != 1 || d.Attempt != 1 || time.Since(d.Time) > time.Minute || m.UUID != "m1" {
		t.Errorf("delivery %+v of %s", d, m.UUID)
	}

	// What is passed on keeps its headers, and loses what was between NATS and its sender.
	passed := m.Copy()
	passed.UUID = "m2"
	if err := b.mustPublisher(t).Publish("topics.b", passed); err != nil {
		t.Fatal(err)
	}
	m.Ack()
	m = mustReceive(t, in)
	m.Ack()
	if got := feed.Values(m, "Twice"); !slices.Equal(got, []string{"one", "two"}) || m.UUID != "m2" || feed.DeliveryOf(m).Sequence != 2 {
		t.Errorf("passed on: %v", m.Metadata)
	}
}

func TestPublishErrors(t *testing.T) {
	b := mustBroker(t)
	p := b.mustPublisher(t)
	bad := message.NewMessage("1", nil)
	bad.Metadata.Set("no header", "x")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		topic string
		m     *message.Message
	}{
		"no stream":   {"elsewhere", message.NewMessage("1", nil)},
		"header name": {"topics.a", bad},
		"context":     {"topics.a", message.NewMessageWithContext(ended, "1", nil)},
		"too large":   {"topics.a", message.NewMessage("1", make([]byte, 2<<20))},
	} {
		if err := p.Publish(c.topic, c.m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish("topics.a", message.NewMessage("1", nil)); !errors.Is(err, feed.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if !b.js.Conn().IsConnected() {
		t.Error("the connection was closed")
	}
}

// Nothing overtakes a message that is not acknowledged, in its lane; other lanes go on.
func TestLanes(t *testing.T) {
	b := mustBroker(t)
	in := mustSubscribe(t, b.mustSubscriber(t, feed.SubscriberConfig{
		Lane: func(m *message.Message) string { return feed.DeliveryOf(m).Subject },
	}), "topics.*")
	mustPublish(t, b, "topics.a", bodies(20)...)
	mustPublish(t, b, "topics.b", bodies(20)...)

	got := map[string][]string{}
	attempts := 0
	for len(got["topics.a"])+len(got["topics.b"]) < 40 {
		m := mustReceive(t, in)
		d := feed.DeliveryOf(m)
		if d.Subject == "topics.a" && string(m.Payload) == "3" && attempts < 5 {
			if attempts++; d.Attempt != attempts {
				t.Errorf("attempt %d says that it is attempt %d", attempts, d.Attempt)
			}
			m.Nack()
			continue
		}
		got[d.Subject] = append(got[d.Subject], string(m.Payload))
		m.Ack()
	}
	for subject, list := range got {
		if !slices.Equal(list, bodies(20)) {
			t.Errorf("%s came as %v", subject, list)
		}
	}
	mustEventually(t, "all acknowledged", func() bool { return pending(t, b, "topics.*") == 0 })
}

// A handler that takes longer than AckWait keeps its message, and those behind it.
func TestLongHandler(t *testing.T) {
	b := mustBroker(t)
	const wait = 300 * time.Millisecond
	s1 := b.mustSubscriber(t, feed.SubscriberConfig{AckWait: wait})
	in1 := mustSubscribe(t, s1, "topics.a")
	mustPublish(t, b, "topics.a", "first", "second")
	first := mustReceive(t, in1)
	in2 := mustSubscribe(t, b.mustSubscriber(t, feed.SubscriberConfig{AckWait: wait}), "topics.a")
	select {
	case m := <-in2:
		t.Fatalf("%s went to another subscriber", m.Payload)
	case <-time.After(4 * wait):
	}
	first.Ack()
	second := mustReceive(t, in1)
	if string(second.Payload) != "second" || feed.DeliveryOf(second).Attempt != 1 {
		t.Errorf("got %s, attempt %d", second.Payload, feed.DeliveryOf(second).Attempt)
	}
	second.Ack()
}

// What is in hand at Close is finished; what waits goes to others at once.
func TestClose(t *testing.T) {
	b := mustBroker(t)
	s := b.mustSubscriber(t, feed.SubscriberConfig{AckWait: time.Hour, Drain: patience})
	in := mustSubscribe(t, s, "topics.a")
	mustPublish(t, b, "topics.a", bodies(50)...)
	m := mustReceive(t, in)
	var closing sync.WaitGroup
	closing.Go(func() { _ = s.Close() })
	select {
	case <-m.Context().Done():
		t.Error("the context ended while there was time")
	case <-time.After(50 * time.Millisecond):
	}
	m.Ack()
	closing.Wait()
	if _, open := <-in; open {
		t.Error("something came after Close")
	}
	if _, err := s.Subscribe(t.Context(), "topics.a"); !errors.Is(err, feed.ErrClosed) {
		t.Errorf("subscribe after Close: %v", err)
	}
	other := mustSubscribe(t, b.mustSubscriber(t, feed.SubscriberConfig{AckWait: time.Hour}), "topics.a")
	seen := map[string]bool{}
	for len(seen) < 49 {
		m := mustReceive(t, other)
		seen[string(m.Payload)] = true
		m.Ack()
	}
	if seen["0"] {
		t.Error("what was acknowledged came again")
	}
	if !b.js.Conn().IsConnected() {
		t.Error("the connection was closed")
	}
}

// The end of a context with messages on their way made another implementation panic.
func TestCancelWithPrefetched(t *testing.T) {
	b := mustBroker(t)
	mustPublish(t, b, "topics.a", bodies(200)...)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		in, err := b.mustSubscriber(t, feed.SubscriberConfig{}).Subscribe(ctx, "topics.a")
		if err != nil {
			t.Fatal(err)
		}
		mustReceive(t, in).Nack()
		cancel()
		for range in {
		}
	}
	in := mustSubscribe(t, b.mustSubscriber(t, feed.SubscriberConfig{}), "topics.a")
	seen := map[string]bool{}
	for len(seen) < 200 {
		m := mustReceive(t, in)
		seen[string(m.Payload)] = true
		m.Ack()
	}
}

func TestTerminate(t *testing.T) {
	b := mustBroker(t)
	told, err := b.js.Conn().SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>")
	if err != nil {
		t.Fatal(err)
	}
	in := mustSubscribe(t, b.mustSubscriber(t, feed.SubscriberConfig{}), "topics.a")
	mustPublish(t, b, "topics.a", "x")
	m := mustReceive(t, in)
	feed.Terminate(m, "not_a_command")
	m.Ack()
	advisory, err := told.NextMsg(patience)
	if err != nil || !strings.Contains(string(advisory.Data), "not_a_command") {
		t.Errorf("advisory: %v %s", err, advisory.Data)
	}
	mustEventually(t, "nothing left", func() bool { return pending(t, b, "topics.a") == 0 })
}

// A consumer that somebody deletes is made again, and everything comes from its start.
func TestDeletedConsumer(t *testing.T) {
	b := mustBroker(t)
	in := mustSubscribe(t, b.mustSubscriber(t, feed.SubscriberConfig{}), "topics.a")
	mustPublish(t, b, "topics.a", "x")
	mustReceive(t, in).Ack()
	mustEventually(t, "acknowledged", func() bool { return pending(t, b, "topics.a") == 0 })
	if err := b.js.DeleteConsumer(t.Context(), stream, named("group")("topics.a")); err != nil {
		t.Fatal(err)
	}
	m := mustReceive(t, in)
	m.Ack()
	if string(m.Payload) != "x" {
		t.Errorf("got %s", m.Payload)
	}
}

// With Exclusive, lanes hold over subscribers: one works, and the next takes over
// where it stopped.
func TestExclusive(t *testing.T) {
	b := mustBroker(t)
	const all = 300
	var mu sync.Mutex
	var got []string
	by := map[string]int{}
	handle := func(name string, in <-chan *message.Message) {
		for m := range in {
			mu.Lock()
			got = append(got, string(m.Payload))
			by[name]++
			mu.Unlock()
			m.Ack()
		}
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got)
	}
	var handling sync.WaitGroup
	subscribers := map[string]*feed.Subscriber{}
	for i := range 3 {
		name := fmt.Sprint(i)
		js, err := jetstream.New(b.mustConnect(t))
		if err != nil {
			t.Fatal(err)
		}
		subscribers[name] = b.mustSubscriber(t, feed.SubscriberConfig{JetStream: js, Exclusive: true, Drain: patience})
		in := mustSubscribe(t, subscribers[name], "topics.a")
		handling.Go(func() { handle(name, in) })
	}
	mustPublish(t, b, "topics.a", bodies(all/2)...)
	mustEventually(t, "the first half", func() bool { return count() == all/2 })
	mu.Lock()
	first := ""
	for name := range by {
		first = name
	}
	if len(by) != 1 {
		t.Errorf("more than one at a time: %v", by)
	}
	mu.Unlock()
	if err := subscribers[first].Close(); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, b, "topics.a", bodies(all)[all/2:]...)
	mustEventually(t, "the second half", func() bool { return count() == all })
	for _, s := range subscribers {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	handling.Wait()
	if !slices.Equal(got, bodies(all)) {
		t.Errorf("out of order: %v", got)
	}
	if len(by) != 2 {
		t.Errorf("handled by %v", by)
	}
}
