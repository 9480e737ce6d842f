package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/eventstore"
)

// TestCommandsOverNATS is a producer with nothing but its management key, against a
// node as it is shipped: it creates, rotates and revokes, is refused, and sends what
// is dead, which a person then looks at.
func TestCommandsOverNATS(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	token, id := w.mustCreate(t, "--management", "--name", "billing", "--account", "acme",
		"--scopes", "keyledger.commands,keyledger.keys:write", "--grant-environments", "live", "--grant-scopes", "invoices:*")
	p := mustProducer(t, w.address(t).NATSURL, id, token)

	made := p.ask(t, "create_key", "c1", `{"name":"POS","environment":"live","scopes":["invoices:read"]}`)
	if made.Outcome != client.OutcomeDone || made.Token == "" || made.Key.Account != "acme" {
		t.Fatalf("%+v", made)
	}
	rotated := p.ask(t, "rotate_key", "c2", `{"key_id":"`+made.KeyID+`"}`)
	if rotated.Outcome != client.OutcomeDone || rotated.Token == "" {
		t.Fatalf("%+v", rotated)
	}
	if r := p.ask(t, "revoke_key", "c3", `{"key_id":"`+rotated.KeyID+`","reason":"gone"}`); r.Outcome != client.OutcomeDone {
		t.Fatalf("%+v", r)
	}
	if r := p.ask(t, "create_key", "c4", `{"name":"POS","environment":"test","scopes":["invoices:read"]}`); r.Code != "ceiling_exceeded" {
		t.Fatalf("%+v", r)
	}
	if r := p.ask(t, "create_key", "c5", `{"colour":"red"}`); r.Outcome != client.OutcomeDead {
		t.Fatalf("%+v", r)
	}

	if out := w.must(t, "commands", "show", "c1", "--account", "acme"); !strings.Contains(out, made.KeyID) || !strings.Contains(out, "done") || strings.Contains(out, made.Token) {
		t.Error(out)
	}
	if out := w.must(t, "commands", "dead-letters", "list"); !strings.Contains(out, "unknown_member") || !strings.Contains(out, "c5") {
		t.Error(out)
	}
	if out := w.must(t, "commands", "dead-letters", "show", "1"); !strings.Contains(out, `{"colour":"red"}`) {
		t.Error(out)
	}
	if r := w.cli(t, "", "commands", "dead-letters", "resend", "1", "--yes", "--output", "table"); !strings.Contains(r.stdout, "Sent again") || !strings.Contains(r.stderr, "commands show c5 --account acme") {
		t.Errorf("%+v", r)
	}
	if r := w.cli(t, "", "commands", "show", ""); r.code != exitUsage || !strings.Contains(r.stderr, "the id of the command is empty") {
		t.Errorf("%+v", r)
	}
	eventually(t, "it is dead again", func() bool {
		return strings.Count(w.must(t, "commands", "dead-letters", "list"), "unknown_member") == 2
	})
	if out := w.must(t, "commands", "dead-letters", "list", "--account", "nobody", "--output", "json"); !strings.Contains(out, `"dead_letters": []`) {
		t.Error(out)
	}
}

// producer is a client of NATS with a management key.
type producer struct {
	conn   *nats.Conn
	id     string
	inbox  string
	answer *nats.Subscription
}

func mustProducer(t *testing.T, url, id, token string) *producer {
	t.Helper()
	p := &producer{id: id, inbox: eventstore.InboxPrefix(id) + ".answers"}
	var err error
	if p.conn, err = nats.Connect(url, nats.UserInfo(id, token), nats.CustomInboxPrefix(eventstore.InboxPrefix(id))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.conn.Close)
	if p.answer, err = p.conn.SubscribeSync(p.inbox); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *producer) ask(t *testing.T, command, id, data string) (r client.CommandReply) {
	t.Helper()
	msg := nats.NewMsg("keyledger.commands.acme." + p.id + "." + command)
	msg.Header.Set(eventstore.ReplyHeader, p.inbox)
	msg.Data = []byte(`{"specversion":"1.0","id":"` + id + `","source":"billing","type":"keyledger.command.` + command + `.v1","data":` + data + `}`)
	ack, err := p.conn.RequestMsg(msg, 5*time.Second)
	if err != nil || !strings.Contains(string(ack.Data), `"seq"`) {
		t.Fatalf("%s: %v %+v", id, err, ack)
	}
	answer, err := p.answer.NextMsg(within)
	if err != nil {
		t.Fatalf("no answer to %s: %v", id, err)
	}
	if err := json.Unmarshal(answer.Data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}
