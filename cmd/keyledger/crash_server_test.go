package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

const (
	readyWithin = 30 * time.Second
	stopWithin  = 20 * time.Second
	pollEvery   = 2 * time.Millisecond
)

// TestMain removes the program that tests have built. This binary may also be
// started as a NATS server of a test.
func TestMain(m *testing.M) {
	eventstoretest.NodeMain()
	code := m.Run()
	built.remove()
	os.Exit(code)
}

// built is the program, built when the first test asks for it.
var built builtProgram

// builtProgram is the program as it is shipped, without the race detector: what is
// killed here is what people run, at the speed at which they run it. The race
// detector looks at the same code in the tests of the packages.
type builtProgram struct {
	once sync.Once
	dir  string
	err  error
}

// mustBuild returns the path of the program.
func mustBuild(t *testing.T) string {
	t.Helper()
	built.once.Do(func() { built.build(t) })
	if built.err != nil {
		t.Fatalf("build the program: %v", built.err)
	}
	return built.path()
}

func (b *builtProgram) path() string { return filepath.Join(b.dir, "keyledger") }

func (b *builtProgram) build(t *testing.T) {
	t.Helper()
	if b.dir, b.err = os.MkdirTemp("", "keyledger-test-"); b.err != nil { //nolint:usetesting // it outlives the test
		return
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", b.path(), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.err = fmt.Errorf("%w\n%s", err, out)
	}
}

func (b *builtProgram) remove() {
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// process is a server that runs as a process of its own on a data dir.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	dataDir string
	log     string        // file with its standard output and error
	exited  chan struct{} // closed when it has ended
	state   error         // how it ended; read after exited

	address serverFile // once ready
}

// launch starts a server on a data dir and does not wait for it. Signals go to its
// process group, so that they reach it behind a tracer too.
func launch(t *testing.T, program, dataDir string, options ...func(*exec.Cmd)) *process {
	t.Helper()
	p := &process{t: t, dataDir: dataDir, log: dataDir + ".log", exited: make(chan struct{})}
	// Not CommandContext: the test's context ends before its cleanups run.
	p.cmd = exec.Command(program, "serve", "--data-dir", dataDir, "--addr", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0") //nolint:noctx // see above
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, option := range options {
		option(p.cmd)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start the server: %v", err)
	}
	go func() {
		p.state = p.cmd.Wait()
		_ = log.Close()
		close(p.exited)
	}()
	t.Cleanup(p.kill)
	return p
}

// mustServe starts a server and waits until it is ready.
func mustServe(t *testing.T, program, dataDir string, options ...func(*exec.Cmd)) *process {
	t.Helper()
	p := launch(t, program, dataDir, options...)
	p.awaitReady()
	return p
}

// withFlags adds flags of serve.
func withFlags(flags ...string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Args = append(cmd.Args, flags...) }
}

// awaitReady waits until the server says that it is ready.
func (p *process) awaitReady() {
	p.t.Helper()
	p.await("ready", readyWithin, func() bool {
		var err error
		if p.address, err = findServer(p.dataDir); err != nil {
			return false
		}
		state, err := p.client("").Ready(p.t.Context())
		return err == nil && state.Ready
	})
}

// await polls a condition and fails if the server ends before it holds.
func (p *process) await(what string, within time.Duration, holds func() bool) {
	p.t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !holds() {
		select {
		case <-p.exited:
			if holds() {
				return
			}
			p.t.Fatalf("the server ended before it was %s: %v\n%s", what, p.state, p.tail())
		case <-deadline:
			p.t.Fatalf("the server was not %s within %v\n%s", what, within, p.tail())
		case <-tick.C:
		}
	}
}

// ended reports whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// kill ends the process as kill -9 does, and waits until it is gone.
func (p *process) kill() {
	_ = p.signal(syscall.SIGKILL) // it may have ended by itself
	<-p.exited
}

// stop ends the process as an operator does, and fails unless it ends well.
func (p *process) stop() {
	p.t.Helper()
	if err := p.signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("stop the server: %v\n%s", err, p.tail())
	}
	select {
	case <-p.exited:
	case <-time.After(stopWithin):
		p.t.Fatalf("the server did not stop within %v\n%s", stopWithin, p.tail())
	}
	if p.state != nil {
		p.t.Fatalf("the server stopped with %v\n%s", p.state, p.tail())
	}
}

func (p *process) signal(s syscall.Signal) error {
	if p.ended() {
		return os.ErrProcessDone // its number may be another's by now
	}
	return syscall.Kill(-p.cmd.Process.Pid, s)
}

// tail returns the end of what the server wrote.
func (p *process) tail() string {
	const lines = 30
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// operator returns the operator's token.
func (p *process) operator() string {
	p.t.Helper()
	token, err := os.ReadFile(filepath.Join(p.dataDir, operatorTokenFile))
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// client returns a client of the server that sends everything once.
func (p *process) client(token string) *client.Client { return p.clientOver(token, nil) }

// clientOver is client with a transport of the caller's; nil for the default one.
func (p *process) clientOver(token string, over http.RoundTripper) *client.Client {
	p.t.Helper()
	cfg := client.Config{BaseURL: p.address.URL, Retry: client.Retry{Attempts: 1}, HTTPClient: &http.Client{Transport: over}}
	if token != "" {
		cfg.Token = client.StaticToken(token)
	}
	c, err := client.New(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// newTransport returns a transport for many clients at once. It shares nothing
// with other tests, and its connections end with this one.
func newTransport(t *testing.T, clients int) *http.Transport {
	t.Helper()
	transport := &http.Transport{MaxIdleConns: clients, MaxIdleConnsPerHost: clients}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// mustRefuseWith fails unless err is a refusal with this status and code.
func mustRefuseWith(t *testing.T, err error, status int, code, otherwise string) {
	t.Helper()
	refusal, ok := errors.AsType[*client.Error](err)
	if !ok || refusal.Status != status || refusal.Code != code {
		t.Errorf("%s: %v, want %d %s", otherwise, err, status, code)
	}
}
