package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// Publisher keeps reports of use; *eventstore.Log is one. After an error the report
// may be kept or not; the very same report is published again then.
type Publisher interface {
	PublishUsage(context.Context, eventstore.UsageReport) error
}

// ReporterConfig is what [Verifier.NewReporter] needs.
type ReporterConfig struct {
	// Publisher takes the reports; required.
	Publisher Publisher
	// Name is in whose name is reported: a node's, or the id of the management key
	// with whose credential an in-process verifier connects. Required; the form of an id.
	Name string
	// Every is the time from one report of a key to its next, on whole multiples of
	// it by the clock; 0 means a minute.
	Every time.Duration
	// Tick is how exactly it is known when a key was last used; 0 means a second.
	Tick time.Duration
	// Flush bounds the last report, when the context of Run has ended; 0 means 5 s.
	Flush time.Duration
	// NewRun names one run of the reporter, over all reporters; the form of an id.
	// nil means random UUIDs.
	NewRun func() string
	// Logger; nil discards.
	Logger *slog.Logger
	// Registerer of the metrics keyledger_usage_reports_total and
	// keyledger_usage_pending_keys; nil means none.
	Registerer prometheus.Registerer
}

// Reporter reports how keys were used: each key at most once in ReporterConfig.Every.
// What cannot be published stays, and goes with what comes: for each key and day
// there is one count, however long it takes.
type Reporter struct {
	cfg     ReporterConfig
	clock   *useClock
	take    func() []Use
	run     string
	logger  *slog.Logger
	reports *prometheus.CounterVec
	keys    atomic.Int64 // with uses that are not published

	number   uint64                  // of the last report that was made
	sending  *eventstore.UsageReport // made, and not known to be kept
	pending  map[string]*pendingDay  // by day
	tookAt   time.Time               // the last take, or the beginning
	reported time.Time               // the multiple of Every that it was for
	failed   bool                    // the last report was not acknowledged
}

// pendingDay is what is to be reported of one day.
type pendingDay struct {
	from, to time.Time
	uses     map[domain.KeyID]Use
}

// retryTicks is after how many ticks a report that was not acknowledged is sent again.
const retryTicks = 5

// NewReporter makes a reporter of the verifier's uses. A verifier has one.
func (v *Verifier) NewReporter(cfg ReporterConfig) (*Reporter, error) {
	if cfg.Publisher == nil || !domain.ValidID(cfg.Name) {
		return nil, errors.New("a reporter of use needs a publisher, and a name of the form of an id")
	}
	for _, d := range [...]struct {
		value *time.Duration
		def   time.Duration
	}{{&cfg.Every, time.Minute}, {&cfg.Tick, time.Second}, {&cfg.Flush, 5 * time.Second}} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	cfg.Tick = min(cfg.Tick, cfg.Every)
	if cfg.NewRun == nil {
		cfg.NewRun = uuid.NewString
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Reporter{
		cfg: cfg, clock: v.uses, take: v.TakeUses, run: cfg.NewRun(), logger: cfg.Logger, pending: map[string]*pendingDay{},
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyledger_usage_reports_total", Help: "Reports of use that this process sent, by outcome: kept, or failed and sent again.",
		}, []string{"outcome"}),
	}
	r.reports.WithLabelValues("kept")
	r.reports.WithLabelValues("failed")
	if cfg.Registerer == nil {
		return r, nil
	}
	for _, c := range []prometheus.Collector{
		r.reports,
		gauge("keyledger_usage_pending_keys", "Keys with uses that were to be reported and are not: more than 0 for long means that the stream does not take them.",
			func() float64 { return float64(r.keys.Load()) }),
	} {
		if err := cfg.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the reporter's metrics: %w", err)
		}
	}
	return r, nil
}

