package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
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
	// need no query; 0 means 50,000 (about 1 KiB each).
	CacheSize int
	// Linger is how long after one write to the live tables the next may begin, so
	// that commands in quick succession share a transaction. Who waits for the
	// tables ends it. 0 means 100 ms.
	Linger time.Duration
	// RetryMin and RetryMax bound the wait between tries after an error that may
	// pass; it doubles in between. 0 means 50 ms and 5 s.
	RetryMin, RetryMax time.Duration
	Logger             *slog.Logger          // nil discards
	Registerer         prometheus.Registerer // of keyledger_projections_…; nil means none
}

// Projector keeps a store up to date with the log. Make one with [New], start
// [Projector.Run] once; everything else is safe for concurrent use.
type Projector struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	// building says that the store began empty, so that readers see nothing
	// before FinishBuild. Only Run's goroutine touches it.
	building bool
	hurry    chan struct{} // holds a token when somebody waits for the tables

	mu       sync.Mutex
	status   Status
	readable uint64        // highest seq whose effect readers see
	changed  chan struct{} // closed and replaced when readable, CaughtUp or Stopped change
}

// Status tells how far the tables are.
type Status struct {
	Seq  uint64 // the last event taken in
	Head uint64 // the last event of the log that is known of
	// CaughtUp says that since the start the tables were level with the log once:
	// whether a node may answer from them. The lag at present is Head - Seq.
	CaughtUp bool
	// Err is why the tables do not follow the log at present, nil if they do.
	Err error
	// Stopped says that Run has returned: nothing will change any more.
	Stopped bool
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
	if cfg.Linger <= 0 {
		cfg.Linger = 100 * time.Millisecond
	}
	if cfg.RetryMin <= 0 {
		cfg.RetryMin = 50 * time.Millisecond
	}
	if cfg.RetryMax <= 0 {
		cfg.RetryMax = 5 * time.Second
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("make a projector: %w", err)
	}
	return &Projector{cfg: cfg, log: log, metrics: m, changed: make(chan struct{}), hurry: make(chan struct{}, 1)}, nil
}

// Status returns how far the tables are.
func (p *Projector) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// WaitFor returns when readers see the effect of the event at seq. If the
// context ends before, or the projector has stopped, the error is of
// domain.KindUnavailable.
func (p *Projector) WaitFor(ctx context.Context, seq uint64) error {
	return p.wait(ctx, fmt.Sprintf("the tables have not reached seq %d", seq), func() bool { return p.readable >= seq })
}

// WaitCaughtUp returns when the tables have been level with the log once, and
// readers can use them. Errors are those of [Projector.WaitFor].
func (p *Projector) WaitCaughtUp(ctx context.Context) error {
	return p.wait(ctx, "the tables have not caught up with the log", func() bool { return p.status.CaughtUp })
}

// wait returns when done, which is called with mu held, says so.
func (p *Projector) wait(ctx context.Context, late string, done func() bool) error {
	for {
		p.mu.Lock()
		ok, status, changed := done(), p.status, p.changed
		p.mu.Unlock()
		if ok {
			return nil
		}
		if status.Stopped {
			return &domain.Error{
				Kind: domain.KindUnavailable, Code: CodeStopped, Cause: status.Err,
				Message: "the tables no longer follow the log", Fix: "ask the operator to look at the node's log",
			}
		}
		select {
		case p.hurry <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &domain.Error{
				Kind: domain.KindUnavailable, Code: CodeBehind, Cause: errors.Join(ctx.Err(), status.Err),
				Message: late, Fix: "ask again shortly",
			}
		}
	}
}

// advance publishes what was written.
func (p *Projector) advance(seq uint64, readable, caughtUp bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Seq, p.status.Head = seq, max(seq, p.status.Head)
	p.status.CaughtUp = p.status.CaughtUp || caughtUp
	p.status.Err = nil
	if readable {
		p.readable = seq
		p.broadcast()
	}
	p.metrics.seq.Set(float64(seq))
	p.metrics.head.Set(float64(p.status.Head))
}

// sawHead notes the end of the log as far as it is known.
func (p *Projector) sawHead(head uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Head = max(head, p.status.Head)
	p.metrics.head.Set(float64(p.status.Head))
}

// fail notes why the tables do not follow, for now or, if stopped, for good.
func (p *Projector) fail(err error, stopped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Err, p.status.Stopped = err, stopped
	if stopped {
		p.broadcast()
	}
}

// broadcast wakes those who wait; mu is held.
func (p *Projector) broadcast() {
	close(p.changed)
	p.changed = make(chan struct{})
}
