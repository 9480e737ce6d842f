package intake_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/server/servertest"
	"github.com/keyledger/keyledger/verify"
)

// Every command, through NATS only: what it does, what the reply says, what is kept.
func TestCommands(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	d.mustOpen(t, d.config())

	made := d.ask(t, sent{command: "create_key", id: "c1", data: newKey(), with: map[string]any{"comexampleext": true, "time": "2030-01-01T00:00:00Z", "datacontenttype": "application/json"}})
	if made.Outcome != client.OutcomeDone || made.Key == nil || made.Key.CreatedBy != d.producer || made.Token == "" || made.Replayed || made.Seq == 0 {
		t.Fatalf("create: %+v", made)
	}
	if result := d.Verifier.Verify(made.Token, verify.Requirement{}); !result.Valid() && d.Verifier.WaitFor(t.Context(), made.Seq) == nil {
		if result = d.Verifier.Verify(made.Token, verify.Requirement{}); !result.Valid() {
			t.Errorf("the token is %s", result.Code)
		}
	}
	updated := d.ask(t, sent{command: "update_key", id: "c2", data: map[string]any{"key_id": made.KeyID, "name": "b", "expires_on": "2040-01-01"}})
	if updated.Outcome != client.OutcomeDone || updated.Key.Name != "b" || updated.Key.ExpiresAt == nil || updated.Token != "" {
		t.Errorf("update: %+v", updated)
	}
	updated = d.ask(t, sent{command: "update_key", id: "c3", data: map[string]any{"key_id": made.KeyID, "expires_on": nil}})
	if updated.Outcome != client.OutcomeDone || updated.Key.ExpiresAt != nil {
		t.Errorf("update: %+v", updated)
	}
	rotated := d.ask(t, sent{command: "rotate_key", id: "c4", data: map[string]any{"key_id": made.KeyID, "overlap": "24h"}})
	if rotated.Outcome != client.OutcomeDone || rotated.Key.RotatedFrom != made.KeyID || rotated.Token == "" || rotated.KeyID != rotated.Key.ID {
		t.Errorf("rotate: %+v", rotated)
	}
	revoked := d.ask(t, sent{command: "revoke_key", id: "c5", data: map[string]any{"key_id": rotated.KeyID, "reason": "laptop lost"}})
	if revoked.Outcome != client.OutcomeDone || revoked.Key.Status != "revoked" || revoked.Key.RevokeReason != "laptop lost" {
		t.Errorf("revoke: %+v", revoked)
	}
	refused := d.ask(t, sent{command: "update_key", id: "c6", data: map[string]any{"key_id": rotated.KeyID, "name": "c"}})
	if refused.Outcome != client.OutcomeRefused || refused.Code != domain.CodeKeyRevoked || refused.Fix == "" || refused.Key != nil || refused.KeyID != rotated.KeyID {
		t.Errorf("update of a revoked key: %+v", refused)
	}

	// What is kept is what was replied, without key and token; and nothing keeps a token.
	for id, reply := range map[string]client.CommandReply{"c1": made, "c4": rotated, "c6": refused} {
		got := d.mustOutcome(t, "default", id)
		if text(t, got) != text(t, reply.CommandOutcome) {
			t.Errorf("the outcome of %s is %+v, and the reply was %+v", id, got, reply.CommandOutcome)
		}
	}
	d.mustDrain(t)
	mustHoldNoToken(t, d, made.Token, rotated.Token)
	mustEventually(t, "what was carried out is purged", func() bool {
		s, err := d.js.Stream(t.Context(), string(eventstore.SideCommands))
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// mustHoldNoToken reads every stream, the logs and the metrics.
func mustHoldNoToken(t *testing.T, d *door, tokens ...string) {
	t.Helper()
	look := func(where, content string) {
		for _, token := range tokens {
			if strings.Contains(content, token) || strings.Contains(content, token[len(token)-38:]) {
				t.Errorf("%s holds a token", where)
			}
		}
	}
	look("the log of the node", d.Logs.String())
	look("the metrics", string(d.MustDo(t, 200, servertest.Request{Path: "/metrics"}, nil).Body))
	names := d.js.StreamNames(t.Context())
	for name := range names.Name() {
		s, err := d.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		state := s.CachedInfo().State
		for seq := max(state.FirstSeq, 1); seq <= state.LastSeq; seq++ {
			if msg, err := s.GetMsg(t.Context(), seq); err == nil {
				look(name, fmt.Sprint(msg.Subject, msg.Header, string(msg.Data)))
			}
		}
	}
	if names.Err() != nil {
		t.Fatal(names.Err())
	}
}

// A repeat gets the first outcome, over restarts of the door; another content is
// refused, and does not take the place of the first outcome.
func TestRepeats(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	_, stop := d.mustOpen(t, d.config())
	first := d.ask(t, sent{command: "create_key", id: "same", data: newKey()})
	if again := d.ask(t, sent{command: "create_key", id: "same", data: newKey()}); !again.Replayed || again.Token != "" || again.KeyID != first.KeyID || again.Seq != first.Seq {
		t.Errorf("again: %+v", again)
	}
	stop()
	d.mustOpen(t, d.config())
	if again := d.ask(t, sent{command: "create_key", id: "same", data: newKey()}); !again.Replayed || again.KeyID != first.KeyID || again.Seq != first.Seq {
		t.Errorf("after a restart: %+v", again)
	}
	other := newKey()
	other["name"] = "another"
	if r := d.ask(t, sent{command: "create_key", id: "same", data: other}); r.Outcome != client.OutcomeRefused || r.Code != domain.CodeIdempotencyConflict {
		t.Errorf("other content: %+v", r)
	}
	if o := d.mustOutcome(t, "default", "same"); o.Outcome != client.OutcomeDone || o.KeyID != first.KeyID {
		t.Errorf("the outcome that is kept: %+v", o)
	}
	if n := d.events(t, first.KeyID); n != 1 {
		t.Errorf("%d events", n)
	}
}

// The same id by the same actor is the same command at either door.
func TestBothDoors(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	d.mustOpen(t, d.config())
	key := d.MustCreateKey(t, client.CreateKeyRequest{}).Key.ID
	other := d.MustCreateKey(t, client.CreateKeyRequest{}).Key.ID
	token := "sk_live_" + strings.Repeat("a", 10) // only its hash is sent
	sum := sha256.Sum256([]byte(token))
	full := map[string]any{
		"name": " all ", "environment": "test", "scopes": []string{"invoices:read", "clients:read"}, "expires_at": "2040-01-01T01:02:03.5Z",
		"description": "d", "metadata": map[string]string{"a": "b"}, "allowed_ips": []string{"10.0.0.0/8"}, "token_sha256": hex.EncodeToString(sum[:]),
	}
	tests := []struct {
		command, path, method string
		body                  map[string]any
		key                   string
	}{
		{"create_key", "/v1/keys", "POST", newKey(), ""},
		{"create_key", "/v1/keys", "POST", full, ""},
		{"update_key", "/v1/keys/" + key, "PATCH", map[string]any{"name": "x", "scopes": []string{"invoices:read"}, "metadata": map[string]string{}, "expires_on": "2041-01-01"}, key},
		{"update_key", "/v1/keys/" + key, "PATCH", map[string]any{"expires_at": nil, "allowed_ips": []string{}}, key},
		{"rotate_key", "/v1/keys/" + key + "/rotate", "POST", map[string]any{"overlap": "1h30m"}, key},
		{"revoke_key", "/v1/keys/" + other + "/revoke", "POST", map[string]any{}, other},
	}
	for i, tt := range tests {
		for _, httpFirst := range []bool{true, false} {
			id := fmt.Sprintf("both-%d-%t", i, httpFirst)
			if tt.command == "update_key" {
				tt.body["description"] = id // or there would be nothing to change the second time
			}
			if !httpFirst && (tt.command == "rotate_key" || tt.command == "revoke_key" || tt.body["token_sha256"] != nil) {
				continue // once is all there is
			}
			data := map[string]any{}
			maps.Copy(data, tt.body)
			if tt.key != "" {
				data["key_id"] = tt.key
			}
			overHTTP := func() (seq uint64, replayed bool) {
				var out client.KeyResult
				a := d.Do(t, servertest.Request{Method: tt.method, Path: tt.path, Token: d.token, Body: tt.body, Header: map[string]string{"Idempotency-Key": id}})
				if err := json.Unmarshal(a.Body, &out); err != nil || a.Status >= 300 {
					t.Fatalf("%s over HTTP: %d %s", tt.command, a.Status, a.Body)
				}
				return out.Seq, a.Header.Get("Idempotent-Replayed") == "true"
			}
			overNATS := func() (uint64, bool) {
				r := d.ask(t, sent{command: tt.command, id: id, data: data})
				if r.Outcome != client.OutcomeDone {
					t.Fatalf("%s over NATS: %+v", tt.command, r)
				}
				return r.Seq, r.Replayed
			}
			first, second := overHTTP, overNATS
			if !httpFirst {
				first, second = overNATS, overHTTP
			}
			seq, replayed := first()
			again, replayedAgain := second()
			if replayed || !replayedAgain || seq != again {
				t.Errorf("%s %v, HTTP first %t: seq %d replayed %t, then seq %d replayed %t", tt.command, tt.body, httpFirst, seq, replayed, again, replayedAgain)
			}
		}
	}
}

// Commands that are sent while nobody is there are carried out once when somebody
// comes, in their order for each key.
func TestNobodyThere(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	var keys []string
	for range 5 {
		keys = append(keys, d.MustCreateKey(t, client.CreateKeyRequest{}).Key.ID)
	}
	const each = 20
	for n := range each {
		for k, key := range keys {
			d.mustPublish(t, sent{command: "update_key", id: fmt.Sprintf("u-%d-%d", k, n), data: map[string]any{"key_id": key, "name": fmt.Sprint("name ", n)}})
		}
	}
	d.mustPublish(t, sent{command: "create_key", id: "waiting", data: newKey()})
	d.mustOpen(t, d.config())
	d.mustDrain(t)
	d.mustOpen(t, d.config()) // another node on the same consumer
	for _, key := range keys {
		h, err := d.Log.Load(t.Context(), eventstore.KeyAggregate("default", domain.KeyID(key)), eventstore.Leader)
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, e := range h.Events[1:] {
			if u, ok := e.Data.(domain.KeyUpdated); ok && u.Name != nil {
				order = append(order, *u.Name)
			}
		}
		var want []string
		for n := range each {
			want = append(want, fmt.Sprint("name ", n))
		}
		if !slices.Equal(order, want) {
			t.Errorf("%s: %v", key, order)
		}
	}
	if o := d.mustOutcome(t, "default", "waiting"); o.Outcome != client.OutcomeDone || d.events(t, o.KeyID) != 1 {
		t.Errorf("the key that waited: %+v", o)
	}
}

// An instance key names the account in the subject.
func TestInstanceProducer(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	d.mustOpen(t, d.config())
	root := d.MustManagementKey(t, "_root", domain.ScopeCommands, domain.ScopeKeysWrite).Key.ID
	made := d.ask(t, sent{producer: root, account: "acme", command: "create_key", id: "i1", data: newKey()})
	if made.Outcome != client.OutcomeDone || made.Key.Account != "acme" {
		t.Fatalf("%+v", made)
	}
	if r := d.ask(t, sent{producer: root, account: "default", command: "revoke_key", id: "i2", data: map[string]any{"key_id": made.KeyID}}); r.Code != domain.CodeKeyNotFound {
		t.Errorf("a key of another account than the subject's: %+v", r)
	}
	if o := d.mustOutcome(t, "acme", "i1"); o.Producer != root {
		t.Errorf("%+v", o)
	}
}

// Whoever may read the log can have copies of events delivered to a subject of
// commands. The stream takes none: events say which stream they are for. If it did,
// they would be no commands.
func TestCopiesOfEvents(t *testing.T) {
	d := mustDoor(t, servertest.Config{})
	d.mustOpen(t, d.config())
	d.MustCreateKey(t, client.CreateKeyRequest{})
	head := d.head(t)
	subject := "keyledger.commands.default." + d.producer + ".create_key"
	seen, err := d.nc.SubscribeSync(subject) // without anybody who listens nothing is delivered
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := d.nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := legacy.AddConsumer(eventstore.StreamName, &nats.ConsumerConfig{DeliverSubject: subject, DeliverPolicy: nats.DeliverAllPolicy, AckPolicy: nats.AckNonePolicy}); err != nil {
		t.Fatal(err)
	}
	var copies [][]byte
	for range head {
		msg, err := seen.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, msg.Data)
	}
	for _, body := range copies { // as if the stream had taken it
		seq := d.mustPublish(t, sent{subject: subject, body: body})
		if int(seq) > len(copies) {
			t.Errorf("the stream took a copy: %d comes after it", seq)
		}
		if l := d.mustDead(t, seq); l.Code != "unknown_type" {
			t.Errorf("%+v", l)
		}
	}
	if now := d.head(t); now != head {
		t.Errorf("%d events came of copies of events", now-head)
	}
}