// Run reports until the context ends, then once more within ReporterConfig.Flush.
// Its error says that this last report could not be made: the uses of the last
// minute are lost. Call it once, and end it when no more checks are made.
func (r *Reporter) Run(ctx context.Context) error {
	r.tookAt = r.clock.now()
	r.reported = r.tookAt.Truncate(r.cfg.Every)
	stop := r.tick()
	defer stop()
	for ticks := 1; r.sleep(ctx); ticks++ {
		switch now := r.clock.now(); {
		case !now.Truncate(r.cfg.Every).Equal(r.reported):
			r.reported = now.Truncate(r.cfg.Every)
			r.collect()
			_ = r.publish(ctx) // tried again
		case r.failed && ticks%retryTicks == 0:
			_ = r.publish(ctx)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Flush)
	defer cancel()
	r.collect()
	for {
		err := r.publish(ctx)
		if err == nil {
			return nil
		}
		if !r.sleep(ctx) {
			return fmt.Errorf("report the last uses of %d keys: %w", r.keys.Load(), err)
		}
	}
}

// tick ends ticks until stop is called, beside reports that may take long while
// nobody answers: when keys were used is known to the tick then too.
func (r *Reporter) tick() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var ticking sync.WaitGroup
	ticking.Go(func() {
		for r.sleep(ctx) {
			r.clock.advance()
		}
	})
	return func() {
		cancel()
		ticking.Wait()
	}
}

// sleep waits for the next whole tick of the clock; false if the context has ended.
func (r *Reporter) sleep(ctx context.Context) bool {
	now := r.clock.now()
	timer := time.NewTimer(now.Truncate(r.cfg.Tick).Add(r.cfg.Tick).Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// collect adds what was used since the last time to what is pending. It belongs to
// the day in which that time began: reports are made on the whole minute, and so at
// the end of a day.
func (r *Reporter) collect() {
	from := r.tookAt
	uses := r.take()
	r.tookAt = r.clock.now()
	if len(uses) == 0 {
		return
	}
	name := from.UTC().Format(time.DateOnly)
	day := r.pending[name]
	if day == nil {
		day = &pendingDay{from: from, uses: make(map[domain.KeyID]Use, len(uses))}
		r.pending[name] = day
	}
	day.to = r.tookAt
	for _, u := range uses {
		if before, ok := day.uses[u.Key]; ok {
			u.Count += before.Count
			if before.Last.After(u.Last) {
				u.Last = before.Last
			}
		}
		day.uses[u.Key] = u
	}
	r.countPending()
}

// publish sends all that is pending, one report after another: each is acknowledged
// before the next is made, so that their numbers tell which were kept.
func (r *Reporter) publish(ctx context.Context) error {
	for r.sending != nil || len(r.pending) > 0 {
		if r.sending == nil {
			r.makeReport()
		}
		if err := r.cfg.Publisher.PublishUsage(ctx, *r.sending); err != nil {
			if !r.failed {
				r.logger.WarnContext(ctx, "the use of keys could not be reported; it is kept and tried again",
					slog.Int64("keys", r.keys.Load()), slog.Any("error", err))
			}
			r.failed = true
			r.reports.WithLabelValues("failed").Inc()
			return err
		}
		r.logger.DebugContext(ctx, "reported the use of keys", slog.String("report", r.sending.ID()),
			slog.String("day", r.sending.Day), slog.Int("keys", len(r.sending.Uses)))
		r.failed, r.sending = false, nil
		r.reports.WithLabelValues("kept").Inc()
		r.countPending()
	}
	return nil
}

// makeReport takes the next report from what is pending, of the first day.
func (r *Reporter) makeReport() {
	name := slices.Min(slices.Collect(maps.Keys(r.pending)))
	day := r.pending[name]
	r.number++
	report := &eventstore.UsageReport{
		Reporter: r.cfg.Name, Run: r.run, Number: r.number, Day: name, From: day.from.UTC(), To: day.to.UTC(),
		Uses: make([]eventstore.KeyUse, 0, min(len(day.uses), eventstore.MaxUsesPerReport)),
	}
	for id, u := range day.uses {
		if len(report.Uses) == eventstore.MaxUsesPerReport {
			break
		}
		report.Uses = append(report.Uses, eventstore.KeyUse{Key: id, Last: u.Last.UnixMicro(), Count: u.Count})
		delete(day.uses, id)
	}
	if len(day.uses) == 0 {
		delete(r.pending, name)
	}
	r.sending = report
}

func (r *Reporter) countPending() {
	n := 0
	if r.sending != nil {
		n = len(r.sending.Uses)
	}
	for _, day := range r.pending {
		n += len(day.uses)
	}
	r.keys.Store(int64(n))
}
