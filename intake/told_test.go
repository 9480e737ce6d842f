package intake_test

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/intake"
	"github.com/keyledger/keyledger/server/servertest"
)

// refusing is a handler in a world in which no key can be made or changed.
type refusing struct {
	intake.Commands
	err error
}

func (r refusing) CreateKey(context.Context, command.Request, command.NewKey) (command.Outcome, error) {
	return command.Outcome{}, r.err
}

func (r refusing) UpdateKey(context.Context, command.Request, command.Target, command.KeyChanges) (command.Outcome, error) {
	return command.Outcome{}, r.err
}

// cutAfterReply runs a door that answers what is sent, and is cut off before the
// acknowledgement. It returns the answer.
func cutAfterReply(t *testing.T, d *door, cfg intake.Config, s sent) client.CommandReply {
	t.Helper()
	inbox := eventstore.InboxPrefix(d.producer) + ".cut"
	replies, err := d.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	gone, cutOff := context.WithCancel(t.Context())
	defer cutOff()
	reached := make(chan struct{})
	var once sync.Once
	cfg.Reply = func(inbox string, body []byte) error {
		if err := d.nc.Publish(inbox, body); err != nil {
			return err
		}
		once.Do(func() { close(reached) })
		<-gone.Done()
		return gone.Err()
	}
	_, stop := d.mustOpen(t, cfg)
	s.headers = nats.Header{"Keyledger-Reply": {inbox}}
	d.mustPublish(t, s)
	<-reached
	var stopping sync.WaitGroup
	stopping.Go(stop)
	cutOff()
	stopping.Wait()
	r := mustReply(t, replies)
	if err := replies.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	return r
}

