package eventstore

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/nats-io/nats.go"
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
	// outcome is unknown; 0 means 2 s.
	AckTimeout time.Duration
	// LeaderWait is how long a call waits for the stream to have a leader, as far
	// as its context allows; 0 means 15 s, longer than an election takes (5 to 8 s).
	LeaderWait time.Duration
	// WatchInterval is how often [Log.Watch] looks; 0 means 5 s.
	WatchInterval time.Duration
	// NewID makes event ids, each unique; nil means UUIDs (version 7).
	NewID func() string
	// Logger; nil discards.
	Logger *slog.Logger
	// Registerer of the metrics keyledger_eventstore_…; nil means none.
	Registerer prometheus.Registerer
}

// Log is the event log. It is safe for concurrent use.
type Log struct{}

// Open finds the stream, or creates it if there is none, and checks that it is
// configured as the log requires (*[DriftError] if not).
func Open(ctx context.Context, cfg Config) (*Log, error) { return nil, errors.ErrUnsupported }

// Append stores events, all or none, and returns them with their seqs. meta is
// common to all of them. A single event is one publish; several are one atomic batch.
//
// Errors: [ErrConflict] and [ErrUnknownOutcome], which ask the caller to load
// again; an event over [MaxEventBytes] is a domain.KindTooLarge; an unreachable
// or full log a domain.KindUnavailable, with nothing stored. It never sends
// again what may have been stored.
func (l *Log) Append(ctx context.Context, meta Meta, changes ...Change) ([]Event, error) {
	return nil, errors.ErrUnsupported
}

// Load reads the history of an aggregate; empty if there is none.
func (l *Log) Load(ctx context.Context, a Aggregate, c Consistency) (History, error) {
	return History{}, errors.ErrUnsupported
}

// Head returns the seq of the last event as the leader knows it, 0 if there is none.
func (l *Log) Head(ctx context.Context) (uint64, error) { return 0, errors.ErrUnsupported }

// At returns the event with this seq, or [ErrNoEvent].
func (l *Log) At(ctx context.Context, seq uint64) (Event, error) {
	return Event{}, errors.ErrUnsupported
}

// Tail hands every event from seq from on (0 means 1) to handle, in order and
// without gaps, for ever: it waits for new ones and lives through reconnections
// and changes of leader. One call of handle runs at a time.
//
// It returns when the context ends (its error), when handle fails (that error),
// at an event it cannot read (*[UnknownTypeError] or a decoding error; the events
// before it were handed over), or with [ErrHistoryReplaced].
func (l *Log) Tail(ctx context.Context, from uint64, handle func(context.Context, Batch) error) error {
	return errors.ErrUnsupported
}

// Filter selects a part of history. The zero value selects everything.
type Filter struct {
	Account  domain.AccountID   // "" means all
	Key      domain.KeyID       // "" means all aggregates
	Types    []domain.EventType // empty means all
	FromSeq  uint64             // 0 means from the first
	ToSeq    uint64             // last seq to return; 0 means no bound
	FromTime time.Time          // by [Event.Time]; zero means from the first
}

// Replay iterates over the selected events up to what is the end of the log at
// the call. After an error the iteration ends.
func (l *Log) Replay(ctx context.Context, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) { yield(Event{}, errors.ErrUnsupported) }
}

// Follow is [Log.Replay] that goes on with new events until the context ends,
// the filter's ToSeq is passed or the caller stops. The end of the context is not
// reported as an error.
func (l *Log) Follow(ctx context.Context, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) { yield(Event{}, errors.ErrUnsupported) }
}

// Watch looks after the stream until the context ends, and returns nil then: that
// its configuration does not drift, that it is still the same stream, that its
// end never goes back, and that it can be reached. What it finds stands in
// [Log.Health] and is logged once.
func (l *Log) Watch(ctx context.Context) error { return errors.ErrUnsupported }

// Health returns nil, or what [Log.Watch] found: *[DriftError],
// [ErrHistoryReplaced] (which stands until the process ends), or a
// domain.KindUnavailable while the stream cannot be reached.
func (l *Log) Health() error { return errors.ErrUnsupported }
