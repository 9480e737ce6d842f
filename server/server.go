package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
)

// Config says what a [Server] works with.
type Config struct {
	Commands    Commands    // required
	Keys        KeyReader   // required
	Audit       AuditReader // required
	Usage       UsageReader // required
	Verifier    Verifier    // required
	History     History     // required
	Projections Projections // required
	Describer   Describer   // required
	Outcomes    Outcomes    // required
	DeadLetters DeadLetters // required
	// Tables keeps what Keys and Audit read up to date: the projector. Reads wait for
	// it until they show what was acknowledged here; nil means they never wait.
	Tables Applier
	// Parts are asked by GET /readyz; nil means always ready.
	Parts     []Part
	Catalogue *domain.Catalogue // nil: domain.DefaultCatalogue
	Version   string            // what the API says it is; "": "dev"

	ReadHeaderTimeout time.Duration // for a request's headers; 0: 5 s
	ReadTimeout       time.Duration // for a whole request; 0: 10 s
	WriteTimeout      time.Duration // for an answer, or one piece of a stream; 0: 30 s
	IdleTimeout       time.Duration // for a connection between requests; 0: 60 s
	HandlerTimeout    time.Duration // for what an answer takes to make; 0: 25 s
	DrainTimeout      time.Duration // for requests in flight at shutdown; 0: 10 s
	// AwaitTimeout is how long a read waits for what it reads from; 0: 2 s.
	AwaitTimeout time.Duration
	// Heartbeat is how often an idle event stream says that it is alive, and how
	// soon it ends after its credential did; 0: 10 s. Exports look at their
	// credential as often, and every second at least.
	Heartbeat time.Duration

	// ScanTime is how long one page of events searches the log for what it was
	// asked for, before it says how far it came; 0: 5 s.
	ScanTime time.Duration

	// Event streams and exports that may be open at once. Beyond either number
	// they are refused with 503.
	MaxStreamsPerKey int // of one management key; 0: 20
	MaxStreams       int // of all; 0: 200

	// Reads of the tables that may run at once: lists, counts, pages of the audit
	// log, checks of the past. Further ones wait for ReadPatience, and are then
	// refused with 429. A management key has one count at a time. Reads of a single
	// key are free, so MaxReads should be less than what the tables answer at once.
	MaxReadsPerKey int           // of one management key; 0: 2
	MaxReads       int           // of all; 0: 3, which fits a SQLite store's 4 readers
	ReadPatience   time.Duration // 0: 1 s

	Now     func() time.Time     // nil: time.Now
	NewID   func() string        // request ids; nil: random UUIDs
	Logger  *slog.Logger         // nil: discards
	Metrics *prometheus.Registry // what GET /metrics shows, ours included; nil: an own one
}

// maxHeaderBytes bounds a request's headers.
const maxHeaderBytes = 16 << 10

// Server answers HTTP requests. It is safe for concurrent use.
type Server struct {
	cfg     Config
	now     func() time.Time
	logger  *slog.Logger
	metrics metrics
	mux     *http.ServeMux
	api     huma.API

	endpoints []*endpoint
	document  []byte // openapi.json
	docs      []byte // the page at /docs
	answers   verifyAnswers

	exchanges sync.Pool // *exchange
	scratches sync.Pool // *scratch

	acknowledged           atomic.Uint64 // the highest seq that a caller was told of
	acknowledgedManagement atomic.Uint64 // the same of management keys
	verifier               follower
	tables                 follower

	limits *streamLimits
	reads  *readLimits

	draining atomic.Bool
	streams  context.Context //nolint:containedctx // the life of all streams, ended by Serve
	cut      context.CancelFunc
	jobs     sync.WaitGroup // what goes on after its caller has gone, until streams ends
}

// New makes a server. It starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Commands == nil || cfg.Keys == nil || cfg.Audit == nil || cfg.Usage == nil || cfg.Verifier == nil || cfg.History == nil ||
		cfg.Projections == nil || cfg.Describer == nil || cfg.Outcomes == nil || cfg.DeadLetters == nil {
		return nil, errors.New("server: Commands, Keys, Audit, Usage, Verifier, History, Projections, Describer, Outcomes and DeadLetters are required")
	}
	cfg = cfg.withDefaults()
	counters, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s := &Server{
		cfg: cfg, now: cfg.Now, logger: cfg.Logger, metrics: counters,
		mux: http.NewServeMux(), answers: newVerifyAnswers(),
		limits: newStreamLimits(cfg.MaxStreamsPerKey, cfg.MaxStreams),
		reads:  newReadLimits(cfg.MaxReadsPerKey, cfg.MaxReads, cfg.ReadPatience),
	}
	s.verifier.applier, s.tables.applier = cfg.Verifier, cfg.Tables
	s.exchanges.New = func() any { return new(exchange) }
	s.scratches.New = func() any { return new(scratch) }
	s.streams, s.cut = context.WithCancel(context.Background())
	s.api = s.newAPI()
	s.routes()
	if err := s.finishDocument(); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return s, nil
}

func (c Config) withDefaults() Config {
	for _, d := range [...]struct {
		value *time.Duration
		def   time.Duration
	}{
		{&c.ReadHeaderTimeout, 5 * time.Second}, {&c.ReadTimeout, 10 * time.Second},
		{&c.WriteTimeout, 30 * time.Second}, {&c.IdleTimeout, 60 * time.Second},
		{&c.HandlerTimeout, 25 * time.Second}, {&c.DrainTimeout, 10 * time.Second},
		{&c.AwaitTimeout, 2 * time.Second}, {&c.Heartbeat, 10 * time.Second},
		{&c.ScanTime, 5 * time.Second}, {&c.ReadPatience, time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	for _, n := range [...]struct {
		value *int
		def   int
	}{
		{&c.MaxStreamsPerKey, 20}, {&c.MaxStreams, 200}, {&c.MaxReadsPerKey, 2}, {&c.MaxReads, 3},
	} {
		if *n.value == 0 {
			*n.value = n.def
		}
	}
	if c.Catalogue == nil {
		c.Catalogue = domain.DefaultCatalogue()
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = uuid.NewString
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	return c
}

// Serve answers requests on the listener until the context ends. Then it takes no
// new connections, ends the streams, lets requests in flight finish for
// Config.DrainTimeout, and returns nil; an error says what kept it from serving or
// that requests had to be cut off. A server serves once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.cfg.ReadHeaderTimeout,
		ReadTimeout:       s.cfg.ReadTimeout,
		WriteTimeout:      s.cfg.WriteTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	select {
	case err := <-served:
		s.cut()
		return fmt.Errorf("serve http on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.cut()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	if err := h.Shutdown(drain); err != nil {
		_ = h.Close()
		return fmt.Errorf("drain http: requests were cut off after %s: %w", s.cfg.DrainTimeout, err)
	}
	s.jobs.Wait() // they were told to end with the streams
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http on %s: %w", l.Addr(), err)
	}
	return nil
}
