package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
)

// TestServeAsAProcess looks at the program as it is shipped: how soon it is
// ready, how it ends, and what a second one on the same data dir says.
func TestServeAsAProcess(t *testing.T) {
	program := mustBuild(t)

	t.Run("is ready within a second on an empty data dir", func(t *testing.T) {
		best := within
		for range 3 { // a machine that is busy with other tests may be slow once
			begun := time.Now()
			p := mustServe(t, program, filepath.Join(t.TempDir(), "data"))
			best = min(best, time.Since(begun))
			p.stop()
		}
		t.Logf("ready after %v", best)
		if best > time.Second {
			t.Errorf("ready after %v", best)
		}
	})
	t.Run("ends in order, and keeps what it had", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		p := mustServe(t, program, dir)
		w := &testWorld{dataDir: dir, env: map[string]string{"KEYLEDGER_DATA_DIR": dir}}
		token, _ := w.mustCreate(t, "--name", "n", "--environment", "live", "--full-access")
		follow := begin(t, w.env, nil, "events", "follow") // a stream must not hold the end up
		eventually(t, "events are followed", func() bool { return strings.Contains(follow.stdout.String(), `"n"`) })
		begun := time.Now()
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.exited:
		case <-time.After(stopWithin):
			t.Fatalf("still running %v after SIGTERM\n%s", stopWithin, p.tail())
		}
		if p.state != nil {
			t.Errorf("it ended with %v\n%s", p.state, p.tail())
		}
		t.Logf("ended after %v", time.Since(begun))
		follow.stop()
		follow.wait(t)
		if _, err := readServerFile(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its address is still there: %v", err)
		}
		if log := p.tail(); strings.Contains(log, "level=ERROR msg=\"") || strings.Contains(log, "goroutine ") {
			t.Errorf("it complained:\n%s", log)
		}
		again := mustServe(t, program, dir)
		if r := w.cli(t, token, "verify"); r.code != exitOK {
			t.Errorf("after a restart: %+v", r)
		}
		if strings.Count(again.tail(), "This is the operator token.") != 1 { // the log goes on: once, at the first start
			t.Errorf("the operator token was shown again")
		}
	})
	t.Run("is alone on its data dir", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		mustServe(t, program, dir)
		out, err := exec.CommandContext(t.Context(), program, "serve", "--data-dir", dir, "--addr", "127.0.0.1:0", "--nats-listen", "none").CombinedOutput()
		mustRefuseInTwoLines(t, err, string(out), "in use by another keyledger serve")
	})
}

// mustRefuseInTwoLines checks how a process that could not start has said why.
func mustRefuseInTwoLines(t *testing.T, err error, out, want string) {
	t.Helper()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != exitFailed {
		t.Errorf("it ended with %v", err)
	}
	if !strings.Contains(out, want) || strings.Count(out, "\n") > 2 || !strings.Contains(out, "to do: ") {
		t.Errorf("it says %q, want two lines with %q", out, want)
	}
}

