package deadlines

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// Log is the event log as the worker needs it; *eventstore.Log is one.
type Log interface {
	// Tail hands over every event from seq from on, in order and for ever.
	Tail(ctx context.Context, from uint64, handle func(context.Context, eventstore.Batch) error) error
	Append(context.Context, eventstore.Meta, ...eventstore.Change) ([]eventstore.Event, error)
	// Head returns the seq of the last event, as the log's leader knows it.
	Head(context.Context) (uint64, error)
}

// Lease says who of several nodes works; *eventstore.Log is one.
type Lease interface {
	// Hold runs work while this process has the lease; see eventstore.Log.Hold.
	Hold(ctx context.Context, cfg eventstore.LeaseConfig, work func(context.Context) error) error
}

// leaseName is the lease of those who write deadlines.
const leaseName = "deadlines"

// Config says what a [Worker] works with.
type Config struct {
	Log   Log   // required
	Lease Lease // required
	// Holder names this node in the lease, for people; "" means nobody says.
	Holder string
	// LeaseTTL is how long the others wait for a holder that was killed; 0 means 5 s.
	LeaseTTL time.Duration
	// Notices says how long before its expiry a key's notices are given, at most
	// ten whole numbers of seconds from a minute to 366 days. nil means one,
	// [DefaultNotice]; empty means none.
	Notices []time.Duration
	// BatchSize is how many keys one append is about at most; 0 means
	// DefaultBatchSize, and more than 1000 is refused by the log.
	BatchSize int
	// Duty is which part of the time, above 0 and up to 1, may be spent appending
	// while more is due: the rest is for commands. 0 means DefaultDuty.
	Duty float64
	// MaxWait bounds how long the worker sleeps without looking at the clock, which
	// may be set; 0 means 1 s.
	MaxWait time.Duration
	// Now is the clock that decides what is due; nil means time.Now. Nothing is
	// written before it has reached the deadline.
	Now func() time.Time
	// Patience is how long nothing is written after Now ran ahead of the monotonic
	// clock by more than a minute, unless it is set back before: an expiry that was
	// written by a wrong clock is final. 0 means DefaultPatience; negative means
	// that every clock is believed at once.
	Patience time.Duration
	// ServerClock is compared with Now before this node leads and every minute while
	// it does: nothing is written while Now is more than a minute ahead of it. nil
	// means no comparison.
	ServerClock ServerClock
	// NewID makes the ids of the clock's commands, each unique; nil means UUIDs.
	NewID      func() string
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // of keyledger_deadlines_…; nil means none
}

// The size of batches and the part of the time that they may take, as measured:
// docs/decisions/0010-deadlines.md.
const (
	DefaultBatchSize = 500
	DefaultDuty      = 0.45
)

// Worker follows the log and writes what is due while it has the lease. Its methods
// are safe for concurrent use.
type Worker struct {
	cfg     Config
	clock   *wallClock
	index   *index
	logger  *slog.Logger
	metrics *metrics
	leading atomic.Bool

	mu       sync.Mutex
	ended    error                     // why Run has ended; nil before and while it runs
	troubles map[domain.KeyID]*trouble // keys that are set aside, or were
}

