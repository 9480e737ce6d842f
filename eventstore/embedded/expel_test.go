package embedded_test

import (
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

// roll is who may connect and stay.
type roll struct {
	mu   sync.Mutex
	gone map[string]bool
}

func (r *roll) strike(user string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone[user] = true
}

func (r *roll) has(user string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.gone[user]
}

func TestConnectionEndsWithTheRight(t *testing.T) {
	const other = "key_other"
	r := &roll{gone: map[string]bool{"_node": true}} // nobody asks about the node
	s := eventstoretest.MustServer(t, embedded.Config{
		Sync: embedded.SyncLazy, Listen: "127.0.0.1:0",
		Authenticate: func(user, _ string) (embedded.Permissions, bool) { return embedded.Auditor(user), r.has(user) },
		Allowed:      r.has, AllowedInterval: 20 * time.Millisecond,
	})
	node := eventstoretest.MustConnect(t, s)
	log := eventstoretest.MustOpen(t, eventstore.Config{Conn: node})
	eventstoretest.MustAppend(t, log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 0))

	at := site{server: s}
	closed := make(chan struct{})
	leaver := at.mustConnect(t, auditor, nats.ClosedHandler(func(*nats.Conn) { close(closed) }), nats.ReconnectWait(10*time.Millisecond))
	stayer := at.mustConnect(t, other)
	followed := make(chan struct{}, 100)
	js, err := jetstream.New(leaver)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	following, err := consumer.Consume(func(jetstream.Msg) { followed <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer following.Stop()
	<-followed

	r.strike(auditor)
	select {
	case <-closed: // the client came back once, and was refused
	case <-time.After(10 * time.Second):
		t.Fatal("the connection lasts")
	}
	if !errors.Is(leaver.LastError(), nats.ErrAuthorization) {
		t.Errorf("the client ended with: %v", leaver.LastError())
	}
	eventstoretest.MustAppend(t, log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1))
	for name, nc := range map[string]*nats.Conn{"the node": node, "another auditor": stayer} {
		if err := nc.Flush(); err != nil || nc.Stats().Reconnects > 0 {
			t.Errorf("%s was disturbed: %v", name, err)
		}
	}
}

// A client must not be able to pass for another, or for the node, by giving the
// server more than it asks for.
func TestUserIsNotHiddenBehindAKey(t *testing.T) {
	s := mustSite(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.server.ClientURL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	login, err := json.Marshal(map[string]any{"user": auditor, "pass": password, "nkey": "_node", "verbose": false, "protocol": 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("CONNECT " + string(login) + "\r\nPING\r\n")); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if !strings.Contains(said.String(), "Authorization Violation") {
		t.Errorf("the server said %q", said.String())
	}
}
