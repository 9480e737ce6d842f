package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
)

// TestServeRefusesSettings starts servers that cannot run as they are told: each
// says what is wrong in one line and what to do in another.
func TestServeRefusesSettings(t *testing.T) {
	occupied, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = occupied.Close() }()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		flags []string
		code  int
		says  string
	}{
		"its port is taken":            {[]string{"--addr", occupied.Addr().String()}, exitFailed, "address already in use"},
		"the port for NATS is taken":   {[]string{"--nats-listen", occupied.Addr().String()}, exitFailed, "in use"},
		"the data dir is a file":       {[]string{"--data-dir", file}, exitUsage, "is not a directory"},
		"the data dir cannot be made":  {[]string{"--data-dir", filepath.Join(file, "x")}, exitFailed, "data dir"},
		"it would listen everywhere":   {[]string{"--addr", ":0"}, exitUsage, "without TLS"},
		"NATS would listen everywhere": {[]string{"--nats-listen", "0.0.0.0:0"}, exitUsage, "without TLS"},
		"half a certificate":           {[]string{"--tls-cert", file}, exitUsage, "belong together"},
		"no certificate":               {[]string{"--tls-cert", file, "--tls-key", file}, exitFailed, "TLS certificate"},
		"no address":                   {[]string{"--addr", "8080"}, exitUsage, "is not an address"},
		"no brand":                     {[]string{"--brand", "ACME!"}, exitUsage, "not the form of a brand"},
		"no scopes":                    {[]string{"--scopes-file", file}, exitFailed, "scopes in"},
		"no level":                     {[]string{"--log-level", "loud"}, exitUsage, "--log-level"},
		"a password in the URL":        {[]string{"--database-url", "postgres://u:p@127.0.0.1:1/d"}, exitUsage, "holds a password"},
		"a password as a parameter":    {[]string{"--database-url", "postgres://127.0.0.1:1/d?user=u&password=p"}, exitUsage, "holds a password"},
		"a password in key=value":      {[]string{"--database-url", "host=127.0.0.1 password = p"}, exitUsage, "holds a password"},
		"no database URL":              {[]string{"--database-url", "://"}, exitFailed, "is malformed"},
		"credentials in the NATS URL":  {[]string{"--nats-url", "nats://u:p@127.0.0.1:1"}, exitUsage, "holds credentials"},
		"a cluster without a keyring":  {[]string{"--nats-url", "nats://127.0.0.1:1"}, exitFailed, "secrets are given, not generated"},
	} {
		t.Run(name, func(t *testing.T) {
			newTestWorld(t).mustRefuse(t, tc.code, tc.says, tc.flags...)
		})
	}
}

// harms are what can befall the data dir of a stopped server, and what serve and
// doctor say of it.
var harms = map[string]struct {
	do            func(*testing.T, *testWorld)
	serve, doctor string
}{
	"others can look into it":     {openDataDir, "others can look into", "others can look into"},
	"others can read its keyring": {openKeyringFile, "can be read by others", "can be read by others"},
	"its keyring is gone":         {loseKeyring, "is gone, but the data dir holds data", "no key can be verified without it"},
	"its keyring is another one":  {replaceKeyring, "lacks the pepper", "the keyring lacks the pepper"},
	"its log is gone":             {loseLog, "history was replaced", "is gone, but the data dir holds tables"},
	"its log is another one":      {replaceLog, "history was replaced", "history was replaced"},
	"its stream was changed":      {drift, "not configured as it must be", "max_msgs"},
}

// used returns a data dir with some history, without a server.
func used(t *testing.T) *testWorld {
	t.Helper()
	w := newTestWorld(t)
	w.mustStart(t)
	w.mustCreate(t, "--name", "n", "--environment", "live", "--full-access")
	w.mustStop(t)
	return w
}

// TestServeRefusesDataDirs starts servers on data dirs that were harmed.
func TestServeRefusesDataDirs(t *testing.T) {
	for name, harm := range harms {
		t.Run(name, func(t *testing.T) {
			w := used(t)
			harm.do(t, w)
			w.mustRefuse(t, exitFailed, harm.serve)
		})
	}
}

// mustRefuse starts a server that must say why it does not run.
func (w *testWorld) mustRefuse(t *testing.T, code int, says string, flags ...string) {
	t.Helper()
	r := w.cli(t, "", append([]string{"serve"}, flags...)...)
	if r.code != code || !strings.Contains(r.stderr, says) || r.stdout != "" {
		t.Errorf("%+v\nwant exit code %d and %q", r, code, says)
	}
	if strings.Count("\n"+r.stderr, "\nkeyledger: ") != 1 || strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("not one clear line: %s", r.stderr)
	}
}

func openDataDir(t *testing.T, w *testWorld) {
	t.Helper()
	mustChmod(t, w.dataDir, 0o755)
}

func openKeyringFile(t *testing.T, w *testWorld) {
	t.Helper()
	mustChmod(t, filepath.Join(w.dataDir, keyringFile), 0o644)
}

func loseKeyring(t *testing.T, w *testWorld) {
	t.Helper()
	mustRemove(t, filepath.Join(w.dataDir, keyringFile))
}

func loseLog(t *testing.T, w *testWorld) {
	t.Helper()
	mustRemove(t, filepath.Join(w.dataDir, jetstreamDir))
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

func replaceKeyring(t *testing.T, w *testWorld) {
	t.Helper()
	path := filepath.Join(w.dataDir, keyringFile)
	mustRemove(t, path)
	mustRemove(t, filepath.Join(w.dataDir, operatorTokenFile))
	w.must(t, "keyring", "create", path)
}

// drift lets the stream of a stopped server forget its oldest events.
func drift(t *testing.T, w *testWorld) {
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

// replaceLog puts another log beside the tables.
func replaceLog(t *testing.T, w *testWorld) {
	t.Helper()
	other := newTestWorld(t)
	other.mustStart(t)
	for range 3 {
		other.mustCreate(t, "--name", "n", "--environment", "live", "--full-access")
	}
	other.mustStop(t)
	mustRemove(t, filepath.Join(w.dataDir, jetstreamDir))
	if err := os.Rename(filepath.Join(other.dataDir, jetstreamDir), filepath.Join(w.dataDir, jetstreamDir)); err != nil {
		t.Fatal(err)
	}
}
