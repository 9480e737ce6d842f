package embedded_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

// What was acknowledged is there after a restart, and a restart frees the data dir.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	for run := range 3 {
		s, err := embedded.Start(t.Context(), embedded.Config{DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := s.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		log := eventstoretest.MustOpen(t, eventstore.Config{Conn: nc})
		head, err := log.Head(t.Context())
		if err != nil || head != uint64(run) {
			t.Fatalf("run %d: head %d, %v", run, head, err)
		}
		eventstoretest.MustAppend(t, log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", run))
		nc.Close()
		for range 2 { // the second call finds it stopped
			if err := s.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "jetstream")); err != nil {
		t.Errorf("%v has no streams: %v", info.Name(), err)
	}
}

func TestShutdownObeysItsContext(t *testing.T) {
	s := eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Either it was quicker than the look at the context, or it says so.
	if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestStartFails(t *testing.T) {
	busy, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	held := t.TempDir()
	eventstoretest.MustServer(t, embedded.Config{DataDir: held, Sync: embedded.SyncLazy})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  embedded.Config
		want string
	}{
		{"port in use", embedded.Config{DataDir: t.TempDir(), Listen: busy.Addr().String()}, "is in use by another program"},
		{"data dir held", embedded.Config{DataDir: held}, "is in use by another process"},
		{"data dir is a file", embedded.Config{DataDir: file}, "not a directory"},
		{"no data dir", embedded.Config{}, "no data dir"},
		{"no such sync mode", embedded.Config{DataDir: t.TempDir(), Sync: "sometimes"}, "unknown sync mode"},
		{"no port", embedded.Config{DataDir: t.TempDir(), Listen: "127.0.0.1"}, "missing port"},
		{"port of no number", embedded.Config{DataDir: t.TempDir(), Listen: "127.0.0.1:nats"}, "not a number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := embedded.Start(t.Context(), c.cfg)
			if err == nil {
				_ = s.Shutdown(t.Context())
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want %q on one line", err, c.want)
			}
		})
	}
}

func TestStartObeysItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := embedded.Start(ctx, embedded.Config{DataDir: dir}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	eventstoretest.MustServer(t, embedded.Config{DataDir: dir, Sync: embedded.SyncLazy}) // the dir is free
}

// Whoever trades safety for speed is told so; the server's own lines go where
// ours go, and none holds a credential.
func TestLogs(t *testing.T) {
	for sync, warned := range map[embedded.Sync]bool{embedded.SyncAlways: false, "": false, embedded.SyncSecond: true, embedded.SyncLazy: true} {
		t.Run(string(sync), func(t *testing.T) {
			var out lockedBuffer
			s := eventstoretest.MustServer(t, embedded.Config{
				Sync: sync, Listen: "127.0.0.1:0",
				Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
			})
			const password = "correct horse"
			if _, err := nats.Connect(s.ClientURL(), nats.UserInfo("key_auditor", password)); err == nil {
				t.Fatal("connected")
			}
			if got := strings.Contains(out.String(), "a power failure can lose"); got != warned {
				t.Errorf("warned: %v", got)
			}
			if !strings.Contains(out.String(), "nats server") {
				t.Error("the server's lines are missing")
			}
			token := mustToken(t) // by mistake where the user's name belongs
			if _, err := nats.Connect(s.ClientURL(), nats.UserInfo(token, password)); err == nil {
				t.Fatal("connected")
			}
			if strings.Contains(out.String(), password) || strings.Contains(out.String(), token) {
				t.Error("the log holds a credential")
			}
		})
	}
}

func mustToken(t *testing.T) string {
	t.Helper()
	token, err := domain.TokenFormat{}.NewToken(domain.KeyTypeAPI, domain.EnvironmentLive, eventstoretest.KeyID(1), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
