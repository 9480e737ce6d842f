package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
)

// examples are programs for producers, as the documentation shows them.
const examples = "../../docs/examples"

// mustProducerKey makes a management key for a producer of acme.
func (w *testWorld) mustProducerKey(t *testing.T) (token, id string) {
	t.Helper()
	return w.mustCreate(t, "--management", "--name", "billing", "--account", "acme",
		"--scopes", "keyledger.commands,keyledger.keys:write,keyledger.keys:read", "--grant-environments", "live", "--grant-scopes", "invoices:*")
}

// mustNATSCLI returns the nats command line that make test-tools has built, in a
// directory of its own as nats.
func mustNATSCLI(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("../../.bin/nats-v*")
	if err != nil || len(found) == 0 {
		t.Fatalf("the nats command line is missing: run make test-tools (%v)", err)
	}
	slices.Sort(found)
	tool, err := filepath.Abs(found[len(found)-1])
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "nats")
	if err := os.Symlink(tool, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// runExample runs a program and returns its standard output.
func runExample(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", name, err, redact(string(out)), redact(stderr.String()))
	}
	return string(out)
}

// TestProducerOnTheCommandLine runs the script that uses nothing but the nats command
// line: what it asks for happens once, and its repeat is answered as before.
func TestProducerOnTheCommandLine(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	token, id := w.mustProducerKey(t)
	tokenFile := filepath.Join(t.TempDir(), "token")
	env := []string{
		"PATH=" + filepath.Dir(mustNATSCLI(t)) + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"NATS_URL=" + w.address(t).NATSURL, "NATS_PASSWORD=" + token, "ACCOUNT=acme", "TOKEN_FILE=" + tokenFile,
	}
	script, err := filepath.Abs(filepath.Join(examples, "nats-cli", "producer.sh"))
	if err != nil {
		t.Fatal(err)
	}
	outcomes := func() (list []client.CommandOutcome) {
		t.Helper()
		for line := range strings.Lines(runExample(t, t.TempDir(), env, script)) {
			var o client.CommandOutcome
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if o.Outcome != "" { // and not where the stream has put a command
				list = append(list, o)
			}
		}
		return list
	}
	first := outcomes()
	if len(first) != 3 {
		t.Fatalf("outcomes %+v", first)
	}
	for i, command := range []string{"create_key", "rotate_key", "revoke_key"} {
		if o := first[i]; o.Command != command || o.Outcome != client.OutcomeDone || o.Replayed || o.Producer != id || o.KeyID == "" {
			t.Errorf("%s: %+v", command, o)
		}
	}
	kept, err := os.ReadFile(tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key with the producer's own token is revoked", func() bool {
		r := w.cli(t, strings.TrimSpace(string(kept)), "verify")
		return strings.HasPrefix(r.stdout, "REVOKED") && strings.Contains(r.stdout, first[0].KeyID)
	})
	before := w.must(t, "events", "replay", "--output", "json")
	for i, o := range outcomes() {
		if f := first[i]; o.KeyID != f.KeyID || o.Seq != f.Seq || o.Outcome != f.Outcome {
			t.Errorf("sent again: %+v, first %+v", o, f)
		}
	}
	eventually(t, "the last repeat is known as one", func() bool {
		var o client.CommandOutcome
		w.mustDecode(t, &o, "commands", "show", first[2].ID, "--account", "acme")
		return o.Replayed
	})
	if after := w.must(t, "events", "replay", "--output", "json"); after != before {
		t.Error("repeats have left something in the log")
	}
}

// TestProducerInNode installs the example in another language and runs it.
func TestProducerInNode(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	token, _ := w.mustProducerKey(t)
	dir := filepath.Join(t.TempDir(), "node")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(examples, "node"))); err != nil {
		t.Fatal(err)
	}
	tokenFile := filepath.Join(t.TempDir(), "billing.token")
	if err := os.WriteFile(tokenFile, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"NATS_URL=" + w.address(t).NATSURL, "KEYLEDGER_TOKEN_FILE=" + tokenFile, "KEYLEDGER_ACCOUNT=acme",
	}
	runExample(t, dir, env, "npm", "ci", "--no-audit", "--no-fund")
	out := runExample(t, dir, env, "npm", "start", "--silent")
	want := `created key_… active
again key_… the first outcome
rotated key_… with its token
revoked; the first command is done and shows no token
refused key_revoked
`
	if !matches(out, want) {
		t.Errorf("the example prints\n%s\nwant\n%s", redact(out), want)
	}
	// The token that it makes has the form of ours.
	checked := runExample(t, dir, env, "node", "--input-type=module", "-e",
		`import { newToken } from "./token.js"; process.stdout.write(newToken("test"))`)
	if r := w.cli(t, checked, "verify"); !strings.HasPrefix(r.stdout, "UNKNOWN") {
		t.Errorf("a token made in Node: %s", redact(r.stdout))
	}
}
