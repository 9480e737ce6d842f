// Package servertest runs the whole of keyledger in one test process: embedded
// NATS, the log, the command handler, the verifier, the key table in SQLite, and
// the HTTP server on a loopback port, with an operator's token.
//
// Tests of the server, the client and later doors use it. It may import everything
// except cmd.
package servertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/intake"
	"github.com/keyledger/keyledger/internal/keyring"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/sqlite"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/verify"
)

// patience bounds every wait for the stack.
const patience = 20 * time.Second

// Config says how the stack differs from the usual. The zero value is a good one.
type Config struct {
	DataDir string // "": one of the test's own; name one to start again on it
	// Sync of the embedded log; "" means embedded.SyncLazy, for speed. Tests of
	// durability and benchmarks of commands say embedded.SyncAlways.
	Sync   embedded.Sync
	Now    func() time.Time     // nil: time.Now
	Logger *slog.Logger         // nil: logs into Stack.Logs
	Adjust func(*server.Config) // changes the server's configuration before it is made; may be nil
}

// Stack is a running keyledger.
type Stack struct {
	URL      string // http://127.0.0.1:…
	Operator string // the token of the operator: an instance management key
	DataDir  string
	Logs     *Buffer // what was logged, JSON lines, unless Config.Logger was given

	Log       *eventstore.Log
	Commands  *command.Handler
	Verifier  *verify.Verifier
	Table     *sqlite.Store
	Projector *projections.Projector
	Records   *intake.Records // of commands over NATS; the door itself is not open
	Server    *server.Server
	Metrics   *prometheus.Registry

	vault vault
	stop  func() error
}

// MustStart starts a stack and stops it when the test ends.
func MustStart(tb testing.TB, cfg Config) *Stack {
	tb.Helper()
	if cfg.DataDir == "" {
		cfg.DataDir = tb.TempDir()
	}
	s := &Stack{DataDir: cfg.DataDir, Logs: &Buffer{}, Metrics: prometheus.NewRegistry()}
	if err := s.start(tb.Context(), cfg); err != nil {
		tb.Fatalf("start the stack: %v\n%s", err, s.Logs)
	}
	tb.Cleanup(func() { s.MustStop(tb) })
	return s
}

// MustStop stops the stack as a node stops: requests finish, the log closes last.
// It may be called again.
func (s *Stack) MustStop(tb testing.TB) {
	tb.Helper()
	if err := s.stop(); err != nil {
		tb.Error(err)
	}
}

func (s *Stack) start(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if cfg.Sync == "" {
		cfg.Sync = embedded.SyncLazy
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewJSONHandler(s.Logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	keys, err := openKeyring(filepath.Join(cfg.DataDir, "keyring.json"))
	if err != nil {
		return err
	}
	nats, err := embedded.Start(ctx, embedded.Config{DataDir: cfg.DataDir, Sync: cfg.Sync, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	conn, err := nats.Connect(ctx)
	if err != nil {
		return err
	}
	if s.Log, err = eventstore.Open(ctx, eventstore.Config{Conn: conn, Logger: cfg.Logger, Registerer: s.Metrics}); err != nil {
		return err
	}
	if s.Table, err = sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(cfg.DataDir, "keys.db"), Logger: cfg.Logger}); err != nil {
		return err
	}
	streams, err := s.Log.OpenCommands(ctx)
	if err != nil {
		return err
	}
	if s.Records, err = intake.NewRecords(s.Log, streams); err != nil {
		return err
	}
	if err := s.build(cfg, keys); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.URL = "http://" + listener.Addr().String()
	s.run(listener, func(ctx context.Context) error {
		err := s.Table.Close()
		conn.Close()
		return errors.Join(err, nats.Shutdown(ctx))
	})
	return s.welcome(ctx, filepath.Join(cfg.DataDir, "operator.token"))
}

// build makes what works on the log.
func (s *Stack) build(cfg Config, keys *keyring.Keyring) (err error) {
	if s.Verifier, err = verify.New(verify.Config{
		Peppers: keys.Peppers(), Now: cfg.Now, Logger: cfg.Logger, Registerer: s.Metrics,
	}); err != nil {
		return err
	}
	if s.Projector, err = projections.New(projections.Config{Store: s.Table, Log: s.Log, Now: cfg.Now, Logger: cfg.Logger, Registerer: s.Metrics}); err != nil {
		return err
	}
	if s.Commands, err = command.New(command.Config{
		Log: s.Log, Claims: s.Verifier, Pepper: keys.Primary(), IDSecret: keys.IDSecret(),
		Now: cfg.Now, Logger: cfg.Logger, Registerer: s.Metrics,
	}); err != nil {
		return err
	}
	config := server.Config{
		Commands: s.Commands, Keys: s.Table, Audit: s.Table, Usage: s.Table, Verifier: s.Verifier, History: s.Log,
		Tables: s.Projector, Projections: s.Projector, Describer: s.Table, Outcomes: s.Records, DeadLetters: s.Records, Now: cfg.Now, Logger: cfg.Logger, Metrics: s.Metrics,
	}
	if cfg.Adjust != nil {
		cfg.Adjust(&config)
	}
	s.Server, err = server.New(config)
	return err
}

// run starts the feeds and the server, and makes s.stop.
func (s *Stack) run(listener net.Listener, closeRest func(context.Context) error) {
	doors, closeDoors := context.WithCancel(context.Background())
	feeds, stopFeeds := context.WithCancel(context.Background())
	var feeding, serving errgroup.Group
	feeding.Go(func() error { return s.Verifier.Run(feeds, s.Log) })
	feeding.Go(func() error { return s.Projector.Run(feeds) })
	serving.Go(func() error { return s.Server.Serve(doors, listener) })
	s.stop = sync.OnceValue(func() error {
		closeDoors()
		serveErr := serving.Wait()
		stopFeeds()
		feedErr := feeding.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return errors.Join(serveErr, feedErr, closeRest(ctx))
	})
}

// welcome makes the operator and waits until the stack answers from all of the log.
func (s *Stack) welcome(ctx context.Context, tokenFile string) error {
	s.vault.path = tokenFile
	if _, _, err := s.Commands.Operator(ctx, s.vault); err != nil {
		return errors.Join(err, s.stop())
	}
	token, err := s.vault.Load()
	if err != nil {
		return errors.Join(err, s.stop())
	}
	s.Operator = token.Reveal()
	head, err := s.Log.Head(ctx)
	if err == nil {
		err = errors.Join(s.Verifier.WaitFor(ctx, head), s.Projector.WaitFor(ctx, head))
	}
	if err != nil {
		return errors.Join(err, s.stop())
	}
	return nil
}

func openKeyring(path string) (*keyring.Keyring, error) {
	keys, err := keyring.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return keyring.Create(path, rand.Reader)
	}
	return keys, err
}

// Buffer gathers bytes from many goroutines.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write adds p.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

var _ command.TokenVault = vault{}

// vault keeps the operator's token in a file beside the log.
type vault struct{ path string }

// Load implements command.TokenVault.
func (v vault) Load() (domain.Secret, error) { return loadToken(v.path) }

// Store implements command.TokenVault.
func (v vault) Store(token domain.Secret) error {
	return keyring.WriteSecretFile(v.path, []byte(token.Reveal()))
}
