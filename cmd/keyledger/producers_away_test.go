package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/client/natsclient"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// cliPublisher is nats pub, connected and reading commands from its standard input,
// one a line. New connections are refused while no node is up; this one was made before.
type cliPublisher struct {
	t     *testing.T
	lines io.WriteCloser
	out   output
	done  chan struct{} // closed when it has ended
}

func mustCLIPublisher(t *testing.T, tool, url, id, token, command string) *cliPublisher {
	t.Helper()
	p := &cliPublisher{t: t, done: make(chan struct{})}
	cmd := exec.Command(tool, "--inbox-prefix", eventstore.InboxPrefix(id), //nolint:noctx // ended below
		"pub", "--jetstream", "--force-stdin", "--send-on", "newline", "--no-templates", "keyledger.commands.acme."+id+"."+command)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "NATS_URL="+url, "NATS_USER="+id, "NATS_PASSWORD="+token)
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	var err error
	if p.lines, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.lines.Close()
		select {
		case <-p.done:
		case <-time.After(within):
			_ = cmd.Process.Kill()
			<-p.done
		}
	})
	eventually(t, "nats pub is connected", func() bool { return strings.Contains(p.out.String(), "Reading payload from STDIN") })
	return p
}

// send publishes a command and waits until the stream has it.
func (p *cliPublisher) send(id, command, data string) {
	p.t.Helper()
	before := strings.Count(p.out.String(), "Stored in Stream: KEYLEDGER_COMMANDS")
	_, err := fmt.Fprintf(p.lines, `{"specversion":"1.0","id":%q,"source":"nats-cli","type":"keyledger.command.%s.v1","data":%s}`+"\n", id, command, data)
	if err != nil {
		p.t.Fatal(err)
	}
	deadline := time.After(within)
	for strings.Count(p.out.String(), "Stored in Stream: KEYLEDGER_COMMANDS") == before {
		select {
		case <-deadline:
			p.t.Fatalf("%s was not stored: %s", id, p.out.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestCommandsWhileNoNodeIsUp: on NATS servers of one's own, all nodes are killed,
// producers go on, and when nodes come back each command is carried out once. Sent
// again, it is answered as before.
func TestCommandsWhileNoNodeIsUp(t *testing.T) {
	w := newTestWorld(t)
	cluster := mustNATSCluster(t, w)
	program, dir := mustBuild(t), t.TempDir()
	start := func(name string) *process {
		return mustServe(t, program, filepath.Join(dir, name), withFlags(cluster.flags...))
	}
	nodes := []*process{start("one"), start("two")}
	operator := nodes[0].operator()
	admin := nodes[1].client(operator)
	key := func() string {
		t.Helper()
		out, err := admin.CreateKey(t.Context(), client.CreateKeyRequest{Name: "before", Account: "acme", Environment: "live", Scopes: []string{"invoices:read"}})
		if err != nil {
			t.Fatal(err)
		}
		return out.Key.ID
	}
	toRotate, toRevoke := key(), key()
	made, err := admin.CreateManagementKey(t.Context(), client.CreateManagementKeyRequest{
		Name: "billing", Account: "acme", Scopes: []string{string(domain.ScopeCommands), string(domain.ScopeKeysWrite)},
		Grants: &client.Grants{Environments: []string{"live"}, Scopes: []string{"invoices:*"}},
	})
	if err != nil {
		t.Fatal(err)
	}

	tool := mustNATSCLI(t)
	publishers := map[string]*cliPublisher{}
	for _, command := range []string{"create_key", "rotate_key", "revoke_key"} {
		publishers[command] = mustCLIPublisher(t, tool, cluster.url, made.Key.ID, made.Token, command)
	}
	producer, err := natsclient.New(t.Context(), natsclient.Config{
		URL: cluster.url, Token: client.StaticToken(made.Token), Account: "acme", Timeout: within,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()

	for _, node := range nodes {
		node.kill()
	}
	hash := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	sent := []struct{ id, command, data string }{
		{"cli-create", "create_key", `{"name":"away","environment":"live","scopes":["invoices:read"],"token_sha256":"` + hash("a token of the producer's") + `"}`},
		{"cli-rotate", "rotate_key", `{"key_id":"` + toRotate + `","overlap":"1h","token_sha256":"` + hash("and its next") + `"}`},
		{"cli-revoke", "revoke_key", `{"key_id":"` + toRevoke + `","reason":"nobody was there"}`},
	}
	sendAll := func() {
		t.Helper()
		for _, s := range sent {
			publishers[s.command].send(s.id, s.command, s.data)
		}
	}
	sendAll()
	sendAll() // impatient
	goSent, err := producer.SendCreateKey(t.Context(), client.CreateKeyRequest{Name: "away", Environment: "live", Scopes: []string{"invoices:read"}})
	if err != nil {
		t.Fatal(err)
	}

	nodes = []*process{start("two"), start("one")}
	began := time.Now()
	admin = nodes[0].client(operator)
	outcome := func(id string, holds func(client.CommandOutcome) bool) (o client.CommandOutcome) {
		t.Helper()
		eventually(t, "what became of "+id, func() bool {
			var err error
			o, err = admin.CommandOutcome(t.Context(), "acme", id)
			return err == nil && holds(o)
		})
		return o
	}
	first := map[string]client.CommandOutcome{}
	for _, s := range sent {
		first[s.id] = outcome(s.id, func(o client.CommandOutcome) bool { return o.Outcome == client.OutcomeDone })
	}
	late, err := producer.Outcome(t.Context(), goSent.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("all were carried out %v after a node was ready", time.Since(began).Round(time.Millisecond))
	for text, id := range map[string]string{
		goSent.Token.Reveal(): late.KeyID, "a token of the producer's": first["cli-create"].KeyID, "and its next": first["cli-rotate"].KeyID,
	} {
		eventually(t, "the key "+id+" is good on the other node too", func() bool {
			v, err := admin.Verify(t.Context(), client.VerifyRequest{Key: text})
			return err == nil && v.Valid && v.KeyID == id
		})
	}

	// Once each, by the log, whose events name the command that they come from.
	count := func() map[string]int {
		t.Helper()
		times := map[string]int{}
		for event, err := range admin.Events(t.Context(), client.EventQuery{}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"cli-create", "cli-rotate", "cli-revoke", goSent.ID} {
				if strings.Contains(string(event.Event), `"commandid":"`+id+`"`) {
					times[id]++
				}
			}
		}
		return times
	}
	want := fmt.Sprint(map[string]int{"cli-create": 1, "cli-rotate": 2, "cli-revoke": 1, goSent.ID: 1}) // a rotation is two events
	if got := fmt.Sprint(count()); got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	again := time.Now()
	sendAll()
	for _, s := range sent {
		o := outcome(s.id, func(o client.CommandOutcome) bool { return o.Replayed && o.Time.After(again) })
		if f := first[s.id]; o.KeyID != f.KeyID || o.Seq != f.Seq || o.Outcome != f.Outcome {
			t.Errorf("sent again: %+v, first %+v", o, f)
		}
	}
	if got := fmt.Sprint(count()); got != want {
		t.Errorf("after a repeat events %s, want %s", got, want)
	}
}
