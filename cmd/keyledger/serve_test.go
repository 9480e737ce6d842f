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
		if _, err := os.Stat(filepath.Join(dir, serverFileName)); !errors.Is(err, os.ErrNotExist) {
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
	// The roots of this machine do not hold the certificate.
	if r := w.cli(t, "", "keys", "list"); r.code != exitFailed || strings.Count(r.stderr, "\n") != 2 ||
		!strings.Contains(r.stderr, "certificate is not trusted") || !strings.Contains(r.stderr, "to do: ") {
		t.Errorf("a certificate that is not trusted: %+v", r)
	}
	wrongName := &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"keys.example.com"}}, Host: "127.0.0.1"}}
	if f := explain(wrongName); !strings.Contains(f.do, "keys.example.com") || !strings.Contains(f.do, "--server") {
		t.Errorf("a certificate of another name: %s", f.do)
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
		Users: map[string]string{"node": "secret"},
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
	doctor := append([]string{"doctor"}, cluster...)
	if r := one.cli(t, "", doctor...); r.code != exitOK || !strings.Contains(r.stdout, "configured as it must be") || !strings.Contains(r.stdout, "looks after them") {
		t.Errorf("doctor beside the node, whose tables it must leave alone: %+v", r)
	}
	if log := one.server.stderr.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "sync_interval: always") {
		t.Errorf("it does not warn of what it cannot see: %s", log)
	}
	one.mustStop(t)
	if r := one.cli(t, "", doctor...); r.code != exitOK || !strings.Contains(r.stdout, "at seq 3 of 3") {
		t.Errorf("doctor without the node: %+v", r)
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
