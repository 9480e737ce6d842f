package access_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

// targets are subjects that a client must not be able to have anything sent to, by
// the server or anybody else.
func targets() []string {
	return []string{
		"keyledger.events.acct_1.key.key_x",
		"keyledger.outcomes.acct_2.c1",
		"keyledger.announced.acct_2.c1",
		"keyledger.dead.acct_2.key_stranger.create_key",
		"keyledger.usage.key_stranger",
		"keyledger.commands.acct_2.key_stranger.create_key",
		"$KV.KEYLEDGER_LEASES.deadlines",
		"$JS.API.STREAM.DELETE." + eventstore.StreamName,
		"$JS.API.STREAM.PURGE." + string(eventstore.SideDead),
		"$SYS.REQ.USER.AUTH",
	}
}

// Permissions say where a client may publish, not where it may have answers sent.
// The server would send them anywhere in the client's account; nothing that counts
// is there.
func TestAnswersStayOutOfTheLog(t *testing.T) {
	for name, start := range sites() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.keys.add("key_operator", domain.RootAccount, domain.ScopeCommands, domain.ScopeAuditRead, domain.ScopeVerify)
			leases, err := s.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "KEYLEDGER_LEASES", Storage: jetstream.MemoryStorage})
			if err != nil {
				t.Fatal(err)
			}
			nc := s.mustConnect(t, "key_operator")
			js, err := jetstream.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			pull, err := js.CreateConsumer(t.Context(), eventstore.StreamName, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			const command = "keyledger.commands.acct_1.key_operator.create_key"
			sent := uint64(0)
			for _, target := range targets() {
				for subject, body := range map[string]string{
					"$JS.API.INFO": "",
					"$JS.API.STREAM.INFO." + eventstore.StreamName:                                         "",
					"$JS.API.STREAM.MSG.GET." + eventstore.StreamName:                                      `{"seq":1}`,
					"$JS.API.DIRECT.GET." + eventstore.StreamName:                                          `{"seq":1,"batch":2}`,
					"$JS.API.CONSUMER.MSG.NEXT." + eventstore.StreamName + "." + pull.CachedInfo().Name:    `1`,
					"$JS.API.DIRECT.GET." + string(eventstore.SideOutcomes) + ".keyledger.outcomes.acct_1": "",
					command:                        "{}",
					"keyledger.usage.key_operator": "{}",
				} {
					if err := nc.PublishRequest(subject, target, []byte(body)); err != nil {
						t.Fatal(err)
					}
				}
				sent++
			}
			// A request may also ask for reports of its way. Where it may not publish itself,
			// the server drops the request altogether.
			for _, target := range targets() {
				traced := &nats.Msg{Subject: command, Data: []byte("{}"), Header: nats.Header{"Nats-Trace-Dest": {target}}}
				if err := nc.PublishMsg(traced); err != nil {
					t.Fatal(err)
				}
			}
			// What came in first has been dealt with when this is answered.
			for range 2 {
				if _, err := js.Publish(t.Context(), command, []byte("{}")); err != nil {
					t.Fatal(err)
				}
				sent++
			}
			s.mustBeUntouched(t, eventstore.SideCommands, eventstore.SideUsage)
			if _, last := s.size(t, string(eventstore.SideCommands)); last != sent {
				t.Errorf("%d commands are there, %d were sent", last, sent)
			}
			if _, last := s.size(t, string(eventstore.SideUsage)); last != uint64(len(targets())) {
				t.Errorf("%d reports of use are there, %d were sent", last, len(targets()))
			}
			s.mustHaveNo(t, leases)
		})
	}
}

