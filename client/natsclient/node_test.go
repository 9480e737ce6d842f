package natsclient_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/client/natsclient"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

const soon = 20 * time.Second

// sent is a command as a node finds it.
type sent struct {
	subject string
	reply   string
	event   struct {
		SpecVersion, ID, Source, Type string
		Data                          map[string]any
	}
}

// node stands in for keyledger behind the streams, which are real: it answers each
// command as a test says. What real nodes answer is tested in cmd/keyledger.
type node struct {
	t       *testing.T
	log     *eventstore.Log
	streams *eventstore.CommandStreams
	conn    *nats.Conn
	server  *embedded.Server
	token   string // of the producer's management key
	keyID   string

	mu   sync.Mutex
	seen []sent
}

func mustNode(t *testing.T) *node {
	t.Helper()
	id, err := domain.RandomBase62(rand.Reader, 16)
	if err != nil {
		t.Fatal(err)
	}
	token, err := domain.TokenFormat{}.NewToken(domain.KeyTypeManagement, "", domain.NewKeyID(id), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, token: token.Reveal(), keyID: string(domain.NewKeyID(id))}
	n.server = eventstoretest.MustServer(t, embedded.Config{
		Listen: "127.0.0.1:0", Sync: embedded.SyncLazy, Users: map[string]string{n.keyID: n.token},
	})
	n.conn = eventstoretest.MustConnect(t, n.server)
	n.log = eventstoretest.MustOpen(t, eventstore.Config{Conn: n.conn})
	if n.streams, err = n.log.OpenCommands(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// answer begins to answer commands: with an outcome that is stored, and a reply to the
// inbox unless that is nil. stop ends it.
func (n *node) answer(how func(sent) (client.CommandOutcome, *client.CommandReply)) (stop func()) {
	n.t.Helper()
	sub, err := n.conn.Subscribe(eventstore.CommandPrefix+".>", func(msg *nats.Msg) {
		s := sent{subject: msg.Subject, reply: msg.Header.Get(eventstore.ReplyHeader)}
		if err := json.Unmarshal(msg.Data, &s.event); err != nil {
			n.t.Error(err)
		}
		n.mu.Lock()
		n.seen = append(n.seen, s)
		n.mu.Unlock()
		outcome, reply := how(s)
		outcome.ID = s.event.ID
		n.put(outcome)
		if reply != nil && s.reply != "" {
			reply.CommandOutcome = outcome
			n.must(n.conn.Publish(s.reply, n.json(reply)))
		}
	})
	n.must(err)
	n.must(n.conn.Flush())
	return func() { n.must(sub.Unsubscribe()) }
}

func (n *node) put(o client.CommandOutcome) {
	if o.Producer == "" {
		o.Producer = n.keyID
	}
	n.must(n.streams.PutOutcome(context.Background(), domain.DefaultAccount, o.ID, eventstore.StoredOutcome{Body: n.json(o)}))
}

func (n *node) json(v any) []byte {
	body, err := json.Marshal(v)
	n.must(err)
	return body
}

func (n *node) must(err error) {
	if err != nil {
		n.t.Error(err)
	}
}

func (n *node) commands() []sent {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]sent(nil), n.seen...)
}

// mustProducer connects a producer, through another address if one is given.
func (n *node) mustProducer(address string, change ...func(*natsclient.Config)) *natsclient.Producer {
	n.t.Helper()
	if address == "" {
		address = n.server.ClientURL()
	}
	cfg := natsclient.Config{URL: address, Token: client.StaticToken(n.token), Timeout: soon}
	for _, f := range change {
		f(&cfg)
	}
	p, err := natsclient.New(n.t.Context(), cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(p.Close)
	return p
}

func done(keyID string) client.CommandOutcome {
	return client.CommandOutcome{Command: "create_key", Outcome: client.OutcomeDone, KeyID: keyID, Seq: 7}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(soon)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", soon, what)
		}
	}
}
