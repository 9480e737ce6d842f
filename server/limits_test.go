package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

func mustDial(t *testing.T, s *servertest.Stack) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestSlowRequests sends requests that never end.
func TestSlowRequests(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
		c.ReadHeaderTimeout, c.ReadTimeout, c.IdleTimeout = 200*time.Millisecond, 400*time.Millisecond, 200*time.Millisecond
	}})
	t.Run("headers", func(t *testing.T) {
		conn := mustDial(t, s)
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Errorf("the connection was not closed in order: %v", err)
		}
	})
	t.Run("body", func(t *testing.T) {
		conn := mustDial(t, s)
		if _, err := fmt.Fprintf(conn, "POST /v1/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", s.Operator); err != nil {
			t.Fatal(err)
		}
		mustProblem(t, mustAnswer(t, conn), 408, "body_timeout")
	})
	t.Run("body cut short", func(t *testing.T) {
		conn := mustDial(t, s)
		if _, err := fmt.Fprintf(conn, "POST /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", s.Operator); err != nil {
			t.Fatal(err)
		}
		half, ok := conn.(*net.TCPConn)
		if !ok {
			t.Fatal("not a TCP connection")
		}
		if err := half.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		mustProblem(t, mustAnswer(t, conn), 400, "body_incomplete")
	})
	t.Run("idle", func(t *testing.T) {
		conn := mustDial(t, s)
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Errorf("the connection was not closed in order: %v", err)
		}
	})
}

func mustAnswer(t *testing.T, conn net.Conn) servertest.Answer {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // a test's
	return servertest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: mustReadAll(t, resp.Body)}
}

// TestLargeRequests sends more than is read.
func TestLargeRequests(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	t.Run("headers", func(t *testing.T) {
		a := s.Do(t, servertest.Request{Path: "/healthz", Header: map[string]string{"X-Large": strings.Repeat("x", 32<<10)}})
		if a.Status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d", a.Status)
		}
	})
	t.Run("a body that says so is refused unread", func(t *testing.T) {
		conn := mustDial(t, s)
		if _, err := fmt.Fprintf(conn, "POST /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n", s.Operator); err != nil {
			t.Fatal(err)
		}
		mustProblem(t, mustAnswer(t, conn), 413, "body_too_large")
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Errorf("the connection was not closed: %v", err)
		}
	})
	t.Run("a chunked body does not say", func(t *testing.T) {
		for size, status := range map[int]int{64 << 10: 400, 64<<10 + 1: 413} { // 64 KiB of x are read, and are no JSON
			req := s.NewRequest(t, t.Context(), servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: ""})
			req.Body, req.ContentLength = io.NopCloser(io.LimitReader(endless{}, int64(size))), -1
			if a := mustSend(t, req); a.Status != status {
				t.Errorf("%d bytes: status %d: %s", size, a.Status, a.Body)
			}
		}
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// brokenKeys is a key table that panics, or blocks.
type brokenKeys struct {
	server.KeyReader
	block chan struct{}
}

func (b brokenKeys) Keys(context.Context, projections.KeyQuery) (projections.KeyPage, error) {
	panic("with something secret: " + canary)
}

func (b brokenKeys) Key(ctx context.Context, _ domain.KeyID, _ *projections.Moment) (projections.KeyRecord, error) {
	select {
	case <-b.block:
		return projections.KeyRecord{}, errors.New("the disk is on fire")
	case <-ctx.Done():
		return projections.KeyRecord{}, fmt.Errorf("read the table: %w", ctx.Err())
	}
}

const canary = "canary-that-must-not-sing"

func TestFaults(t *testing.T) {
	block := make(chan struct{})
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
		c.Keys = brokenKeys{block: block}
		c.HandlerTimeout = 100 * time.Millisecond
	}})
	p := mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/keys", Token: s.Operator}), 500, "internal")
	logs := s.Logs.String()
	if !strings.Contains(logs, p.RequestID) || !strings.Contains(logs, "brokenKeys") {
		t.Error("the log does not show where it panicked")
	}
	path := "/v1/management-keys/" + mustOperatorID(t, s) // the table is asked for keys that exist only
	timeout := s.Do(t, servertest.Request{Path: path, Token: s.Operator})
	mustProblem(t, timeout, 503, "timeout")
	close(block)
	broken := s.Do(t, servertest.Request{Path: path, Token: s.Operator})
	mustProblem(t, broken, 500, "internal")
	if strings.Contains(string(broken.Body), "fire") {
		t.Error("the answer tells of the inside")
	}
	if logs := s.Logs.String(); !strings.Contains(logs, "the disk is on fire") || strings.Contains(logs, canary) {
		t.Error("the log lacks the cause, or holds what the panic held")
	}
}

