package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what [Open] needs.
type Config struct {
	// Conn is the connection to NATS; required. The log does not close it.
	Conn *nats.Conn
	// Replicas of the stream, 1 or 3; 0 means 1.
	Replicas int
	// Source is the CloudEvents source of events written here; "" means "keyledger".
	Source string
	// AckTimeout is how long one append waits for its acknowledgement before its
	// outcome is unknown, and one read for its answer before it is asked again;
	// 0 means 2 s.
	AckTimeout time.Duration
	// LeaderWait is how long a call waits for the stream to have a leader, as far
	// as its context allows; 0 means 15 s, longer than an election takes (5 to 8 s).
	LeaderWait time.Duration
	// WatchInterval is how often [Log.Watch] looks; 0 means 5 s.
	WatchInterval time.Duration
	// Fault says what a server inside this process knows to be wrong with its
	// storage (embedded.Server.Fault): a server that cannot write does not answer
	// appends, and answers everything else as if nothing were wrong. nil means that
	// there is nobody to ask.
	Fault func() error
	// NewID makes event ids, each unique; nil means UUIDs (version 7).
	NewID func() string
	// Logger; nil discards.
	Logger *slog.Logger
	// Registerer of the metrics keyledger_eventstore_…; nil means none.
	Registerer prometheus.Registerer
}

// Log is the event log. It is safe for concurrent use.
type Log struct {
	nc            *nats.Conn
	js            jetstream.JetStream
	stream        jetstream.Stream
	created       time.Time // the stream's identity
	replicas      int
	source        string
	ackTimeout    time.Duration
	leaderWait    time.Duration
	watchInterval time.Duration
	fault         func() error
	newID         func() string
	encoder       encoder
	logger        *slog.Logger
	metrics       *metrics

	head   atomic.Uint64         // highest seq seen; the log can never end before it
	alarm  atomic.Pointer[alarm] // what Health returns
	silent atomic.Int64          // when the last append got no answer, in ns since 1970; 0 once one does
}

type alarm struct {
	err   error
	final bool // history was replaced: stands until the process ends
}

// Open finds the stream, or creates it if there is none, and checks that it is
// configured as the log requires (*[DriftError] if not) and that nothing is
// missing from it ([ErrHistoryReplaced]).
func Open(ctx context.Context, cfg Config) (*Log, error) {
	l, err := newLog(cfg)
	if err != nil {
		return nil, fmt.Errorf("open the event log: %w", err)
	}
	if err := l.openStream(ctx); err != nil {
		return nil, fmt.Errorf("open the event log: %w", err)
	}
	return l, nil
}

func newLog(cfg Config) (*Log, error) {
	l := &Log{
		nc:            cfg.Conn,
		replicas:      or(cfg.Replicas, 1),
		source:        or(cfg.Source, "keyledger"),
		ackTimeout:    or(cfg.AckTimeout, 2*time.Second),
		leaderWait:    or(cfg.LeaderWait, 15*time.Second),
		watchInterval: or(cfg.WatchInterval, 5*time.Second),
		fault:         cfg.Fault,
		newID:         cfg.NewID,
		encoder:       newEncoder(),
		logger:        or(cfg.Logger, slog.New(slog.DiscardHandler)),
	}
	if l.nc == nil {
		return nil, errors.New("no connection given")
	}
	if l.replicas != 1 && l.replicas != 3 {
		return nil, fmt.Errorf("%d replicas: use 1 or 3", l.replicas)
	}
	if l.fault == nil {
		l.fault = func() error { return nil }
	}
	if l.newID == nil {
		l.newID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	var err error
	if l.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	l.js, err = jetstream.New(l.nc, jetstream.WithDefaultTimeout(l.ackTimeout))
	return l, err
}

// observe notes that the log reaches to seq.
func (l *Log) observe(seq uint64) {
	for {
		head := l.head.Load()
		if seq <= head {
			return
		}
		if l.head.CompareAndSwap(head, seq) {
			l.metrics.head.Set(float64(seq))
			return
		}
	}
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
