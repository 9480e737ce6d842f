package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
)

// The errors by which [Keys] says no.
var (
	// ErrRefused says that the key is not good: unknown, revoked, expired.
	ErrRefused = errors.New("the key is not good")
	// ErrNotReady says that nobody can know at present whether it is.
	ErrNotReady = errors.New("the keys are not known at present")
)

// Keys knows the management keys. It is safe for concurrent use.
type Keys interface {
	// Authenticate returns what the bearer of a token may do; ErrRefused or
	// ErrNotReady.
	Authenticate(token string) (domain.Authority, error)
	// Active returns what the bearer of a key may do now; ErrRefused or ErrNotReady.
	Active(id domain.KeyID) (domain.Authority, error)
	// CatchUp returns when the two others take in all that the log held when it was
	// called; ErrNotReady, or what keeps it from knowing.
	CatchUp(ctx context.Context) error
}

// Config is what [Open] needs.
type Config struct {
	// Node is a connection in AccountLog and System one in AccountSystem; required.
	// The door closes neither.
	Node, System *nats.Conn
	// Secrets of the nodes; required.
	Secrets *Secrets
	// Keys; required.
	Keys Keys
	// Interval is how often open connections are looked at; 0 means 1 s. A connection
	// outlives the end of its key by about this long.
	Interval time.Duration
	// PageSize is how many connections a server lists at once; 0 means 1024.
	PageSize int
	// Logger; nil discards.
	Logger *slog.Logger
	// Registerer of the metrics keyledger_nats_…; nil means none.
	Registerer prometheus.Registerer
}

const (
	defaultInterval = time.Second
	defaultPageSize = 1024
	openTimeout     = 10 * time.Second
	// workers answer the callout, and queueSize requests may wait for them. What
	// comes above that is dropped: the server refuses it after its own time. So a
	// flood of wrong passwords costs a bounded amount of work.
	workers   = 8
	queueSize = 1024
	// calloutSubject is where the server asks who somebody is.
	calloutSubject = "$SYS.REQ.USER.AUTH"
	// consumersInterval is how often the log's consumers are looked at.
	consumersInterval = 2 * time.Second
	// reportInterval is how often refusals are counted in the log.
	reportInterval = 10 * time.Second
)

// Door lets clients in and sends them away. It is safe for concurrent use.
type Door struct {
	cfg     Config
	public  Public
	logger  *slog.Logger
	metrics *metrics

	sub      *nats.Subscription
	requests chan *nats.Msg
	workers  sync.WaitGroup
	stop     chan struct{}
	stopOnce sync.Once

	catching sync.Mutex
	caught   time.Time // when the last CatchUp of the callout began
	catchErr error     // what came of it

	refused atomic.Int64
	unready atomic.Int64
	fault   atomic.Pointer[error] // what Health returns
}

// Open begins to answer the server's auth callout and returns when the server
// knows that somebody does. While Keys is not ready everybody is refused.
func Open(ctx context.Context, cfg Config) (*Door, error) {
	if cfg.Node == nil || cfg.System == nil || cfg.Secrets == nil || cfg.Keys == nil {
		return nil, errors.New("let clients in to NATS: a connection, the secrets or the keys are missing")
	}
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.PageSize == 0 {
		cfg.PageSize = defaultPageSize
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	public, err := cfg.Secrets.Public()
	if err != nil {
		return nil, err
	}
	d := &Door{cfg: cfg, public: public, logger: cfg.Logger, requests: make(chan *nats.Msg, queueSize), stop: make(chan struct{})}
	if d.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	// One node answers each request, of those with the same secrets: while they are
	// being changed, the others could not open it.
	if d.sub, err = cfg.Node.ChanQueueSubscribe(calloutSubject, public.Issuer, d.requests); err != nil {
		return nil, fmt.Errorf("let clients in to NATS: %w", err)
	}
	for range workers {
		d.workers.Go(d.work)
	}
	bounded, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := cfg.Node.FlushWithContext(bounded); err != nil {
		d.Close()
		return nil, fmt.Errorf("let clients in to NATS: %w", err)
	}
	return d, nil
}

// Close stops answering. Other nodes go on.
func (d *Door) Close() {
	d.stopOnce.Do(func() {
		_ = d.sub.Unsubscribe() // it fails if the connection has ended, and then it has ended too
		close(d.stop)
	})
	d.workers.Wait()
}

// Run ends connections whose key is not good any more, and consumers that could go
// on without one, until ctx ends. It returns nil then.
func (d *Door) Run(ctx context.Context) error {
	tick := time.NewTicker(d.cfg.Interval)
	defer tick.Stop()
	report := time.NewTicker(reportInterval)
	defer report.Stop()
	consumers := time.NewTicker(consumersInterval)
	defer consumers.Stop()
	for {
		select {
		case <-consumers.C:
			d.lookAtConsumers(ctx)
		case <-tick.C:
			d.look(ctx)
		case <-report.C:
			d.report(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// Health returns nil, or why connections of keys that have ended may go on.
func (d *Door) Health() error {
	if err := d.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// report says what was refused since the last time. Single refusals are not
// logged: whoever can reach the port could fill the disk.
func (d *Door) report(ctx context.Context) {
	refused, unready := d.refused.Swap(0), d.unready.Swap(0)
	if refused > 0 {
		d.logger.WarnContext(ctx, "nats connections were refused: wrong, ended or unfit management keys", slog.Int64("count", refused))
	}
	if unready > 0 {
		d.logger.WarnContext(ctx, "nats connections were refused: this node does not know the keys at present", slog.Int64("count", unready))
	}
}