// TestServeRefuses starts servers that cannot run: each says what is wrong in one
// line and what to do in another, and changes nothing.
func TestServeRefuses(t *testing.T) {
	used := func(t *testing.T) *testWorld { // a data dir with some history
		t.Helper()
		w := newTestWorld(t)
		w.mustStart(t)
		w.mustCreate(t, "--name", "n", "--environment", "live", "--full-access")
		w.mustStop(t)
		return w
	}
	occupied, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = occupied.Close() }()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}

	tests := map[string]struct {
		prepare func(t *testing.T) *testWorld
		flags   []string
		code    int
		says    string
	}{
		"its port is taken":              {newTestWorld, []string{"--addr", occupied.Addr().String()}, exitFailed, "address already in use"},
		"the port for NATS is taken":     {newTestWorld, []string{"--nats-listen", occupied.Addr().String()}, exitFailed, "in use"},
		"the data dir is a file":         {newTestWorld, []string{"--data-dir", file}, exitUsage, "is not a directory"},
		"the data dir cannot be made":    {newTestWorld, []string{"--data-dir", filepath.Join(file, "x")}, exitFailed, "data dir"},
		"it would listen everywhere":     {newTestWorld, []string{"--addr", ":0"}, exitUsage, "without TLS"},
		"NATS would listen everywhere":   {newTestWorld, []string{"--nats-listen", "0.0.0.0:0"}, exitUsage, "without TLS"},
		"half a certificate":             {newTestWorld, []string{"--tls-cert", file}, exitUsage, "belong together"},
		"no certificate":                 {newTestWorld, []string{"--tls-cert", file, "--tls-key", file}, exitFailed, "TLS certificate"},
		"no address":                     {newTestWorld, []string{"--addr", "8080"}, exitUsage, "is not an address"},
		"no brand":                       {newTestWorld, []string{"--brand", "ACME!"}, exitUsage, "not the form of a brand"},
		"no scopes":                      {newTestWorld, []string{"--scopes-file", file}, exitFailed, "scopes in"},
		"no level":                       {newTestWorld, []string{"--log-level", "loud"}, exitUsage, "--log-level"},
		"credentials in the NATS URL":    {newTestWorld, []string{"--nats-url", "nats://u:p@127.0.0.1:1"}, exitUsage, "holds credentials"},
		"a cluster without a keyring":    {newTestWorld, []string{"--nats-url", "nats://127.0.0.1:1"}, exitFailed, "secrets are given, not generated"},
		"others can look into its files": {func(t *testing.T) *testWorld { w := used(t); mustChmod(t, w.dataDir, 0o755); return w }, nil, exitFailed, "others can look into"},
		"others can read its keyring": {func(t *testing.T) *testWorld {
			w := used(t)
			mustChmod(t, filepath.Join(w.dataDir, keyringFile), 0o644)
			return w
		}, nil, exitFailed, "can be read by others"},
		"its keyring is gone": {func(t *testing.T) *testWorld {
			w := used(t)
			mustRemove(t, filepath.Join(w.dataDir, keyringFile))
			return w
		}, nil, exitFailed, "is gone, but the data dir holds data"},
		"its keyring is another one": {func(t *testing.T) *testWorld {
			w := used(t)
			mustReplaceKeyring(t, w)
			return w
		}, nil, exitFailed, "lacks the pepper"},
		"its log is gone": {func(t *testing.T) *testWorld {
			w := used(t)
			mustRemove(t, filepath.Join(w.dataDir, jetstreamDir))
			return w
		}, nil, exitFailed, "history was replaced"},
		"its stream has drifted": {func(t *testing.T) *testWorld { w := used(t); mustDrift(t, w); return w }, nil, exitFailed, "not configured as it must be"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := tc.prepare(t)
			r := w.cli(t, "", append([]string{"serve"}, tc.flags...)...)
			if r.code != tc.code || !strings.Contains(r.stderr, tc.says) || r.stdout != "" {
				t.Errorf("%+v\nwant exit code %d and %q", r, tc.code, tc.says)
			}
			for line := range strings.Lines(r.stderr) {
				if strings.HasPrefix(line, "keyledger: ") && strings.Count(r.stderr, "\nkeyledger: ") > 1 || strings.Contains(line, "goroutine ") {
					t.Errorf("noise: %s", r.stderr)
				}
			}
		})
	}
}

func mustChmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func mustRemove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func mustReplaceKeyring(t *testing.T, w *testWorld) {
	t.Helper()
	path := filepath.Join(w.dataDir, keyringFile)
	mustRemove(t, path)
	mustRemove(t, filepath.Join(w.dataDir, operatorTokenFile))
	w.must(t, "keyring", "create", path)
}

// mustDrift lets the stream of a stopped server forget its oldest events.
func mustDrift(t *testing.T, w *testWorld) {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{DataDir: w.dataDir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Shutdown(context.WithoutCancel(t.Context())) }()
	conn, err := server.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), eventstore.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgs = 1000
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

