package access_test

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/access"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

const (
	events = 3 // in the log of a site
	soon   = 20 * time.Second
	// pageSize is less than some tests have connections.
	pageSize = 10
)

// keys is a table of management keys. The token of a key is "token of " and its id.
type keys struct {
	mu     sync.Mutex
	good   map[domain.KeyID]domain.Authority
	coming map[domain.KeyID]domain.Authority // known after the next CatchUp
	stale  bool
}

func (k *keys) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

func (k *keys) Authenticate(token string) (domain.Authority, error) {
	id, _ := strings.CutPrefix(token, "token of ")
	return k.Active(domain.KeyID(id))
}

func (k *keys) Active(id domain.KeyID) (domain.Authority, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a, ok := k.good[id]
	switch {
	case k.stale:
		return domain.Authority{}, access.ErrNotReady
	case !ok || !a.ExpiresAt.IsZero() && !a.ExpiresAt.After(time.Now()):
		return domain.Authority{}, access.ErrRefused
	default:
		return a, nil
	}
}

func (k *keys) CatchUp(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stale {
		return access.ErrNotReady
	}
	maps.Copy(k.good, k.coming)
	k.coming = nil
	return nil
}

// add makes a key that is known at once.
func (k *keys) add(id string, account domain.AccountID, scopes ...domain.Scope) {
	k.set(func() {
		k.good[domain.KeyID(id)] = domain.Authority{Actor: domain.ActorID(id), Account: account, Scopes: scopes}
	})
}

// site is a NATS server or cluster with a log of some events and a door.
type site struct {
	url     string
	door    *access.Door
	keys    *keys
	log     *eventstore.Log
	js      jetstream.JetStream // of the node
	node    *nats.Conn          // in the account of the streams
	clients *nats.Conn          // in the account of the clients
	out     *lockedBuffer       // the door's log

	servers *eventstoretest.Cluster // nil for the embedded server
}

// sites are the two that everything must hold on: the embedded server and a cluster.
func sites() map[string]func(*testing.T) *site {
	return map[string]func(*testing.T) *site{"embedded": mustEmbedded, "cluster": mustCluster}
}

func mustEmbedded(t *testing.T) *site {
	t.Helper()
	secrets := mustSecrets(t)
	s := eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy, Listen: "127.0.0.1:0", Secrets: secrets})
	out := &site{url: s.ClientURL()}
	out.mustOpen(t, secrets, 1, func(account string) (*nats.Conn, error) { return s.ConnectTo(t.Context(), account) })
	return out
}

// mustCluster starts three servers, each a process of its own, from the file that
// operators are given.
func mustCluster(t *testing.T) *site {
	t.Helper()
	secrets, file := mustSecrets(t), filepath.Join(t.TempDir(), "nats.conf")
	mustConfigure(t, file, secrets)
	s := &site{servers: eventstoretest.MustConfiguredCluster(t, file)}
	s.mustJoin(t, secrets)
	return s
}

// mustConfigure writes the file of a cluster's servers.
func mustConfigure(t *testing.T, file string, secrets *access.Secrets) {
	t.Helper()
	public, err := secrets.Public()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("jetstream { sync_interval: always }\n"+public.ServerConfig(false)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// mustJoin makes a node on the site's cluster.
func (s *site) mustJoin(t *testing.T, secrets *access.Secrets) {
	t.Helper()
	s.url = s.servers.URL()
	s.mustOpen(t, secrets, 3, func(account string) (*nats.Conn, error) {
		identity, err := secrets.Options(account)
		if err != nil {
			return nil, err
		}
		return eventstore.Connect(t.Context(), eventstore.ConnectConfig{URL: s.url, Identity: identity})
	})
}

func mustSecrets(t *testing.T) *access.Secrets {
	t.Helper()
	s, err := access.NewSecrets()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) mustOpen(t *testing.T, secrets *access.Secrets, replicas int, connect func(account string) (*nats.Conn, error)) {
	t.Helper()
	conns := map[string]*nats.Conn{}
	for _, account := range []string{access.AccountLog, access.AccountClients, access.AccountSystem} {
		nc, err := connect(account)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		conns[account] = nc
	}
	s.node, s.clients = conns[access.AccountLog], conns[access.AccountClients]
	s.keys, s.out = &keys{good: map[domain.KeyID]domain.Authority{}}, &lockedBuffer{}
	s.log = eventstoretest.MustOpen(t, eventstore.Config{Conn: s.node, Replicas: replicas})
	s.js = s.log.JetStream()
	for i := range events - mustHead(t, s.log) { // a log that was there has them
		eventstoretest.MustAppend(t, s.log, eventstoretest.Meta("c"), eventstoretest.Created("acct_1", int(i)))
	}
	for _, side := range sides() {
		if _, err := s.log.OpenSide(t.Context(), side); err != nil {
			t.Fatal(err)
		}
	}
	door, err := access.Open(t.Context(), access.Config{
		Node: s.node, System: conns[access.AccountSystem], Secrets: secrets, Keys: s.keys, PageSize: pageSize,
		Logger: slog.New(slog.NewTextHandler(s.out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.door = door
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = door.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); door.Close() })
}

func mustHead(t *testing.T, log *eventstore.Log) uint64 {
	t.Helper()
	head, err := log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func sides() []eventstore.Side {
	return []eventstore.Side{eventstore.SideCommands, eventstore.SideOutcomes, eventstore.SideDead, eventstore.SideUsage}
}

// connect connects as a client does.
func (s *site) connect(user, password string, opts ...nats.Option) (*nats.Conn, error) {
	opts = append([]nats.Option{
		nats.UserInfo(user, password), nats.CustomInboxPrefix(eventstore.InboxPrefix(user)), nats.Timeout(5 * time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // it prints by default
	}, opts...)
	return nats.Connect(s.url, opts...)
}

func (s *site) mustConnect(t *testing.T, user string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := s.connect(user, "token of "+user, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// size is how many messages a stream holds, and its last seq.
func (s *site) size(t *testing.T, name string) (messages, last uint64) {
	t.Helper()
	st, err := s.js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return st.CachedInfo().State.Msgs, st.CachedInfo().State.LastSeq
}

// mustBeUntouched fails if the log, or what is beside it, holds more than it did.
func (s *site) mustBeUntouched(t *testing.T, except ...eventstore.Side) {
	t.Helper()
	if n, last := s.size(t, eventstore.StreamName); n != events || last != events {
		t.Errorf("the log has changed: %d messages, last seq %d", n, last)
	}
	for _, side := range sides() {
		if n, last := s.size(t, string(side)); last != 0 && !slices.Contains(except, side) {
			t.Errorf("%s holds %d messages, last seq %d", side, n, last)
		}
	}
	if _, err := s.js.Stream(t.Context(), "NEW"); err == nil {
		t.Error("a stream was created")
	}
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