// slowCommands lets a test hold a command.
type slowCommands struct {
	server.Commands
	entered, release chan struct{}
}

func (c slowCommands) CreateKey(ctx context.Context, r command.Request, n command.NewKey) (command.Outcome, error) {
	c.entered <- struct{}{}
	<-c.release
	return c.Commands.CreateKey(ctx, r, n)
}

// TestDrain stops a server in the middle of a command: the command is done, the
// answer arrives, and new connections are refused.
func TestDrain(t *testing.T) {
	slow := slowCommands{entered: make(chan struct{}), release: make(chan struct{})}
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
		slow.Commands = c.Commands
		c.Commands = &slow
	}})
	req := s.NewRequest(t, t.Context(), servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: goodKey})
	answered := make(chan int, 1)
	go func() {
		resp, err := new(http.Client).Do(req)
		if err != nil {
			answered <- 0
			return
		}
		_ = resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-slow.entered
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.MustStop(t)
	}()
	for { // until the listener is closed
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	close(slow.release)
	if status := <-answered; status != 201 {
		t.Errorf("the command in flight was answered with %d", status)
	}
	<-stopped
}

func TestReadiness(t *testing.T) {
	broken := errors.New("the history is being read; at seq 7")
	var failing, degraded error
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
		c.Parts = []server.Part{
			{Name: "log", Check: func(context.Context) error { return nil }},
			{Name: "verifier", Check: func(context.Context) error { return failing }},
			{Name: "tables", Check: func(context.Context) error { return degraded }, Optional: true},
		}
	}})
	var ready client.Readiness
	s.MustDo(t, 200, servertest.Request{Path: "/readyz"}, &ready)
	if !ready.Ready || len(ready.Parts) != 3 {
		t.Errorf("ready: %+v", ready)
	}
	failing = broken
	s.MustDo(t, 503, servertest.Request{Path: "/readyz"}, &ready)
	if ready.Ready || !ready.Parts[0].Ready || ready.Parts[1].Ready || ready.Parts[1].Error != broken.Error() {
		t.Errorf("not ready: %+v", ready)
	}
	failing, degraded = nil, errors.New("the database does not answer")
	s.MustDo(t, 200, servertest.Request{Path: "/readyz"}, &ready)
	if !ready.Ready || ready.Parts[2].Ready || ready.Parts[2].Error != degraded.Error() {
		t.Errorf("degraded: %+v", ready)
	}
	inside := errors.New("dial tcp 192.0.2.1:5432: user=kl: connection refused")
	for want, err := range map[string]error{
		"PostgreSQL cannot be reached (read_store_unavailable)": &domain.Error{
			Kind: domain.KindUnavailable, Code: projections.CodeUnavailable, Message: "PostgreSQL cannot be reached", Cause: inside,
		},
		"the event at seq 7 cannot be taken in (read_store_stopped)": &projections.EventError{Seq: 7, Reason: inside.Error()},
	} {
		degraded = fmt.Errorf("read /var/lib/keys.db: %w", err)
		s.MustDo(t, 200, servertest.Request{Path: "/readyz"}, &ready)
		if got := ready.Parts[2].Error; got != want {
			t.Errorf("to anybody who asks: %q, want %q", got, want)
		}
	}
	if a := s.MustDo(t, 200, servertest.Request{Path: "/healthz"}, nil); string(a.Body) != "ok\n" {
		t.Errorf("healthz: %s", a.Body)
	}
}
