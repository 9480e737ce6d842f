package eventstore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/access"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

func TestUnavailable(t *testing.T) {
	dir := t.TempDir()
	s, err := embedded.Start(t.Context(), embedded.Config{DataDir: dir, Sync: embedded.SyncLazy, Listen: "127.0.0.1:0", Users: everything()})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := eventstore.Connect(t.Context(), eventstore.ConnectConfig{URL: s.ClientURL(), User: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	log := mustWatched(t, eventstore.Config{Conn: nc, AckTimeout: 200 * time.Millisecond, LeaderWait: 500 * time.Millisecond, WatchInterval: 20 * time.Millisecond})
	b := bench{log: log}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustBecome(t, "unavailable", func(err error) bool { return domain.KindOf(err) == domain.KindUnavailable })
	calls := map[string]func() error{
		"append": func() error {
			_, err := log.Append(t.Context(), eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1))
			return err
		},
		"append of a batch": func() error {
			_, err := log.Append(t.Context(), eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1), eventstoretest.Created("acct_1", 2))
			return err
		},
		"load": func() error {
			_, err := log.Load(t.Context(), eventstoretest.Key("acct_1", 1), eventstore.Leader)
			return err
		},
		"head": func() error { _, err := log.Head(t.Context()); return err },
		"at":   func() error { _, err := log.At(t.Context(), 1); return err },
	}
	for name, call := range calls {
		if err := call(); domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != eventstore.CodeLogUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The server comes back where it was, and everything goes on by itself.
	again, err := embedded.Start(t.Context(), embedded.Config{
		DataDir: dir, Sync: embedded.SyncLazy, Listen: strings.TrimPrefix(s.ClientURL(), "nats://"), Users: everything(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Shutdown(context.WithoutCancel(t.Context())) }()
	b.mustBecome(t, "well again", healthy)
	eventstoretest.MustAppend(t, log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1))
}

func everything() map[string]string { return map[string]string{"u": "p"} }

func TestStorageLimit(t *testing.T) {
	nc := eventstoretest.MustConnect(t, eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy, MaxStoreBytes: 64 << 10}))
	log := eventstoretest.MustOpen(t, eventstore.Config{Conn: nc})
	for i := range 1000 {
		_, err := log.Append(t.Context(), eventstoretest.Meta("c"), eventstoretest.Created("acct_1", i))
		if err == nil {
			continue
		}
		if domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != eventstore.CodeLogFull {
			t.Errorf("append %d: %v", i, err)
		}
		if head, err := log.Head(t.Context()); err != nil || head != uint64(i) {
			t.Errorf("head %d after %d events: %v", head, i, err)
		}
		return
	}
	t.Error("the limit was never reached")
}

// A server that cannot write says nothing to whoever appends.
func TestStorageBreaks(t *testing.T) {
	dir := t.TempDir()
	s := eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy, DataDir: dir})
	silent := eventstore.Config{Conn: eventstoretest.MustConnect(t, s), AckTimeout: 500 * time.Millisecond, WatchInterval: 20 * time.Millisecond}
	told := silent
	told.Fault = s.Fault
	external := mustWatched(t, silent)
	node := mustWatched(t, told)
	// A new file cannot be made, as on a full disk; that takes filling the present one.
	messages := filepath.Join(dir, "jetstream", access.AccountLog, "streams", eventstore.StreamName, "msgs")
	if err := os.RemoveAll(messages); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; i < 1000 && (err == nil || domain.CodeOf(err) == ""); i++ { // slow is not broken
		e := eventstoretest.KeyCreated("acct_1", i)
		e.Description = strings.Repeat("x", 30_000)
		_, err = node.Append(t.Context(), eventstoretest.Meta("c"), eventstore.Change{Aggregate: eventstoretest.Key("acct_1", i), Events: []domain.Event{e}})
	}
	// It broke while it had an append in hand; from then on nothing is sent to it.
	if domain.CodeOf(err) != eventstore.CodeLogBroken || !errors.Is(err, eventstore.ErrUnknownOutcome) {
		t.Errorf("append while it breaks: %v", err)
	}
	_, err = node.Append(t.Context(), eventstoretest.Meta("c"), eventstoretest.Created("acct_3", 1))
	if domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != eventstore.CodeLogBroken || errors.Is(err, eventstore.ErrUnknownOutcome) {
		t.Errorf("append to what is broken: %v", err)
	}
	if _, err := external.Append(t.Context(), eventstoretest.Meta("c"), eventstoretest.Created("acct_2", 1)); !errors.Is(err, eventstore.ErrUnknownOutcome) {
		t.Errorf("append, not told: %v", err)
	}
	for log, code := range map[*eventstore.Log]string{node: eventstore.CodeLogBroken, external: eventstore.CodeLogUnavailable} {
		eventstoretest.Eventually(t, soon, "health: "+code, func() bool { return domain.CodeOf(log.Health()) == code })
	}
}

