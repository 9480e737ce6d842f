package embedded_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

const (
	stream   = eventstore.StreamName
	auditor  = "key_auditor"
	password = "correct horse"
	events   = 3
)

// site is a server with a log of some events, as an auditor finds it.
type site struct {
	server *embedded.Server
	node   jetstream.JetStream
}

func mustSite(t *testing.T) site {
	t.Helper()
	s := eventstoretest.MustServer(t, embedded.Config{
		Sync: embedded.SyncLazy, Listen: "127.0.0.1:0",
		Authenticate: func(user, pass string) (embedded.Permissions, bool) {
			switch {
			case pass != password:
				return embedded.Permissions{}, false
			case user == auditor:
				return embedded.Auditor(user), true
			default: // known, without any right
				return embedded.Permissions{}, user == "key_nobody"
			}
		},
	})
	nc := eventstoretest.MustConnect(t, s)
	log := eventstoretest.MustOpen(t, eventstore.Config{Conn: nc})
	for i := range events {
		eventstoretest.MustAppend(t, log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", i))
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return site{server: s, node: js}
}

func (s site) connect(user, pass string, opts ...nats.Option) (*nats.Conn, error) {
	opts = append([]nats.Option{nats.UserInfo(user, pass), nats.CustomInboxPrefix(embedded.InboxPrefix(user))}, opts...)
	return nats.Connect(s.server.ClientURL(), opts...)
}

func (s site) mustConnect(t *testing.T, user string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := s.connect(user, password, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestWhoMayConnect(t *testing.T) {
	s := mustSite(t)
	for _, c := range []struct {
		name, user, password string
		ok                   bool
	}{
		{"auditor", auditor, password, true},
		{"known without rights", "key_nobody", password, true},
		{"anonymous", "", "", false},
		{"wrong password", auditor, "wrong", false},
		{"unknown user", "key_unknown", password, false},
		{"the node's own name", "_node", password, false},
		{"the node's own name without password", "_node", "", false},
		{"wildcard in the name", "*", password, false},
		{"subject in the name", "a.>", password, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc, err := nats.Connect(s.server.ClientURL(), nats.UserInfo(c.user, c.password))
			if err == nil {
				nc.Close()
			}
			if c.ok != (err == nil) || err != nil && !errors.Is(err, nats.ErrAuthorization) {
				t.Fatalf("connect: %v", err)
			}
		})
	}
}

func TestNobodyMayConnectByDefault(t *testing.T) {
	s := eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy, Listen: "127.0.0.1:0"})
	if _, err := nats.Connect(s.ClientURL(), nats.UserInfo(auditor, password)); !errors.Is(err, nats.ErrAuthorization) {
		t.Fatalf("connect: %v", err)
	}
}

// The auditor's tool is the official client, used the official way.
func TestAuditorReads(t *testing.T) {
	s := mustSite(t)
	js, err := jetstream.New(s.mustConnect(t, auditor))
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if got := st.CachedInfo().State.LastSeq; got != events {
		t.Fatalf("last seq %d", got)
	}
	msg, err := st.GetMsg(t.Context(), 1)
	if err != nil || !strings.Contains(string(msg.Data), `"keyledger.key.created.v1"`) {
		t.Fatalf("direct get: %v", err)
	}
	if _, err := st.GetLastMsgForSubject(t.Context(), msg.Subject); err != nil {
		t.Fatalf("direct get by subject: %v", err)
	}
	ordered, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := js.CreateConsumer(t.Context(), stream, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]jetstream.Consumer{"ordered": ordered, "plain": plain} {
		batch, err := c.Fetch(events, jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for msg := range batch.Messages() {
			n++
			if msg.Headers().Get("Content-Type") != "application/cloudevents+json" || !json.Valid(msg.Data()) {
				t.Errorf("%s: not a CloudEvent: %s", name, msg.Data())
			}
		}
		if n != events || batch.Error() != nil {
			t.Errorf("%s: %d events, %v", name, n, batch.Error())
		}
	}
	if err := js.DeleteConsumer(t.Context(), stream, plain.CachedInfo().Name); err != nil {
		t.Errorf("delete the own consumer: %v", err)
	}
}

func TestNothingElseIsPermitted(t *testing.T) {
	s := mustSite(t)
	other := jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other.>"}, Storage: jetstream.MemoryStorage}
	if _, err := s.node.CreateStream(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	publish := []string{
		"keyledger.events.acct_1.key.key_x",
		"keyledger.commands.acct_1.key_auditor.create_key",
		"other.x",
		"anything",
		"_INBOX_key_other.x",
		"_INBOX__node.x",
		"$SYS.REQ.SERVER.PING",
		"$JS.API.STREAM.CREATE.NEW",
		"$JS.API.STREAM.UPDATE." + stream,
		"$JS.API.STREAM.DELETE." + stream,
		"$JS.API.STREAM.PURGE." + stream,
		"$JS.API.STREAM.MSG.DELETE." + stream,
		"$JS.API.STREAM.SNAPSHOT." + stream,
		"$JS.API.STREAM.INFO.OTHER",
		"$JS.API.STREAM.MSG.GET.OTHER",
		"$JS.API.DIRECT.GET.OTHER",
		"$JS.API.CONSUMER.CREATE.OTHER.c",
		"$JS.API.CONSUMER.DURABLE.CREATE." + stream + ".c",
		"$JS.API.CONSUMER.NAMES." + stream,
		"$JS.API.CONSUMER.PAUSE." + stream + ".c",
	}
	subscribe := []string{">", "keyledger.>", "keyledger.events.>", "_INBOX.>", "_INBOX_*.>", "_INBOX__node.>", "$SYS.>", "$JS.EVENT.>"}
	for _, user := range []string{auditor, "key_nobody"} {
		t.Run(user, func(t *testing.T) {
			violations := make(chan string, 100)
			nc := s.mustConnect(t, user, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
				violations <- err.Error()
			}))
			refused := func(what, subject string) {
				t.Helper()
				want := `permissions violation for ` + what + ` to "` + strings.ToLower(subject) + `"`
				select {
				case got := <-violations:
					if !strings.Contains(strings.ToLower(got), want) {
						t.Errorf("got %s, want %s", got, want)
					}
				case <-time.After(5 * time.Second):
					t.Errorf("%s %s: not refused", what, subject)
				}
			}
			for _, subject := range publish {
				if err := nc.Publish(subject, []byte("{}")); err != nil {
					t.Fatal(err)
				}
				refused("publish", subject)
			}
			for _, subject := range subscribe {
				if _, err := nc.SubscribeSync(subject); err != nil {
					t.Fatal(err)
				}
				refused("subscription", subject)
			}
		})
	}
	s.mustBeUntouched(t)
}

// A consumer that delivers to the API itself must not get through to it.
func TestConsumerCannotReachTheAPI(t *testing.T) {
	s := mustSite(t)
	nc := s.mustConnect(t, auditor)
	for _, target := range []string{"$JS.API.STREAM.DELETE." + stream, "$JS.API.STREAM.PURGE." + stream, "keyledger.events.acct_1.key.key_x"} {
		request, err := json.Marshal(map[string]any{
			"stream_name": stream, "action": "create",
			"config": map[string]any{
				"name": "push", "deliver_subject": target, "headers_only": true,
				"deliver_policy": "all", "ack_policy": "none", "replay_policy": "instant",
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Request("$JS.API.CONSUMER.CREATE."+stream+".push", request, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		// A second consumer is served after the first has delivered what it can.
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		c, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Request("$JS.API.CONSUMER.DELETE."+stream+".push", nil, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	s.mustBeUntouched(t)
}

func (s site) mustBeUntouched(t *testing.T) {
	t.Helper()
	st, err := s.node.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if state := st.CachedInfo().State; state.Msgs != events || state.LastSeq != events {
		t.Errorf("the stream has changed: %+v", state)
	}
	if _, err := s.node.Stream(t.Context(), "NEW"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("a stream was created: %v", err)
	}
}
