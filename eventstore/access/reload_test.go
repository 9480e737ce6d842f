package access_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/access"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

// foreign is a server of an operator's own, inside the test so that it can be told
// to read its configuration again.
type foreign struct {
	dir    string
	listen string
	server *server.Server
}

func mustForeign(t *testing.T, secrets *access.Secrets) *foreign {
	t.Helper()
	f := &foreign{dir: t.TempDir(), listen: "127.0.0.1:-1"}
	f.mustStart(t, secrets)
	t.Cleanup(f.stop)
	return f
}

func (f *foreign) mustStart(t *testing.T, secrets *access.Secrets) {
	t.Helper()
	public, err := secrets.Public()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(f.dir, "nats.conf")
	text := "listen: " + f.listen + "\njetstream { store_dir: '" + f.dir + "', sync_interval: always }\n" + public.ServerConfig(false)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoLog, opts.NoSigs = true, true
	if f.server, err = server.NewServer(opts); err != nil {
		t.Fatal(err)
	}
	f.server.Start()
	if !f.server.ReadyForConnections(soon) {
		t.Fatal("the server is not ready")
	}
	f.listen = strings.TrimPrefix(f.server.ClientURL(), "nats://")
}

func (f *foreign) stop() {
	f.server.Shutdown()
	f.server.WaitForShutdown()
}

func (f *foreign) url() string { return "nats://" + f.listen }

func (f *foreign) connectAs(t *testing.T, secrets *access.Secrets) func(account string) (*nats.Conn, error) {
	t.Helper()
	return func(account string) (*nats.Conn, error) {
		identity, err := secrets.Options(account)
		if err != nil {
			return nil, err
		}
		return eventstore.Connect(t.Context(), eventstore.ConnectConfig{URL: f.url(), Identity: identity})
	}
}

// mustFollow connects a client that does not give up.
func (s *site) mustFollow(t *testing.T) *nats.Conn {
	t.Helper()
	s.keys.add("key_a", "acct_1", domain.ScopeCommands)
	return s.mustConnect(t, "key_a", nats.IgnoreAuthErrorAbort(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
}

// A server that reads its configuration again asks anew about its clients.
func TestReload(t *testing.T) {
	secrets := mustSecrets(t)
	f := mustForeign(t, secrets)
	s := &site{url: f.url()}
	s.mustOpen(t, secrets, 1, f.connectAs(t, secrets))
	nc := s.mustFollow(t)
	if err := f.server.Reload(); err != nil {
		t.Fatal(err)
	}
	eventstoretest.Eventually(t, soon, "the client is there", func() bool { return nc.FlushTimeout(time.Second) == nil })
	if err := s.node.FlushTimeout(soon); err != nil || s.node.Stats().Reconnects > 0 {
		t.Errorf("the node was disturbed: %v", err)
	}
}

// TestSecretsChange is what docs/nats.md says of changing them.
func TestSecretsChange(t *testing.T) {
	before, after := mustSecrets(t), mustSecrets(t)
	f := mustForeign(t, before)
	s := &site{url: f.url()}
	s.mustOpen(t, before, 1, f.connectAs(t, before))
	nc := s.mustFollow(t)

	f.stop()
	f.mustStart(t, after)
	again := &site{url: f.url()}
	again.mustOpen(t, after, 1, f.connectAs(t, after))
	again.keys.add("key_a", "acct_1", domain.ScopeCommands)
	eventstoretest.Eventually(t, soon, "the client is back", nc.IsConnected)
	if _, err := f.connectAs(t, before)(access.AccountLog); err == nil {
		t.Error("the old secrets are still good")
	}
	if s.node.IsConnected() || s.node.IsClosed() {
		t.Errorf("a node with the old secrets is %v and should be trying", s.node.Status())
	}
}

// On a cluster servers are restarted one by one. Meanwhile each is answered by the
// nodes that have its secrets, and clients are let in everywhere.
func TestSecretsChangeOnACluster(t *testing.T) {
	before, after := mustSecrets(t), mustSecrets(t)
	file := filepath.Join(t.TempDir(), "nats.conf")
	mustConfigure(t, file, before)
	s := &site{servers: eventstoretest.MustConfiguredCluster(t, file)}
	s.mustJoin(t, before)

	mustConfigure(t, file, after)
	s.servers.MustKill(t, 0)
	s.servers.MustRestart(t, 0)
	again := &site{servers: s.servers}
	again.mustJoin(t, after)
	for _, at := range []*site{s, again} {
		at.keys.add("key_a", "acct_1", domain.ScopeCommands)
	}
	for i := range 3 {
		eventstoretest.Eventually(t, soon, fmt.Sprintf("server %d lets a client in", i+1), func() bool {
			at := &site{url: s.servers.NodeURL(i)}
			nc, err := at.connect("key_a", "token of key_a")
			if err == nil {
				nc.Close()
			}
			return err == nil
		})
	}
}
