package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// within is how long anything in these tests may take before it counts as lost.
const within = 30 * time.Second

// output is a buffer that a program writes while a test reads.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// running is a program that runs inside the test.
type running struct {
	stdout, stderr output
	stop           context.CancelFunc // as Ctrl-C would
	code           chan int
}

// begin starts the program inside the test.
func begin(t *testing.T, env map[string]string, stdin io.Reader, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // cleanups run after the test's context
	r := &running{stop: cancel, code: make(chan int, 1)}
	go func() {
		r.code <- run(ctx, args, stdin, &r.stdout, &r.stderr, func(name string) string { return env[name] })
	}()
	t.Cleanup(cancel)
	return r
}

// wait returns the program's exit code.
func (r *running) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-r.code:
		r.code <- code
		return code
	case <-time.After(within):
		t.Fatalf("still running after %v\n%s\n%s", within, r.stdout.String(), r.stderr.String())
		return -1
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// world is a data dir, perhaps with a server on it, and what the command line is
// given to find it.
type testWorld struct {
	dataDir string
	env     map[string]string
	server  *running // nil: none
}

func newTestWorld(t *testing.T) *testWorld {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	return &testWorld{dataDir: dir, env: map[string]string{
		"KEYLEDGER_DATA_DIR": dir, "KEYLEDGER_ADDR": "127.0.0.1:0", "KEYLEDGER_NATS_LISTEN": "127.0.0.1:0",
	}}
}

// mustStart starts a server inside the test and waits until it is ready.
func (w *testWorld) mustStart(t *testing.T, flags ...string) {
	t.Helper()
	w.server = begin(t, w.env, nil, append([]string{"serve"}, flags...)...)
	eventually(t, "the server is ready", func() bool {
		select {
		case code := <-w.server.code:
			t.Fatalf("serve ended with %d: %s", code, w.server.stderr.String())
		default:
		}
		return strings.Contains(w.server.stdout.String(), "Next, in another terminal")
	})
	t.Cleanup(func() { w.mustStop(t) })
}

// mustStop stops the server in order.
func (w *testWorld) mustStop(t *testing.T) {
	t.Helper()
	if w.server == nil {
		return
	}
	w.server.stop()
	if code := w.server.wait(t); code != exitOK {
		t.Errorf("serve ended with %d: %s", code, w.server.stderr.String())
	}
	w.server = nil
}

func (w *testWorld) address(t *testing.T) serverFile {
	t.Helper()
	found, err := findServer(w.dataDir)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (w *testWorld) operatorToken(t *testing.T) string {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(w.dataDir, operatorTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// cli runs a command to its end.
func (w *testWorld) cli(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	r := begin(t, w.env, strings.NewReader(stdin), args...)
	code := r.wait(t)
	return result{code, r.stdout.String(), r.stderr.String()}
}

// must runs a command that must succeed and returns its standard output.
func (w *testWorld) must(t *testing.T, args ...string) string {
	t.Helper()
	r := w.cli(t, "", args...)
	if r.code != exitOK {
		t.Fatalf("keyledger %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// mustDecode runs a command with --output json and decodes what it prints.
func (w *testWorld) mustDecode(t *testing.T, out any, args ...string) {
	t.Helper()
	text := w.must(t, append(args, "--output", "json")...)
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(out); err != nil {
		t.Fatalf("keyledger %s: %v in %s", strings.Join(args, " "), err, text)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("keyledger %s: more than one value: %s", strings.Join(args, " "), text)
	}
}

// mustCreate creates a key and returns its token and id.
func (w *testWorld) mustCreate(t *testing.T, args ...string) (token, id string) {
	t.Helper()
	token = strings.TrimSuffix(w.must(t, append([]string{"keys", "create"}, args...)...), "\n")
	if strings.ContainsAny(token, " \n") || len(token) < 62 {
		t.Fatalf("standard output is not one token: %d characters", len(token))
	}
	return token, "key_" + token[len(token)-54:len(token)-38]
}
