// Package embedded runs a NATS server with JetStream inside the process, for an
// installation of one node.
//
// It may import eventstore, eventstore/access and nats-server. Called by cmd, and by
// tests.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/eventstore/access"
)

// Sync says when the server forces what it stored to the disk.
type Sync string

// The sync modes, from safe to fast.
const (
	// SyncAlways syncs before every acknowledgement. It is the default, and the
	// only mode in which a power failure loses nothing that was acknowledged.
	SyncAlways Sync = "always"
	// SyncSecond syncs every second. A power failure can lose the whole stream.
	SyncSecond Sync = "1s"
	// SyncLazy leaves it to the server's default of two minutes. A power failure
	// can lose the whole stream.
	SyncLazy Sync = "lazy"
)

const startTimeout = 10 * time.Second

// Config is what [Start] needs.
type Config struct {
	// DataDir holds the streams, in its subdirectory "jetstream"; required,
	// created with mode 0700 if missing. Start locks the file "jetstream.lock" in
	// it, since the server itself would let two processes write the same files.
	DataDir string
	// Listen is a host and port for clients outside the process ("127.0.0.1:4222",
	// port 0 for any); "" means none. They need credentials: see Secrets.
	Listen string
	// ListenLater leaves the port closed until [Server.Listen]. Clients are refused by
	// the operating system until then and try again; a refusal of their credentials,
	// because nobody can check them yet, would be the end for most.
	ListenLater bool
	// ServerName; "" means "keyledger".
	ServerName string
	// Sync; "" means SyncAlways.
	Sync Sync
	// MaxStoreBytes bounds what the streams may take; 0 means three quarters of
	// what the disk has free at the start.
	MaxStoreBytes int64
	// Secrets are the nkeys of connections inside the process, and what signs the
	// permissions of those outside: whoever has them answers the auth callout, see
	// [access.Open]. nil means new ones, so that nobody outside may connect.
	Secrets *access.Secrets
	// Users may connect from outside without the callout and do everything in the
	// account of the streams; passwords by name. For tests that need a server of
	// somebody else's.
	Users map[string]string
	// Logger; nil discards.
	Logger *slog.Logger
}

// Server is a running server. It is safe for concurrent use.
type Server struct {
	nats    *server.Server
	listen  bool
	secrets *access.Secrets
	logger  *serverLogger
	unlock  func()

	listening sync.Mutex // one call of Listen at a time
	stop      sync.Once
	stopped   chan struct{}
}

// Start starts a server and returns when it accepts connections and its streams
// are recovered. Errors name what is wrong and what to do: a port in use, a data
// dir that cannot be read or that another process holds, a full disk.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		listen: cfg.Listen != "", secrets: cfg.Secrets, stopped: make(chan struct{}),
		logger: &serverLogger{logger: cfg.Logger, fatal: make(chan error, 1)},
	}
	if s.secrets == nil {
		var err error
		if s.secrets, err = access.NewSecrets(); err != nil {
			return nil, fmt.Errorf("start the embedded NATS server: %w", err)
		}
	}
	opts, err := s.options(cfg)
	if err != nil {
		return nil, fmt.Errorf("start the embedded NATS server: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start the embedded NATS server: %w", err)
	}
	if s.unlock, err = lockDir(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("start the embedded NATS server: %w", err)
	}
	if err := s.run(ctx, opts, cfg.ListenLater); err != nil {
		s.unlock()
		return nil, fmt.Errorf("start the embedded NATS server: %w", err)
	}
	if opts.SyncAlways {
		return s, nil
	}
	cfg.Logger.WarnContext(ctx, "events are not synced to the disk before they are acknowledged: a power failure can lose the whole log",
		slog.String("sync", string(cfg.Sync)))
	return s, nil
}

func (s *Server) options(cfg Config) (*server.Options, error) {
	if cfg.DataDir == "" {
		return nil, errors.New("no data dir given")
	}
	opts := &server.Options{}
	if err := s.accounts(opts, cfg); err != nil {
		return nil, err
	}
	opts.ServerName = cfg.ServerName
	opts.JetStream = true
	opts.StoreDir = cfg.DataDir
	opts.JetStreamMaxStore = cfg.MaxStoreBytes
	// Readers must not be able to use up a number that the node's own reading needs.
	opts.JetStreamLimits = server.JSLimitOpts{DefaultMaxConsumers: -1}
	opts.DisableJetStreamBanner = true
	opts.DontListen = cfg.Listen == "" || cfg.ListenLater
	opts.NoSigs = true
	if opts.ServerName == "" {
		opts.ServerName = "keyledger"
	}
	switch cfg.Sync {
	case SyncAlways, "":
		opts.SyncAlways = true
	case SyncSecond:
		opts.SyncInterval = time.Second
	case SyncLazy: // the server's own default
	default:
		return nil, fmt.Errorf("unknown sync mode %q: use %q, %q or %q", cfg.Sync, SyncAlways, SyncSecond, SyncLazy)
	}
	return opts, address(opts, cfg.Listen)
}