// A reader may create consumers of every sort. One that pushes must not get copies
// of events into a stream, not even where a client of its own subscribes.
func TestConsumersStayOutOfTheLog(t *testing.T) {
	for name, start := range sites() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.keys.add("key_operator", domain.RootAccount, domain.ScopeCommands, domain.ScopeAuditRead, domain.ScopeVerify)
			leases, err := s.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "KEYLEDGER_LEASES", Storage: jetstream.MemoryStorage})
			if err != nil {
				t.Fatal(err)
			}
			nc := s.mustConnect(t, "key_operator")
			heard, err := nc.SubscribeSync("keyledger.outcomes.acct_2.c1")
			if err != nil {
				t.Fatal(err)
			}
			js, err := jetstream.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			for _, target := range targets() {
				request, err := json.Marshal(map[string]any{
					"stream_name": eventstore.StreamName, "action": "create",
					"config": map[string]any{"name": "push", "deliver_subject": target, "deliver_policy": "all", "ack_policy": "none", "replay_policy": "instant"},
				})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := nc.Request("$JS.API.CONSUMER.CREATE."+eventstore.StreamName+".push", request, 5*time.Second); err != nil {
					t.Fatal(err)
				}
				if target == "keyledger.announced.acct_2.c1" {
					// The one that somebody listens to: it reaches whoever follows, and no stream.
					eventstoretest.Eventually(t, soon, "the copies are delivered", func() bool { n, _, err := heard.Pending(); return err == nil && n == events })
				}
				// Another consumer is served after the first has delivered what it can.
				c, err := js.OrderedConsumer(t.Context(), eventstore.StreamName, jetstream.OrderedConsumerConfig{})
				if err != nil {
					t.Fatal(err)
				}
				mustFetch(t, c, 1)
				if _, err := nc.Request("$JS.API.CONSUMER.DELETE."+eventstore.StreamName+".push", nil, 5*time.Second); err != nil {
					t.Fatal(err)
				}
			}
			s.mustBeUntouched(t)
			s.mustHaveNo(t, leases)
		})
	}
}

// mustFetch gets as many messages. On a cluster the server of a client may hear of a
// consumer a moment after the client does, and say that nobody answers for it.
func mustFetch(t *testing.T, c jetstream.Consumer, n int) (got []jetstream.Msg) {
	t.Helper()
	eventstoretest.Eventually(t, soon, "messages are fetched", func() bool {
		batch, err := c.Fetch(n-len(got), jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for msg := range batch.Messages() {
			got = append(got, msg)
		}
		if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrNoResponders) {
			t.Fatal(err)
		}
		return len(got) == n
	})
	return got
}

func (s *site) mustHaveNo(t *testing.T, bucket jetstream.KeyValue) {
	t.Helper()
	status, err := bucket.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.Values() != 0 {
		t.Errorf("the bucket %s holds %d values", status.Bucket(), status.Values())
	}
}

// The auditor's tool is the official client, used the official way.
func TestAuditorReads(t *testing.T) {
	for name, start := range sites() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.keys.add(auditor, domain.RootAccount, domain.ScopeAuditRead)
			js, err := jetstream.New(s.mustConnect(t, auditor))
			if err != nil {
				t.Fatal(err)
			}
			st, err := js.Stream(t.Context(), eventstore.StreamName)
			if err != nil {
				t.Fatal(err)
			}
			if got := st.CachedInfo().State.LastSeq; got != events {
				t.Fatalf("last seq %d", got)
			}
			msg, err := st.GetMsg(t.Context(), 1)
			if err != nil {
				t.Fatalf("get: %v", err)
			}
			if _, err := st.GetLastMsgForSubject(t.Context(), msg.Subject); err != nil {
				t.Fatalf("get by subject: %v", err)
			}
			ordered, err := js.OrderedConsumer(t.Context(), eventstore.StreamName, jetstream.OrderedConsumerConfig{})
			if err != nil {
				t.Fatal(err)
			}
			plain, err := js.CreateConsumer(t.Context(), eventstore.StreamName, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
			if err != nil {
				t.Fatal(err)
			}
			for name, c := range map[string]jetstream.Consumer{"ordered": ordered, "plain": plain} {
				n := 0
				for _, msg := range mustFetch(t, c, events) {
					n++
					meta, err := msg.Metadata()
					if err != nil || meta.Sequence.Stream != uint64(n) || msg.Headers().Get("Content-Type") != "application/cloudevents+json" || !json.Valid(msg.Data()) {
						t.Errorf("%s: not event %d: %+v, %v, %s", name, n, meta, err, msg.Data())
					}
				}
			}
			if err := js.DeleteConsumer(t.Context(), eventstore.StreamName, plain.CachedInfo().Name); err != nil {
				t.Errorf("delete the own consumer: %v", err)
			}
		})
	}
}
