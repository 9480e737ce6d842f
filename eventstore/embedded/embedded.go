// Package embedded runs a NATS server with JetStream inside the process, for an
// installation of one node.
//
// It may import eventstore and nats-server. Called by cmd, and by tests.
package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
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

const (
	startTimeout = 10 * time.Second
	nodeUser     = "_node"
)

// Config is what [Start] needs.
type Config struct {
	// DataDir holds the streams, in its subdirectory "jetstream"; required,
	// created with mode 0700 if missing. Start locks the file "jetstream.lock" in
	// it, since the server itself would let two processes write the same files.
	DataDir string
	// Listen is a host and port for clients outside the process ("127.0.0.1:4222",
	// port 0 for any); "" means none. They need credentials: see Authenticate.
	Listen string
	// ServerName; "" means "keyledger".
	ServerName string
	// Sync; "" means SyncAlways.
	Sync Sync
	// MaxStoreBytes bounds what the streams may take; 0 means three quarters of
	// what the disk has free at the start.
	MaxStoreBytes int64
	// Authenticate says whether a client may connect and what it may do. nil
	// refuses everybody. It runs on the connection's goroutine and must not log
	// or keep the password.
	Authenticate func(user, password string) (Permissions, bool)
	// Allowed says whether a client that has connected may stay, at each look; nil
	// means that all may. It runs on a goroutine of the server's own. A client that
	// is sent away may come back as far as Authenticate lets it.
	Allowed func(user string) bool
	// AllowedInterval is how often Allowed is asked; 0 means every 2 s. A
	// connection outlives its right by no more than this.
	AllowedInterval time.Duration
	// Logger; nil discards.
	Logger *slog.Logger
}

// Server is a running server. It is safe for concurrent use.
type Server struct {
	nats   *server.Server
	listen bool
	secret string // the password of nodeUser; in-process connections only
	logger *serverLogger
	unlock func()

	stop     sync.Once
	stopping chan struct{}
	stopped  chan struct{}
	expeller sync.WaitGroup
}

// Start starts a server and returns when it accepts connections and its streams
// are recovered. Errors name what is wrong and what to do: a port in use, a data
// dir that cannot be read or that another process holds, a full disk.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		listen: cfg.Listen != "", secret: rand.Text(), stopping: make(chan struct{}), stopped: make(chan struct{}),
		logger: &serverLogger{logger: cfg.Logger, fatal: make(chan error, 1)},
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
	if err := s.run(ctx, opts); err != nil {
		s.unlock()
		return nil, fmt.Errorf("start the embedded NATS server: %w", err)
	}
	if cfg.Allowed != nil {
		s.expeller.Go(func() { s.expelLoop(cfg) })
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
	opts := &server.Options{
		ServerName:        cfg.ServerName,
		JetStream:         true,
		StoreDir:          cfg.DataDir,
		JetStreamMaxStore: cfg.MaxStoreBytes,
		// Readers must not be able to use up a number that the node's own reading needs.
		JetStreamLimits:            server.JSLimitOpts{DefaultMaxConsumers: -1},
		DisableJetStreamBanner:     true,
		DontListen:                 cfg.Listen == "",
		NoSigs:                     true,
		CustomClientAuthentication: &authenticator{secret: s.secret, authenticate: cfg.Authenticate},
	}
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
	if cfg.Listen != "" {
		host, port, err := net.SplitHostPort(cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("listen address %q: %w", cfg.Listen, err)
		}
		if opts.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("listen address %q: the port is not a number", cfg.Listen)
		}
		if opts.Port == 0 {
			opts.Port = server.RANDOM_PORT
		}
		opts.Host = host
	}
	return opts, nil
}

// run starts the server and waits until it is ready. The server reports what
// keeps it from starting only to its logger, so that is where it is taken from.
func (s *Server) run(ctx context.Context, opts *server.Options) error {
	if err := os.MkdirAll(filepath.Join(opts.StoreDir, "jetstream"), 0o700); err != nil {
		return fmt.Errorf("data dir: %w", err)
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

// Connect returns a new connection inside the process, with every permission. Its
// inboxes are out of every other client's reach. The caller closes it.
func (s *Server) Connect(ctx context.Context) (*nats.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	nc, err := nats.Connect("", nats.InProcessServer(s.nats),
		nats.Name("keyledger"), nats.UserInfo(nodeUser, s.secret), nats.CustomInboxPrefix(InboxPrefix(nodeUser)),
		nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.ReconnectBufSize(-1),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.logger.Warnf("the node's connection: %v", err) }))
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return nc, nil
}

// ClientURL returns the address for clients outside the process; "" if there is none.
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
		close(s.stopping)
		go func() {
			defer close(s.stopped)
			s.expeller.Wait()
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