// address says where clients are to be let in.
func address(opts *server.Options, listen string) error {
	if listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("listen address %q: %w", listen, err)
	}
	if opts.Port, err = strconv.Atoi(port); err != nil {
		return fmt.Errorf("listen address %q: the port is not a number", listen)
	}
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	opts.Host = host
	return nil
}

// run starts the server and waits until it is ready. The server reports what
// keeps it from starting only to its logger, so that is where it is taken from.
func (s *Server) run(ctx context.Context, opts *server.Options, later bool) error {
	if err := s.makeStore(ctx, opts.StoreDir); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	if later {
		if err := probe(ctx, opts); err != nil {
			return startError(opts, err)
		}
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.nats = ns
	ns.SetLoggerV2(s.logger, false, false, false)
	ns.Start() // returns once the streams are recovered and the listener is there
	select {
	case err = <-s.logger.fatal:
	default:
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case !ns.ReadyForConnections(startTimeout):
			err = fmt.Errorf("not ready within %v", startTimeout)
		case !ns.JetStreamEnabled():
			err = errors.New("its storage could not be opened; see the log")
		default:
			return nil
		}
	}
	ns.Shutdown()
	ns.WaitForShutdown()
	return startError(opts, err)
}

// startError says what to do about the causes that have a remedy.
func startError(opts *server.Options, err error) error {
	switch text := err.Error(); {
	case containsAny(text, "address already in use"):
		return fmt.Errorf("port %d on %s is in use by another program: stop it, or choose another --nats-listen: %w", opts.Port, opts.Host, err)
	case containsAny(text, "permission denied"):
		return fmt.Errorf("the data dir %s cannot be read and written by this user: give it to them, or choose another --data-dir: %w", opts.StoreDir, err)
	case containsAny(text, "no space left"):
		return fmt.Errorf("the disk of the data dir %s is full: free some space: %w", opts.StoreDir, err)
	default:
		return err
	}
}

// Listen opens the port, if the server was started with ListenLater. It may be
// called again.
func (s *Server) Listen() error {
	s.listening.Lock()
	defer s.listening.Unlock()
	if !s.listen || s.nats.Addr() != nil {
		return nil
	}
	s.nats.AcceptLoop(make(chan struct{})) // it returns when the port is open
	select {
	case err := <-s.logger.fatal:
		return fmt.Errorf("listen for NATS clients: %w", err)
	default:
		return nil
	}
}

// Connect returns a new connection inside the process, in the account of the
// streams and with every permission there. The caller closes it.
func (s *Server) Connect(ctx context.Context) (*nats.Conn, error) {
	return s.ConnectTo(ctx, access.AccountLog)
}

// ConnectTo is Connect for an account that [access.Secrets.Options] knows.
func (s *Server) ConnectTo(ctx context.Context, account string) (*nats.Conn, error) {
	opts, err := s.secrets.Options(account)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	opts = append(opts, nats.InProcessServer(s.nats), nats.Name("keyledger"),
		nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.ReconnectBufSize(-1),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.logger.Warnf("the node's connection: %v", err) }))
	nc, err := nats.Connect("", opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return nc, nil
}

// ClientURL returns the address for clients outside the process; "" if there is
// none. With ListenLater and any port it is known from [Server.Listen] on.
func (s *Server) ClientURL() string {
	if !s.listen {
		return ""
	}
	return s.nats.ClientURL()
}

// Fault returns nil, or why the server cannot write to its disk any more. It
// stands until a restart, as the server's refusal to write does.
func (s *Server) Fault() error {
	if err := s.logger.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// Shutdown stops the server and returns when its files are closed, or when the
// context ends; it goes on stopping then. It may be called again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop.Do(func() {
		go func() {
			defer close(s.stopped)
			s.nats.Shutdown()
			s.nats.WaitForShutdown()
			s.unlock()
		}()
	})
	select {
	case <-s.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop the embedded NATS server: %w", ctx.Err())
	}
}