// New makes a worker that does nothing until it runs.
func New(cfg Config) (*Worker, error) {
	if cfg.Log == nil || cfg.Lease == nil {
		return nil, errors.New("deadlines: a log and a lease are required")
	}
	if cfg.Notices == nil {
		cfg.Notices = []time.Duration{DefaultNotice}
	}
	cfg.Notices = slices.Sorted(slices.Values(cfg.Notices))
	if err := checkNotices(cfg.Notices); err != nil {
		return nil, fmt.Errorf("deadlines: %w", err)
	}
	cfg.BatchSize = cmp.Or(cfg.BatchSize, DefaultBatchSize)
	cfg.Duty = cmp.Or(cfg.Duty, DefaultDuty)
	cfg.MaxWait = cmp.Or(cfg.MaxWait, time.Second)
	if cfg.BatchSize < 0 || cfg.Duty < 0 || cfg.Duty > 1 || cfg.MaxWait < 0 {
		return nil, fmt.Errorf("deadlines: a batch of %d, a duty of %v or a wait of %v makes no sense", cfg.BatchSize, cfg.Duty, cfg.MaxWait)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Worker{
		cfg: cfg, index: newIndex(cfg.Notices), logger: cfg.Logger, troubles: map[domain.KeyID]*trouble{},
		clock: &wallClock{now: cfg.Now, server: cfg.ServerClock, patience: cmp.Or(cfg.Patience, DefaultPatience), logger: cfg.Logger},
	}
	w.clock.begin()
	var err error
	w.metrics, err = newMetrics(w, cfg.Registerer)
	return w, err
}

// Run follows the log and works until ctx ends, and returns nil then. It returns an
// error if the log cannot be followed: nothing may be written on what is out of
// date. That the log does not answer is waited out. Call it once.
func (w *Worker) Run(ctx context.Context) error {
	both, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var beside sync.WaitGroup
	beside.Go(func() { w.clock.watch(both, w.cfg.MaxWait) })
	beside.Go(func() {
		err := w.cfg.Log.Tail(both, 1, func(_ context.Context, b eventstore.Batch) error {
			w.index.apply(b.Events, b.CaughtUp)
			return nil
		})
		stop(cmp.Or(err, errors.New("the log ended")))
	})
	err := w.hold(both)
	if both.Err() != nil {
		err = context.Cause(both)
	}
	stop(err)
	beside.Wait()
	if ctx.Err() != nil {
		err = nil
	} else {
		err = fmt.Errorf("work off deadlines: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = cmp.Or(err, errors.New("it was stopped"))
	return err
}

// hold leads whenever it has the lease, which it asks for, and keeps, while its clock
// is believed.
func (w *Worker) hold(ctx context.Context) error {
	for {
		if err := w.awaitClock(ctx); err != nil {
			return err
		}
		err := w.cfg.Lease.Hold(ctx, eventstore.LeaseConfig{
			Name: leaseName, Holder: w.cfg.Holder, TTL: w.cfg.LeaseTTL, Logger: w.logger,
		}, w.lead)
		if !errors.Is(err, errDoubt) {
			return err
		}
	}
}

// awaitClock waits until the clock is believed. That the server does not say what
// time it has is no reason to wait: there is no lease then either, and whoever leads
// asks again.
func (w *Worker) awaitClock(ctx context.Context) error {
	for ctx.Err() == nil {
		if _, err := w.clock.check(ctx); !errors.Is(err, errDoubt) {
			return nil
		}
		sleep(ctx, w.cfg.MaxWait)
	}
	return ctx.Err()
}

// now reads the clock as commands do, in the microseconds that events keep.
func (w *Worker) now() time.Time { return w.clock.read() }

// tolerableLag is how long something may be due, and nothing written, before it is
// called unwell.
const tolerableLag = time.Minute

// Health returns nil, or why deadlines are not written as they should be. Every
// node knows it, also one that stands by.
func (w *Worker) Health() error {
	w.mu.Lock()
	ended, stuck := w.ended, w.stuck()
	w.mu.Unlock()
	now := w.now()
	o := w.index.overdue(now)
	doubt := w.clock.doubt()
	switch {
	case ended != nil:
		return fmt.Errorf("nothing is written any more: %w", ended)
	case doubt != nil:
		return doubt
	case stuck > 0:
		return fmt.Errorf("the deadlines of %d keys cannot be written; the node's log has them", stuck)
	case o.keys > 0 && now.Sub(o.since) > tolerableLag && time.Since(o.wrote) > tolerableLag:
		return fmt.Errorf("%d deadlines are due, the first for %v, and none was written for a minute", o.keys, now.Sub(o.since).Round(time.Second))
	default:
		return nil
	}
}
