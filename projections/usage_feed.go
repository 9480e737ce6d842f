package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/eventstore"
)

// UsageLog is the stream of reports of use; *eventstore.Log is one.
type UsageLog interface {
	TailUsage(ctx context.Context, from eventstore.UsagePosition, handle func(context.Context, eventstore.UsageBatch) error) error
}

// UsageConfig is what a [UsageFeed] needs.
type UsageConfig struct {
	Store UsageWriter // required
	Log   UsageLog    // required
	// Leads says whether this process is the one that merges: the one that writes to
	// the tables. Two that do are not wrong, only slow. nil means that it always is.
	Leads func() bool
	// LookEvery is how often Leads is asked; 0 means 1 s.
	LookEvery time.Duration
	// RetryMin and RetryMax bound the wait between tries after an error; it doubles in
	// between. 0 means 50 ms and 5 s.
	RetryMin, RetryMax time.Duration
	Now                func() time.Time      // nil means time.Now
	Logger             *slog.Logger          // nil discards
	Registerer         prometheus.Registerer // of keyledger_usage_merge…; nil means none
}

// UsageFeed merges reports of use into a store. It stands apart from the [Projector]:
// whatever is wrong with it, the tables go on, and it with them when it can.
type UsageFeed struct {
	cfg    UsageConfig
	log    *slog.Logger
	merged prometheus.Counter
	failed prometheus.Counter
	upTo   atomic.Int64 // ns since 1970, of the last report that was merged
	behind atomic.Bool  // more reports wait
}

// NewUsageFeed makes a feed.
func NewUsageFeed(cfg UsageConfig) (*UsageFeed, error) {
	if cfg.Store == nil || cfg.Log == nil {
		return nil, errors.New("make a feed of use: Store and Log are required")
	}
	if cfg.Leads == nil {
		cfg.Leads = func() bool { return true }
	}
	cfg.LookEvery = orDefault(cfg.LookEvery, time.Second)
	cfg.RetryMin = orDefault(cfg.RetryMin, 50*time.Millisecond)
	cfg.RetryMax = orDefault(cfg.RetryMax, 5*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &UsageFeed{
		cfg: cfg, log: cfg.Logger,
		merged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyledger_usage_merged_reports_total", Help: "Reports of use that this process has merged into the tables, or found merged.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyledger_usage_merge_retries_total", Help: "Times that reports of use could not be merged and are tried again.",
		}),
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Registerer == nil {
		return f, nil
	}
	for _, c := range [...]prometheus.Collector{f.merged, f.failed, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "keyledger_usage_merge_lag_seconds", Help: "How old the last merged report of use is while more are waiting; 0 while none is, and in processes that do not merge.",
	}, func() float64 { return f.lag().Seconds() })} {
		if err := cfg.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("make a feed of use: %w", err)
		}
	}
	return f, nil
}

func (f *UsageFeed) lag() time.Duration {
	if !f.behind.Load() {
		return 0
	}
	return max(0, f.cfg.Now().Sub(time.Unix(0, f.upTo.Load())))
}

// Run merges until the context ends. Errors are tried again, for as long as it takes.
func (f *UsageFeed) Run(ctx context.Context) {
	wait := &backoff{next: f.cfg.RetryMin, max: f.cfg.RetryMax}
	for ctx.Err() == nil {
		if !f.cfg.Leads() {
			_ = sleep(ctx, f.cfg.LookEvery) // the loop looks at ctx
			continue
		}
		progress, err := f.lead(ctx)
		if progress {
			wait = &backoff{next: f.cfg.RetryMin, max: f.cfg.RetryMax}
		}
		f.behind.Store(false)
		if ctx.Err() != nil || errors.Is(err, errNotLeading) {
			continue
		}
		f.failed.Inc()
		level := slog.LevelWarn
		if wait.tries > 0 || errors.Is(err, ErrUsageMoved) {
			level = slog.LevelDebug // it was said, or is no fault
		}
		f.log.LogAttrs(ctx, level, "reports of use are merged later", slog.Any("error", err))
		_ = wait.sleep(ctx)
	}
}

var errNotLeading = errors.New("another process merges reports of use")

// lead merges from the stored position on, until something fails or another leads.
func (f *UsageFeed) lead(ctx context.Context) (progress bool, err error) {
	at, err := f.cfg.Store.UsagePosition(ctx)
	if err != nil {
		return false, fmt.Errorf("read up to where reports of use were merged: %w", err)
	}
	ctx, lost := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer lost(nil)
	watching.Go(func() {
		for sleep(ctx, f.cfg.LookEvery) == nil {
			if !f.cfg.Leads() {
				lost(errNotLeading)
			}
		}
	})
	err = f.cfg.Log.TailUsage(ctx, at.ofStream(), func(ctx context.Context, b eventstore.UsageBatch) error {
		to, err := f.merge(ctx, at, b)
		if err == nil && to != at {
			at, progress = to, true
		}
		return err
	})
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return progress, err
}

// merge merges what the stream handed over. A batch without reports only says where
// the tail stands.
func (f *UsageFeed) merge(ctx context.Context, at UsagePosition, from eventstore.UsageBatch) (UsagePosition, error) {
	f.behind.Store(!from.CaughtUp)
	b := UsageBatch{From: at, To: positionOf(from.At), Now: f.cfg.Now()}
	if b.To == b.From {
		return at, nil
	}
	uses := 0
	for _, r := range from.Reports {
		day, err := time.Parse(time.DateOnly, r.Day)
		if err != nil {
			return at, fmt.Errorf("report %s: %w", r.ID(), err)
		}
		report := UsageReport{Run: r.Run, Number: r.Number, Day: DayOf(day), Uses: make([]KeyUse, len(r.Uses))}
		for i, u := range r.Uses {
			report.Uses[i] = KeyUse{Key: u.Key, At: time.UnixMicro(u.Last), Count: u.Count}
		}
		b.Reports = append(b.Reports, report)
		uses += len(r.Uses)
		f.upTo.Store(r.To.UnixNano())
	}
	began := time.Now()
	if err := f.cfg.Store.MergeUsage(ctx, b); err != nil {
		return at, fmt.Errorf("merge reports of use: %w", err)
	}
	f.merged.Add(float64(len(b.Reports)))
	f.log.DebugContext(ctx, "merged reports of use", slog.Int("reports", len(b.Reports)), slog.Int("keys", uses),
		slog.Uint64("stream_seq", b.To.Seq), slog.Duration("took", time.Since(began)))
	return b.To, nil
}

func (p UsagePosition) ofStream() eventstore.UsagePosition {
	if p == (UsagePosition{}) {
		return eventstore.UsagePosition{}
	}
	return eventstore.UsagePosition{Stream: time.Unix(0, p.Stream).UTC(), Seq: p.Seq}
}

func positionOf(p eventstore.UsagePosition) UsagePosition {
	return UsagePosition{Stream: p.Stream.UnixNano(), Seq: p.Seq}
}
