package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

func TestReplayFilters(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	_, first := w.mustCreate(t, "--name", "first", "--environment", "live", "--full-access")                        // seq 2
	_, second := w.mustCreate(t, "--name", "second", "--environment", "live", "--full-access", "--account", "acme") // seq 3
	w.must(t, "keys", "revoke", first, "--yes")                                                                     // seq 4

	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"everything":     {nil, "1 2 3 4"},
		"an account":     {[]string{"--account", "acme"}, "3"},
		"a key":          {[]string{"--key", first}, "2 4"},
		"a type":         {[]string{"--type", string(domain.TypeKeyRevoked)}, "4"},
		"two types":      {[]string{"--type", string(domain.TypeKeyRevoked) + "," + string(domain.TypeKeyCreated), "--from-seq", "3"}, "3 4"},
		"from a seq":     {[]string{"--from-seq", "4"}, "4"},
		"from an hour":   {[]string{"--from-time", "1h"}, "1 2 3 4"},
		"from tomorrow":  {[]string{"--from-time", "now+24h"}, ""},
		"of another key": {[]string{"--key", second, "--from-seq", "4"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var seqs []string
			for line := range strings.Lines(w.must(t, append([]string{"events", "replay", "--output", "json"}, tc.args...)...)) {
				var event client.EventRecord
				if err := json.Unmarshal([]byte(line), &event); err != nil {
					t.Fatalf("%v in %s", err, line)
				}
				seqs = append(seqs, fmt.Sprint(event.Seq))
			}
			if got := strings.Join(seqs, " "); got != tc.want {
				t.Errorf("seqs %s, want %s", got, tc.want)
			}
		})
	}
	table := w.must(t, "events", "replay", "--key", first)
	for _, word := range []string{"SEQ", "key.created.v1", `"first"`, "full access", "key.revoked.v1"} {
		if !strings.Contains(table, word) {
			t.Errorf("no %s in\n%s", word, table)
		}
	}
}

func TestFollowGoesOnUntilInterrupted(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	follow := begin(t, w.env, nil, "events", "follow", "--output", "json", "--type", string(domain.TypeKeyCreated))
	eventually(t, "the history was printed", func() bool { return strings.Count(follow.stdout.String(), "\n") == 1 })
	_, id := w.mustCreate(t, "--name", "new", "--environment", "live", "--full-access")
	eventually(t, "the new event was printed", func() bool { return strings.Contains(follow.stdout.String(), id) })
	follow.stop()
	if code := follow.wait(t); code != exitOK {
		t.Errorf("exit code %d: %s", code, follow.stderr.String())
	}
	if got := strings.Count(follow.stdout.String(), "\n"); got != 2 {
		t.Errorf("%d lines", got)
	}
}

// TestFollowFromNowGoesByTheLog begins behind the events that there are, however
// young they are, and misses none of those that come.
func TestFollowFromNowGoesByTheLog(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	_, before := w.mustCreate(t, "--name", "before", "--environment", "live", "--full-access")
	follow := begin(t, w.env, nil, "events", "follow", "--from-now", "--output", "json")
	eventually(t, "a new event was printed", func() bool {
		w.mustCreate(t, "--name", "after", "--environment", "live", "--full-access")
		return follow.stdout.String() != ""
	})
	follow.stop()
	follow.wait(t)
	if out := follow.stdout.String(); strings.Contains(out, before) || !strings.Contains(out, `"after"`) {
		t.Errorf("it printed\n%s", out)
	}

	token, _ := w.mustCreate(t, "--management", "--name", "auditor", "--account", "_root", "--scopes", "keyledger.audit:read")
	w.env["KEYLEDGER_TOKEN"] = token
	if r := w.cli(t, "", "events", "follow", "--from-now"); r.code != exitFailed || !strings.Contains(r.stderr, "keyledger.verify") {
		t.Errorf("with a key that may not verify: %+v", r)
	}
}

// TestReplayRefusedSaysOneThing asks for what is not there, and as nobody: "No
// events." would be another answer than the error.
func TestReplayRefusedSaysOneThing(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	nobody := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(nobody, []byte("nobody's\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"(404 ": {"--key", "key_nobody"},
		"(401 ": {"--token-file", nobody},
	} {
		r := w.cli(t, "", append([]string{"events", "replay"}, args...)...)
		if r.code != exitFailed || !strings.Contains(r.stderr, name) || strings.Contains(r.stderr, "No events") || r.stdout != "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := w.cli(t, "", "events", "replay", "--from-seq", "1000"); r.code != exitOK || !strings.Contains(r.stderr, "No events.") {
		t.Errorf("an empty history: %+v", r)
	}
}

// TestOfficialClientReadsTheSame reads the embedded log with nats.go as an auditor
// would, and compares it byte for byte with what replay prints.
func TestOfficialClientReadsTheSame(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	_, id := w.mustCreate(t, "--name", `"quoted" <&> ünïcödé`, "--environment", "live", "--full-access", "--metadata", "a=b")
	w.must(t, "keys", "rotate", id, "--overlap", "1h")
	w.must(t, "keys", "revoke", id, "--yes", "--reason", "gone")
	want := w.must(t, "events", "replay", "--output", "json")

	token := w.operatorToken(t)
	user := "key_" + token[len("kl_admin_"):len("kl_admin_")+16]
	conn, err := nats.Connect(w.address(t).NATSURL, nats.UserInfo(user, token), nats.CustomInboxPrefix(eventstore.InboxPrefix(user)),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // it prints by default
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(t.Context(), eventstore.StreamName, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := consumer.Fetch(strings.Count(want, "\n"), jetstream.FetchMaxWait(within))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for msg := range messages.Messages() {
		meta, err := msg.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "{\"seq\":%d,\"subject\":%q,\"event\":%s}\n", meta.Sequence.Stream, msg.Subject(), msg.Data())
	}
	if err := messages.Error(); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("the client reads\n%s\nreplay prints\n%s", got.String(), want)
	}

	t.Run("and may do nothing else", func(t *testing.T) {
		if _, err := js.Publish(t.Context(), eventstore.SubjectPrefix+".default.key.key_x", []byte("{}")); err == nil {
			t.Error("an auditor published an event")
		}
	})
	t.Run("and nobody else may", func(t *testing.T) {
		account, accountID := w.mustCreate(t, "--management", "--name", "auditor of acme", "--account", "acme", "--scopes", "keyledger.audit:read")
		reader, readerID := w.mustCreate(t, "--management", "--name", "no auditor", "--account", "_root", "--scopes", "keyledger.keys:read")
		for name, who := range map[string]nats.Option{
			"nobody":             nats.UserInfo("", ""),
			"an account's":       nats.UserInfo(accountID, account),
			"without the scope":  nats.UserInfo(readerID, reader),
			"under another name": nats.UserInfo(readerID, token),
			"the node itself":    nats.UserInfo("_node", token),
		} {
			if conn, err := nats.Connect(w.address(t).NATSURL, who); err == nil {
				conn.Close()
				t.Errorf("%s was let in", name)
			}
		}
	})
}