func TestServeOverTLS(t *testing.T) {
	dir := t.TempDir()
	certificate := mustCertificate(t, dir)
	w := newTestWorld(t)
	w.mustStart(t, "--tls-cert", filepath.Join(dir, "cert.pem"), "--tls-key", filepath.Join(dir, "key.pem"), "--addr", "0.0.0.0:0")
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.address(t).URL+"/readyz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || req.URL.Scheme != "https" {
		t.Errorf("%s over %s at %s", resp.Status, resp.Proto, req.URL)
	}
}

// mustCertificate writes cert.pem and key.pem for 127.0.0.1.
func mustCertificate(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// TestServeOnAnotherNATS runs two nodes with one keyring on one NATS server of its
// own: what one is told, the other knows.
func TestServeOnAnotherNATS(t *testing.T) {
	natsServer, err := embedded.Start(t.Context(), embedded.Config{
		DataDir: t.TempDir(), Listen: "127.0.0.1:0",
		Authenticate: func(user, password string) (embedded.Permissions, bool) {
			everything := []string{">"}
			return embedded.Permissions{Publish: everything, Subscribe: everything}, user == "node" && password == "secret"
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = natsServer.Shutdown(context.Background()) }) //nolint:usetesting // the test's context has ended by then
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keyringPath := filepath.Join(t.TempDir(), "keyring.json")
	one, two := newTestWorld(t), newTestWorld(t)
	one.must(t, "keyring", "create", keyringPath)
	cluster := []string{"--nats-url", natsServer.ClientURL(), "--nats-replicas", "1", "--nats-user", "node", "--nats-password-file", password, "--keyring", keyringPath}
	one.mustStart(t, cluster...)
	two.env["KEYLEDGER_TOKEN"] = one.operatorToken(t)
	two.mustStart(t, cluster...)

	token, id := one.mustCreate(t, "--name", "n", "--environment", "live", "--full-access")
	eventually(t, "the other node knows the key", func() bool { return two.cli(t, token, "verify").code == exitOK })
	two.must(t, "keys", "revoke", id, "--yes")
	eventually(t, "and the first that it ended", func() bool { return one.cli(t, token, "verify").code == exitFailed })
	if list := one.must(t, "keys", "list", "--management"); strings.Count(list, "operator") != 1 {
		t.Errorf("two nodes made two operators:\n%s", list)
	}
	if r := one.cli(t, "", append([]string{"doctor"}, cluster...)...); r.code != exitOK || !strings.Contains(r.stdout, "configured as it must be") {
		t.Errorf("doctor: %+v", r)
	}
}

func TestScopesFileAndBrand(t *testing.T) {
	scopes := filepath.Join(t.TempDir(), "scopes.json")
	if err := os.WriteFile(scopes, []byte(`[{"scope":"orders:read","description":"View orders"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newTestWorld(t)
	w.mustStart(t, "--scopes-file", scopes, "--brand", "acme", "--log-format", "json", "--log-level", "warn", "--sync", "1s")
	token, _ := w.mustCreate(t, "--name", "n", "--environment", "test", "--scopes", "orders:read")
	if !strings.HasPrefix(token, "acme_sk_test_") {
		t.Error("the token has no brand")
	}
	if r := w.cli(t, token, "verify", "--scopes", "orders:read"); r.code != exitOK {
		t.Errorf("verify: %+v", r)
	}
	if r := w.cli(t, "", "keys", "create", "--name", "n", "--environment", "test", "--scopes", "invoices:read"); r.code != exitFailed {
		t.Errorf("a scope of the default catalogue: %+v", r)
	}
	if log := w.server.stderr.String(); !strings.Contains(log, `"level":"WARN"`) || !strings.Contains(log, "power failure") || strings.Contains(log, "INFO") {
		t.Errorf("log: %s", log)
	}
}
