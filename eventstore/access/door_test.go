package access_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

// endsWithin is how long a connection may outlive its key.
const endsWithin = 3 * time.Second

func (s *site) revoke(id domain.KeyID) { s.keys.set(func() { delete(s.keys.good, id) }) }

func TestConnectionEndsWithTheKey(t *testing.T) {
	for name, start := range sites() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.keys.add("key_leaver", domain.RootAccount, domain.ScopeAuditRead)
			s.keys.add("key_stayer", "acct_1", domain.ScopeCommands)
			stayer := s.mustConnect(t, "key_stayer")
			closed := make(chan struct{})
			leaver := s.mustConnect(t, "key_leaver", nats.ClosedHandler(func(*nats.Conn) { close(closed) }), nats.ReconnectWait(10*time.Millisecond))
			js, err := jetstream.New(leaver)
			if err != nil {
				t.Fatal(err)
			}
			consumer, err := js.OrderedConsumer(t.Context(), eventstore.StreamName, jetstream.OrderedConsumerConfig{})
			if err != nil {
				t.Fatal(err)
			}
			followed := make(chan struct{}, 100)
			following, err := consumer.Consume(func(jetstream.Msg) { followed <- struct{}{} })
			if err != nil {
				t.Fatal(err)
			}
			defer following.Stop()
			<-followed

			ended := make(chan struct{})
			leaver.SetDisconnectErrHandler(func(*nats.Conn, error) { close(ended); leaver.SetDisconnectErrHandler(nil) })
			began := time.Now()
			s.revoke("key_leaver")
			for what, done := range map[string]chan struct{}{"the connection has ended": ended, "and does not come back": closed} {
				select {
				case <-done:
				case <-time.After(soon):
					t.Fatal("not seen: " + what)
				}
			}
			took := time.Since(began)
			t.Logf("the connection was gone %v after its key", took.Round(time.Millisecond))
			if took > endsWithin {
				t.Errorf("the connection was gone only %v after its key", took)
			}
			if !errors.Is(leaver.LastError(), nats.ErrAuthorization) {
				t.Errorf("the client ended with: %v", leaver.LastError())
			}
			for name, nc := range map[string]*nats.Conn{"the node": s.node, "another client": stayer} {
				if err := nc.Flush(); err != nil || nc.Stats().Reconnects > 0 {
					t.Errorf("%s was disturbed: %v", name, err)
				}
			}
			if err := s.door.Health(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A key that loses its scope loses its connection.
func TestConnectionEndsWithTheScope(t *testing.T) {
	s := mustEmbedded(t)
	s.keys.add("key_a", "acct_1", domain.ScopeCommands)
	w, ok := dial(t, s.url, map[string]any{"user": "key_a", "pass": "token of key_a"})
	if !ok {
		t.Fatal("not let in")
	}
	s.keys.add("key_a", "acct_1", domain.ScopeKeysRead)
	eventstoretest.Eventually(t, soon, "the connection has ended", func() bool { _, alive := w.flush(); return !alive })
}

// The server itself ends the connection of a key that expires, whether a node is
// there or not.
func TestConnectionExpires(t *testing.T) {
	for name, start := range sites() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			ends := time.Now().Add(2 * time.Second)
			s.keys.set(func() {
				s.keys.good["key_a"] = domain.Authority{Actor: "key_a", Account: "acct_1", Scopes: domain.Scopes{domain.ScopeCommands}, ExpiresAt: ends}
			})
			w, ok := dial(t, s.url, map[string]any{"user": "key_a", "pass": "token of key_a"})
			if !ok {
				t.Fatal("not let in")
			}
			s.keys.set(func() { s.keys.stale = true }) // no node can tell
			var said []string
			eventstoretest.Eventually(t, soon, "the connection has ended", func() bool {
				errs, alive := w.flush()
				said = append(said, errs...)
				return !alive
			})
			if late := time.Since(ends); late < 0 || late > endsWithin {
				t.Errorf("the connection ended %v after its key", late)
			}
			if !strings.Contains(strings.Join(said, " "), "User Authentication Expired") {
				t.Errorf("the server said %q", said)
			}
		})
	}
}

