package feed_test

import (
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/keyledger/keyledger/eventstore/feed"
)

// Only what is acknowledged without a gap is purged; the rest comes.
func TestPurgeDone(t *testing.T) {
	b := mustBroker(t)
	s := b.mustSubscriber(t, feed.SubscriberConfig{Lane: func(m *message.Message) string { return string(m.Payload) }})
	in := mustSubscribe(t, s, "topics.a")
	mustPublish(t, b, "topics.a", bodies(10)...)
	var held *message.Message
	for range 10 {
		m := mustReceive(t, in)
		if string(m.Payload) == "4" {
			held = m
			continue
		}
		m.Ack()
	}
	mustEventually(t, "nine acknowledged", func() bool { return pending(t, b, "topics.a") == 1 })
	backlog, err := s.Backlog(t.Context(), "topics.a")
	if err != nil || backlog.Done != 4 || backlog.InHand != 1 || backlog.Waiting != 0 || time.Since(backlog.Oldest) > time.Minute {
		t.Errorf("backlog %+v, %v", backlog, err)
	}
	left := func() uint64 {
		t.Helper()
		if err := s.PurgeDone(t.Context(), "topics.a"); err != nil {
			t.Fatal(err)
		}
		st, err := b.js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		return st.CachedInfo().State.Msgs
	}
	if n := left(); n != 6 {
		t.Errorf("%d messages are left, want 6: the one in hand and all after it", n)
	}
	held.Ack()
	mustEventually(t, "all acknowledged", func() bool { return pending(t, b, "topics.a") == 0 })
	if n := left(); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	if backlog, err = s.Backlog(t.Context(), "topics.a"); err != nil || !backlog.Oldest.IsZero() {
		t.Errorf("backlog %+v, %v", backlog, err)
	}
	mustPublish(t, b, "topics.a", "next")
	m := mustReceive(t, in)
	m.Ack()
	if string(m.Payload) != "next" || feed.DeliveryOf(m).Sequence != 11 {
		t.Errorf("after the purge came %s at %d", m.Payload, feed.DeliveryOf(m).Sequence)
	}
}

// The server is restarted while messages are in hand and on their way. An
// acknowledgement that could not be sent makes its message come again.
func TestRestart(t *testing.T) {
	b := mustBroker(t)
	s := b.mustSubscriber(t, feed.SubscriberConfig{})
	in := mustSubscribe(t, s, "topics.a")
	mustPublish(t, b, "topics.a", bodies(20)...)
	for i := range 10 {
		m := mustReceive(t, in)
		if i == 9 {
			b.stop()
			b.mustStart(t)
		}
		m.Ack()
	}
	seen := map[string]bool{}
	var handling sync.WaitGroup
	handling.Go(func() {
		for m := range in {
			seen[string(m.Payload)] = true
			m.Ack()
		}
	})
	mustEventually(t, "all acknowledged", func() bool {
		backlog, err := s.Backlog(t.Context(), "topics.a")
		return err == nil && backlog.Oldest.IsZero() && backlog.Done == 20
	})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	handling.Wait()
	if len(seen) < 10 {
		t.Errorf("only %d of the other ten came", len(seen))
	}
}
