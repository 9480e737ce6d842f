package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/eventstore"
)

// Log is what the projector needs of the event log; *eventstore.Log is one.
type Log interface {
	Head(context.Context) (uint64, error)
	At(ctx context.Context, seq uint64) (eventstore.Event, error)
	Tail(ctx context.Context, from uint64, handle func(context.Context, eventstore.Batch) error) error
}

// Config is what a [Projector] needs.
type Config struct {
	Store Store // required
	Log   Log   // required
	// BatchSize is the number of events at which a batch is written although more
	// are waiting; 0 means 4096.
	BatchSize int
	// CacheSize is about how many keys are kept in memory, so that their events
	// need no query; 0 means 50,000 (about 1 KiB each). A build has as many again.
	CacheSize int
	// Linger is how long after one write to the live tables the next may begin, so
	// that commands in quick succession share a transaction. Who waits for the
	// tables ends it. 0 means 100 ms.
	Linger time.Duration
	// RetryMin and RetryMax bound the wait between tries after an error that may
	// pass; it doubles in between. 0 means 50 ms and 5 s; tests set less.
	RetryMin, RetryMax time.Duration
	// LeadEvery is how often the end of the log is asked for, and a follower asks
	// for the lead and, when nobody waits, how far the tables are. 0 means 1 s.
	LeadEvery  time.Duration
	Now        func() time.Time      // nil means time.Now
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // of keyledger_projections_…; nil means none
}

// Projector keeps a store up to date with the log, or follows while another
// process does. Make one with [New], start [Projector.Run] once; everything else
// is safe for concurrent use.
type Projector struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	hurry   chan struct{} // holds a token when somebody waits for the tables

	mu        sync.Mutex
	status    Status
	readable  uint64        // highest seq whose effect readers see
	headKnown bool          // status.Head is from the log, 0 too
	away      bool          // status.Err stands after a second try
	waiters   int           // how many wait for the tables
	rate      rate          // of status.Seq
	changed   chan struct{} // closed and replaced when any of what waiters look at changes
}

// New makes a projector.
func New(cfg Config) (*Projector, error) {
	if cfg.Store == nil || cfg.Log == nil {
		return nil, errors.New("make a projector: Store and Log are required")
	}
	if cfg.BatchSize <= 0 {
		cfg.BatchSize = 4096
	}
	if cfg.CacheSize <= 0 {
		cfg.CacheSize = 50_000
	}
	cfg.Linger = orDefault(cfg.Linger, 100*time.Millisecond)
	cfg.RetryMin = orDefault(cfg.RetryMin, 50*time.Millisecond)
	cfg.RetryMax = orDefault(cfg.RetryMax, 5*time.Second)
	cfg.LeadEvery = orDefault(cfg.LeadEvery, time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Projector{cfg: cfg, log: cfg.Logger, changed: make(chan struct{}), hurry: make(chan struct{}, 1)}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if p.metrics, err = newMetrics(cfg.Registerer, p.Status, cfg.Now); err != nil {
		return nil, fmt.Errorf("make a projector: %w", err)
	}
	return p, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}