// A key that was made on another node a moment ago is let in by this one.
func TestKeyOfAMomentAgo(t *testing.T) {
	s := mustEmbedded(t)
	s.keys.set(func() {
		s.keys.coming = map[domain.KeyID]domain.Authority{"key_new": {Actor: "key_new", Account: "acct_1", Scopes: domain.Scopes{domain.ScopeCommands}}}
	})
	if _, ok := dial(t, s.url, map[string]any{"user": "key_new", "pass": "token of key_new"}); !ok {
		t.Error("refused")
	}
}

// A node that does not know the keys lets nobody in and sends nobody away.
func TestNotReady(t *testing.T) {
	s := mustEmbedded(t)
	s.keys.add("key_a", "acct_1", domain.ScopeCommands)
	w, _ := dial(t, s.url, map[string]any{"user": "key_a", "pass": "token of key_a"})
	s.keys.set(func() { s.keys.stale = true })
	if _, ok := dial(t, s.url, map[string]any{"user": "key_a", "pass": "token of key_a"}); ok {
		t.Error("a client was let in")
	}
	s.revoke("key_a")
	// Two looks later another client, whose key has ended as well, is still there.
	deadline := time.Now().Add(2500 * time.Millisecond)
	eventstoretest.Eventually(t, soon, "some time has passed", func() bool {
		if _, alive := w.flush(); !alive {
			t.Fatal("a client was sent away by a node that does not know")
		}
		return time.Now().After(deadline)
	})
	s.keys.set(func() { s.keys.stale = false })
	eventstoretest.Eventually(t, soon, "the connection has ended", func() bool { _, alive := w.flush(); return !alive })
}

// A flood of wrong passwords neither fills the log nor keeps out who is right.
func TestFlood(t *testing.T) {
	s := mustEmbedded(t)
	s.keys.add("key_a", "acct_1", domain.ScopeCommands)
	var flood sync.WaitGroup
	for i := range 8 {
		flood.Go(func() {
			for n := range 20 {
				if nc, err := s.connect("key_a", fmt.Sprintf("token of %d-%d", i, n)); err == nil {
					nc.Close()
					t.Error("a wrong password was let in")
				}
			}
		})
	}
	var worst time.Duration
	for range 20 {
		began := time.Now()
		nc, err := s.connect("key_a", "token of key_a")
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
		worst = max(worst, time.Since(began))
	}
	flood.Wait()
	t.Logf("in the flood a connection took at most %v", worst.Round(time.Millisecond))
	if out := s.out.String(); strings.Contains(out, "token of") || strings.Count(out, "refused") > 3 {
		t.Errorf("the log: %s", out)
	}
}

// More connections than a server lists at once are all looked at.
func TestManyConnections(t *testing.T) {
	const many = 5*pageSize + 1
	s := mustEmbedded(t)
	s.keys.add("key_a", "acct_1", domain.ScopeCommands)
	s.keys.add("key_b", "acct_1", domain.ScopeCommands)
	var wires []*wire
	began := time.Now()
	for range many {
		w, ok := dial(t, s.url, map[string]any{"user": "key_a", "pass": "token of key_a"})
		if !ok {
			t.Fatal("not let in")
		}
		wires = append(wires, w)
	}
	t.Logf("%v for a connection", time.Since(began)/many)
	last, _ := dial(t, s.url, map[string]any{"user": "key_b", "pass": "token of key_b"})
	s.revoke("key_b")
	eventstoretest.Eventually(t, soon, "the last connection has ended", func() bool { _, alive := last.flush(); return !alive })
	if _, alive := wires[0].flush(); !alive {
		t.Error("the first has ended too")
	}
	began = time.Now()
	s.revoke("key_a")
	for _, w := range wires {
		eventstoretest.Eventually(t, soon, "a connection has ended", func() bool { _, alive := w.flush(); return !alive })
	}
	t.Logf("%d connections ended in %v", many, time.Since(began).Round(time.Millisecond))
}
