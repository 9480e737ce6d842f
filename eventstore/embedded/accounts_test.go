package embedded_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/access"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

func TestNobodyMayConnectByDefault(t *testing.T) {
	s := eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy, Listen: "127.0.0.1:0"})
	for _, user := range []string{"", "key_auditor", "_node", access.AccountLog} {
		if _, err := nats.Connect(s.ClientURL(), nats.UserInfo(user, "password")); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("connect as %q: %v", user, err)
		}
	}
}

// The nkeys of nodes are good inside the process only.
func TestNodesConnectInside(t *testing.T) {
	secrets, err := access.NewSecrets()
	if err != nil {
		t.Fatal(err)
	}
	s := eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy, Listen: "127.0.0.1:0", Secrets: secrets})
	for _, account := range []string{access.AccountLog, access.AccountClients, access.AccountSystem} {
		nc, err := s.ConnectTo(t.Context(), account)
		if err != nil {
			t.Fatalf("inside, in %s: %v", account, err)
		}
		nc.Close()
		identity, err := secrets.Options(account)
		if err != nil {
			t.Fatal(err)
		}
		if nc, err := nats.Connect(s.ClientURL(), identity...); err == nil {
			nc.Close()
			t.Errorf("from outside, in %s: connected", account)
		}
	}
	if _, err := s.ConnectTo(t.Context(), "OTHER"); err == nil {
		t.Error("connected in an account that is not there")
	}
}

// Until a node can answer the callout, clients are not let in to be refused.
func TestListenLater(t *testing.T) {
	s := eventstoretest.MustServer(t, embedded.Config{
		Sync: embedded.SyncLazy, Listen: "127.0.0.1:0", ListenLater: true, Users: map[string]string{"u": "p"},
	})
	eventstoretest.MustConnect(t, s)
	if nc, err := nats.Connect(s.ClientURL(), nats.UserInfo("u", "p")); err == nil {
		nc.Close()
		t.Error("connected before the port was opened")
	}
	for range 2 { // the second finds it open
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
	}
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo("u", "p"))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()

	taken := strings.TrimPrefix(s.ClientURL(), "nats://")
	if _, err := embedded.Start(t.Context(), embedded.Config{DataDir: t.TempDir(), Listen: taken, ListenLater: true}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port that is taken: %v", err)
	}
}

// The log of before there were accounts is found again, and the move is told.
func TestStreamsMoveToTheirAccount(t *testing.T) {
	dir := t.TempDir()
	log, stop := mustLog(t, embedded.Config{DataDir: dir})
	eventstoretest.MustAppend(t, log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1))
	stop()
	streams := filepath.Join(dir, "jetstream")
	if err := os.Rename(filepath.Join(streams, access.AccountLog), filepath.Join(streams, "$G")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(streams, access.AccountLog, "streams"), 0o700); err != nil { // a start that made no stream
		t.Fatal(err)
	}
	for i := range 2 { // it stays where it was moved
		var out lockedBuffer
		log, stop = mustLog(t, embedded.Config{DataDir: dir, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		if head, err := log.Head(t.Context()); err != nil || head != 1 {
			t.Errorf("head %d, %v", head, err)
		}
		stop()
		if told := strings.Contains(out.String(), "moved to an account"); told != (i == 0) {
			t.Errorf("start %d: told of a move: %v\n%s", i+1, told, out.String())
		}
	}
}

// An older release that is run on a data dir finds no log and makes one. This one
// does not choose between them, and starts when one is out of the way.
func TestStreamsInTwoAccounts(t *testing.T) {
	dir := t.TempDir()
	log, stop := mustLog(t, embedded.Config{DataDir: dir})
	eventstoretest.MustAppend(t, log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1))
	stop()
	other := t.TempDir()
	_, stop = mustLog(t, embedded.Config{DataDir: other})
	stop()
	former := filepath.Join(dir, "jetstream", "$G")
	if err := os.CopyFS(former, os.DirFS(filepath.Join(other, "jetstream", access.AccountLog))); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.Start(t.Context(), embedded.Config{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "an older release was started") || !strings.Contains(err.Error(), former) {
		t.Fatalf("started with %v", err)
	}
	if err := os.Rename(former, filepath.Join(t.TempDir(), "aside")); err != nil {
		t.Fatal(err)
	}
	log, stop = mustLog(t, embedded.Config{DataDir: dir})
	defer stop()
	if head, err := log.Head(t.Context()); err != nil || head != 1 {
		t.Errorf("head %d, %v", head, err)
	}
}

func mustLog(t *testing.T, cfg embedded.Config) (log *eventstore.Log, stop func()) {
	t.Helper()
	s, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := s.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return eventstoretest.MustOpen(t, eventstore.Config{Conn: nc}), func() {
		nc.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
