package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

// natsCluster is three NATS servers of an operator's own, as processes, that were
// configured with keyledger nats setup, and what nodes on them are started with.
type natsCluster struct {
	url   string
	flags []string
}

func mustNATSCluster(t *testing.T, w *testWorld) natsCluster {
	t.Helper()
	dir := t.TempDir()
	w.must(t, "nats", "setup", "--dir", dir)
	main := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(main, []byte("include ./keyledger.conf\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keyring := filepath.Join(dir, "keyring.json")
	w.must(t, "keyring", "create", keyring)
	cluster := eventstoretest.MustConfiguredCluster(t, main)
	return natsCluster{cluster.URL(), []string{
		"--nats-url", cluster.URL(), "--nats-secrets", filepath.Join(dir, natsSecretsFile), "--keyring", keyring,
	}}
}

// connect connects as a producer does.
func (c natsCluster) connect(id, token string, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(c.url, append([]nats.Option{
		nats.UserInfo(id, token), nats.CustomInboxPrefix(eventstore.InboxPrefix(id)), nats.Timeout(5 * time.Second),
		nats.ReconnectWait(10 * time.Millisecond), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // it prints by default
	}, opts...)...)
}

// TestProducersOnACluster runs two nodes on a cluster: whichever is asked lets a
// producer in and sends it away with its key, and while none is there those who
// are in stay.
func TestProducersOnACluster(t *testing.T) {
	one, two := newTestWorld(t), newTestWorld(t)
	cluster := mustNATSCluster(t, one)
	one.mustStart(t, cluster.flags...)
	two.env["KEYLEDGER_TOKEN"] = one.operatorToken(t)
	two.mustStart(t, cluster.flags...)

	if r := one.cli(t, "", append([]string{"doctor"}, cluster.flags...)...); r.code != exitOK || !strings.Contains(r.stdout, "configured as it must be") {
		t.Errorf("doctor with the secrets of the nodes: %+v", r)
	}
	create := []string{"--management", "--account", "acme", "--scopes", string(domain.ScopeCommands)}
	leaverToken, leaver := one.mustCreate(t, append(create, "--name", "leaver")...)
	stayerToken, stayer := one.mustCreate(t, append(create, "--name", "stayer")...)
	closed := make(chan struct{})
	leaving, err := cluster.connect(leaver, leaverToken, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatalf("a key of a moment ago: %v", err)
	}
	defer leaving.Close()
	staying, err := cluster.connect(stayer, stayerToken)
	if err != nil {
		t.Fatal(err)
	}
	defer staying.Close()

	began := time.Now()
	two.must(t, "keys", "revoke", leaver, "--management", "--yes", "--reason", "gone")
	select {
	case <-closed:
		t.Logf("the connection was gone %v after the revocation was asked for", time.Since(began).Round(time.Millisecond))
	case <-time.After(within):
		t.Fatal("the connection goes on")
	}
	if _, err := cluster.connect(leaver, leaverToken); err == nil {
		t.Error("and the key still lets its bearer in")
	}

	// One node is enough.
	one.mustStop(t)
	again, err := cluster.connect(stayer, stayerToken)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	two.mustStop(t)
	if nc, err := cluster.connect(stayer, stayerToken); err == nil {
		nc.Close()
		t.Error("somebody was let in while nobody could tell who it is")
	}
	js, err := jetstream.New(staying)
	if err != nil {
		t.Fatal(err)
	}
	command := eventstore.CommandPrefix + ".acme." + stayer + ".create_key"
	if _, err := js.Publish(t.Context(), command, []byte("{}")); err != nil {
		t.Errorf("a command while no node is up: %v", err)
	}
	if staying.Stats().Reconnects > 0 {
		t.Error("a producer was disturbed")
	}
	one.mustStart(t, cluster.flags...)
	if again, err = cluster.connect(stayer, stayerToken); err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// The servers must know the nodes, and say so when they do not.
func TestSecretsOfAnotherCluster(t *testing.T) {
	w, other := newTestWorld(t), newTestWorld(t)
	cluster := mustNATSCluster(t, w)
	dir := t.TempDir()
	other.must(t, "nats", "setup", "--dir", dir)
	r := other.cli(t, "", append([]string{"serve"}, append(cluster.flags, "--nats-secrets", filepath.Join(dir, natsSecretsFile))...)...)
	if r.code != exitFailed || !strings.Contains(r.stderr, "Authorization Violation") {
		t.Errorf("%+v", r)
	}
}

func TestNATSSetup(t *testing.T) {
	w := newTestWorld(t)
	dir := filepath.Join(t.TempDir(), "new")
	w.must(t, "nats", "setup", "--dir", dir, "--store-dir", "/srv/nats")
	secrets, config := filepath.Join(dir, natsSecretsFile), filepath.Join(dir, natsConfigFile)
	before := map[string]string{}
	for _, path := range []string{secrets, config} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before[path] = string(text)
	}
	if !strings.Contains(before[config], "sync_interval: always") || !strings.Contains(before[config], `store_dir: "/srv/nats"`) {
		t.Errorf("the configuration: %s", before[config])
	}
	for line := range strings.Lines(before[secrets]) {
		if _, seed, ok := strings.Cut(line, `": "S`); ok && strings.Contains(before[config], strings.Trim(seed, "\",\n")) {
			t.Error("the configuration holds a secret")
		}
	}
	if r := w.cli(t, "", "nats", "setup", "--dir", dir); r.code != exitFailed || !strings.Contains(r.stderr, "exists already") {
		t.Errorf("a second time: %+v", r)
	}
	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	if r := w.cli(t, "", "nats", "setup", "--dir", dir); r.code != exitFailed || !strings.Contains(r.stderr, "exists already") {
		t.Errorf("with the secrets there: %+v", r)
	}
	if text, err := os.ReadFile(secrets); err != nil || string(text) != before[secrets] {
		t.Errorf("the secrets were changed: %v", err)
	}
	keyring := filepath.Join(dir, "keyring.json")
	w.must(t, "keyring", "create", keyring)
	serve := []string{"serve", "--nats-url", "nats://127.0.0.1:1", "--keyring", keyring, "--nats-secrets", secrets}
	for name, c := range map[string]struct {
		args []string
		do   func() error
		want string
		code int
	}{
		"with other credentials": {args: append(serve, "--nats-user", "x"), want: "holds the credentials already", code: exitUsage},
		"open to others":         {args: serve, do: func() error { return os.Chmod(secrets, 0o644) }, want: "can be read by others", code: exitFailed},
		"not there":              {args: append(serve, "--nats-secrets", dir+"/none"), want: "no such file", code: exitFailed},
		"of another form":        {args: append(serve, "--nats-secrets", keyring), want: "not a seed of its kind", code: exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			if c.do != nil {
				if err := c.do(); err != nil {
					t.Fatal(err)
				}
			}
			if r := w.cli(t, "", c.args...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
				t.Errorf("%+v", r)
			}
		})
	}
}