// A caller that does not wait for the answer says nothing about the server.
func TestCallerHangsUp(t *testing.T) {
	s := eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy, Listen: "127.0.0.1:0", Users: everything()})
	proxy := eventstoretest.MustProxy(t, strings.TrimPrefix(s.ClientURL(), "nats://"))
	nc, err := eventstore.Connect(t.Context(), eventstore.ConnectConfig{URL: "nats://" + proxy.Addr(), User: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	b := bench{nc: nc, cfg: eventstore.Config{Conn: nc, AckTimeout: soon, WatchInterval: 20 * time.Millisecond}}
	b.log = eventstoretest.MustOpen(t, b.cfg)
	if b.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.log.Append(ended, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", 1)); !errors.Is(err, context.Canceled) || errors.Is(err, eventstore.ErrUnknownOutcome) {
		t.Errorf("before anything was sent: %v", err)
	}
	if head, err := b.log.Head(t.Context()); err != nil || head != 0 {
		t.Errorf("an append that never was came to the log: head %d, %v", head, err)
	}
	for name, changes := range map[string][]eventstore.Change{
		"one event": {eventstoretest.Created("acct_1", 1)},
		"a batch":   {eventstoretest.Created("acct_1", 2), eventstoretest.Created("acct_1", 3)},
	} {
		proxy.Hold()
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := b.log.Append(short, eventstoretest.Meta("c"), changes...); !errors.Is(err, eventstore.ErrUnknownOutcome) {
			t.Errorf("%s, while nothing passes: %v", name, err)
		}
		cancel()
		proxy.Release()
	}
	// Silence is looked at before drift, so that drift shows that there was none.
	b.mustChange(t, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
	watched, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.log.Watch(watched) }()
	eventstoretest.Eventually(t, soon, "the watch looks", func() bool { return b.log.Health() != nil })
	if _, ok := errors.AsType[*eventstore.DriftError](b.log.Health()); !ok {
		t.Errorf("health: %v", b.log.Health())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestOpenFails(t *testing.T) {
	nc := eventstoretest.MustConnect(t, eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy}))
	for name, c := range map[string]struct {
		cfg  eventstore.Config
		want string
	}{
		"no connection":        {eventstore.Config{}, "no connection"},
		"two replicas":         {eventstore.Config{Conn: nc, Replicas: 2}, "use 1 or 3"},
		"replicas on a server": {eventstore.Config{Conn: nc, Replicas: 3}, "replicas > 1 not supported"},
	} {
		if _, err := eventstore.Open(t.Context(), c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenTogether(t *testing.T) {
	s := eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy})
	errs := make(chan error, 8)
	for range cap(errs) {
		nc := eventstoretest.MustConnect(t, s)
		go func() {
			_, err := eventstore.Open(t.Context(), eventstore.Config{Conn: nc})
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestConnectFails(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]eventstore.ConnectConfig{
		"no url":         {},
		"no port":        {URL: "nats://user:hush/hush@127.0.0.1:1"},
		"no host":        {URL: "nats://127.0.0.1:1,"},
		"nobody there":   {URL: "nats://127.0.0.1:1"},
		"no credentials": {URL: "nats://127.0.0.1:1", CredentialsFile: missing},
		"no seed":        {URL: "nats://127.0.0.1:1", NKeySeedFile: missing},
		"bad seed":       {URL: "nats://127.0.0.1:1", NKeySeedFile: garbage},
		"no ca":          {URL: "nats://127.0.0.1:1", CAFile: missing},
		"no certificate": {URL: "nats://127.0.0.1:1", CertFile: missing, KeyFile: missing},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := eventstore.Connect(t.Context(), cfg)
			if err == nil {
				nc.Close()
				t.Fatal("connected")
			}
			if !strings.HasPrefix(err.Error(), "connect to NATS: ") || strings.Contains(err.Error(), "hush") {
				t.Error(err)
			}
		})
	}
}