func mustReply(t *testing.T, replies *nats.Subscription) (r client.CommandReply) {
	t.Helper()
	msg, err := replies.NextMsg(patience)
	if err != nil {
		t.Fatalf("no reply: %v", err)
	}
	if err := json.Unmarshal(msg.Data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// A command was answered, and the node died before the acknowledgement. Whatever has
// changed since, the answer is the same when the message comes again, and nothing is
// carried out: who was told so acts on it.
func TestToldOnce(t *testing.T) {
	refusal := domain.NewError(domain.KindConflict, domain.CodeKeyRevoked, "not in this world", "wait for another")
	type world struct {
		d   *door
		key string
	}
	for name, tt := range map[string]struct {
		first  func(intake.Commands) intake.Commands // of the node that dies; nil: as usual
		sent   func(world) sent
		change func(*testing.T, world) // of the world, in between
		want   string
		code   string
	}{
		"a key was refused": {
			first:  func(c intake.Commands) intake.Commands { return refusing{c, refusal} },
			sent:   func(world) sent { return sent{command: "create_key", id: "told", data: newKey()} },
			change: func(*testing.T, world) {}, want: client.OutcomeRefused, code: domain.CodeKeyRevoked,
		},
		"a change was refused": {
			first: func(c intake.Commands) intake.Commands { return refusing{c, refusal} },
			sent: func(w world) sent {
				return sent{command: "update_key", id: "told", data: map[string]any{"key_id": w.key, "name": "other"}}
			},
			change: func(*testing.T, world) {}, want: client.OutcomeRefused, code: domain.CodeKeyRevoked,
		},
		"nothing had to change": {
			sent: func(w world) sent {
				return sent{command: "update_key", id: "told", data: map[string]any{"key_id": w.key, "name": "a key"}}
			},
			change: func(t *testing.T, w world) {
				t.Helper()
				w.d.MustDo(t, 200, servertest.Request{Method: "PATCH", Path: "/v1/keys/" + w.key, Token: w.d.token, Body: map[string]any{"name": "renamed"}}, nil)
			},
			want: client.OutcomeDone,
		},
		"a producer that was good no more": {
			sent: func(world) sent { return sent{command: "create_key", id: "told", data: newKey()} },
			change: func(t *testing.T, w world) {
				t.Helper()
				w.d.MustDo(t, 200, servertest.Request{Path: "/v1/management-keys/" + w.d.producer + "/revoke", Token: w.d.Operator, Body: map[string]string{}}, nil)
			},
			want: client.OutcomeDone,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := mustDoor(t, servertest.Config{})
			w := world{d, d.MustCreateKey(t, client.CreateKeyRequest{}).Key.ID}
			cfg := d.config()
			if tt.first != nil {
				cfg.Commands = tt.first(d.Commands)
			}
			told := cutAfterReply(t, d, cfg, tt.sent(w))
			if told.Outcome != tt.want || told.Code != tt.code {
				t.Fatalf("the first answer: %+v", told)
			}
			tt.change(t, w)
			head := d.head(t)

			replies, err := d.nc.SubscribeSync(eventstore.InboxPrefix(d.producer) + ".cut")
			if err != nil {
				t.Fatal(err)
			}
			d.mustOpen(t, d.config())
			again := mustReply(t, replies)
			d.mustDrain(t)
			if now := d.head(t); now != head {
				t.Errorf("%d events came of a command that had been answered", now-head)
			}
			again.Replayed = told.Replayed
			if text(t, again.CommandOutcome) != text(t, told.CommandOutcome) || text(t, again.Key) != text(t, told.Key) {
				t.Errorf("first %+v, then %+v", told, again)
			}
			if o := d.mustOutcome(t, "default", "told"); text(t, o) != text(t, told.CommandOutcome) {
				t.Errorf("what is kept: %+v", o)
			}
		})
	}
}

// A dead command that was told so stays dead when its message comes again, and has
// its letter; the count of faults of ours begins anew.
func TestToldDead(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	cfg := d.config()
	cfg.Commands = panicking{d.Commands}
	told := cutAfterReply(t, d, cfg, sent{command: "create_key", id: "dead", data: newKey()})
	if told.Outcome != client.OutcomeDead {
		t.Fatalf("%+v", told)
	}
	head := d.head(t)
	d.mustOpen(t, d.config())
	d.mustDrain(t)
	list, _, err := d.records.DeadLetters(t.Context(), eventstore.Senders{}, 0, 10)
	if err != nil || len(list) != 1 || list[0].Code != told.Code || list[0].Message != told.Message || list[0].Fix != told.Fix {
		t.Errorf("%+v %v", list, err)
	}
	if now := d.head(t); now != head {
		t.Errorf("%d events", now-head)
	}
}

// The producer sent the refused command again before the lost acknowledgement of the
// first mattered: both have the later answer.
func TestToldOfARepeat(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	s := sent{command: "create_key", id: "told", data: newKey()}
	cfg := d.config()
	var calls atomic.Int32
	cfg.Commands = counting{refusing{d.Commands, domain.NewError(domain.KindConflict, domain.CodeKeyRevoked, "no", "no")}, &calls}
	cutAfterReply(t, d, cfg, s)
	first := d.mustStored(t, "told")
	d.mustPublish(t, s)
	// The repeat is answered by a node that was handed it alone: what another had in
	// hand comes later.
	repeat := first
	repeat.Sent.Seq++
	repeat.Sent.Time = repeat.Sent.Time.Add(1)
	if err := d.streams.PutOutcome(t.Context(), "default", "told", repeat); err != nil {
		t.Fatal(err)
	}
	head := d.head(t)
	before := calls.Load()
	cfg = d.config()
	cfg.Commands = counting{d.Commands, &calls}
	d.mustOpen(t, cfg)
	d.mustDrain(t)
	if n := calls.Load() - before; n != 1 || d.head(t) != head+1 {
		t.Errorf("decided %d times, %d events: want the repeat's alone, which no answer is known of", n, d.head(t)-head)
	}
}

// counting counts the keys that are asked for.
type counting struct {
	intake.Commands
	calls *atomic.Int32
}

func (c counting) CreateKey(ctx context.Context, r command.Request, n command.NewKey) (command.Outcome, error) {
	c.calls.Add(1)
	return c.Commands.CreateKey(ctx, r, n)
}

func (d *door) mustStored(t *testing.T, id string) eventstore.StoredOutcome {
	t.Helper()
	o, err := d.streams.LeaderOutcome(t.Context(), "default", id)
	if err != nil || o.Sent.Seq == 0 {
		t.Fatalf("%+v %v", o, err)
	}
	return o
}
