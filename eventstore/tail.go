package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// maxBatch bounds the events of one call of a tail's handler, and with it how
	// much is read ahead.
	maxBatch = 1000
	// queueBytes is how much is read ahead of large events, and again of those that
	// the handler has in hand: memory that a reader which stands still keeps.
	queueBytes = 4 << 20
	// pullAhead is how many messages the server may have on the way to a tail, of
	// which a node has few, and which is to be fast; pullFew, to any other reader,
	// whose caller may be slow. One message has 40 KiB at most.
	pullAhead = 1000
	pullFew   = 100
	// heartbeat is how often the server says that it is there while nothing
	// comes; after two that are missing the consumer is made anew.
	heartbeat  = time.Second
	pullExpiry = 30 * time.Second
	// consumerLife is how long the server keeps a consumer whose reader is gone.
	consumerLife = 30 * time.Second
)

// Tail hands every event from seq from on (0 means 1) to handle, in order and
// without gaps, for ever: it waits for new ones and lives through reconnections
// and changes of leader. One call of handle runs at a time.
//
// It returns when the context ends (its error), when handle fails (that error),
// at an event it cannot read (*[UnknownTypeError] or a decoding error; the events
// before it were handed over), or with [ErrHistoryReplaced].
func (l *Log) Tail(ctx context.Context, from uint64, handle func(context.Context, Batch) error) error {
	r := &reader{log: l, next: max(from, 1), contiguous: true, pull: pullAhead, handle: handle}
	r.reached = r.next - 1
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("tail the log at %d: %w", r.next, err)
	}
	return nil
}

// reader reads a part of the log in order through one JetStream consumer after
// another: an ordered consumer whose position is here, not on the server. It
// belongs to one goroutine.
type reader struct {
	log        *Log
	subject    string    // filter; "" means all
	from       time.Time // start at this time of storing instead of next; zero if not
	next       uint64    // the first seq that was not handed over
	reached    uint64    // the log is known to reach to this seq
	contiguous bool      // every seq must come: there is no filter
	caughtUp   bool      // the last batch said so
	pull       int       // how many messages may be on the way
	handle     func(context.Context, Batch) error
}

// finalError is what a session ends with when another would end the same.
type finalError struct{ err error }

func (e finalError) Error() string { return e.err.Error() }
func (e finalError) Unwrap() error { return e.err }

func final(err error) error { return finalError{err} }

// run holds one session after another until something final happens.
func (r *reader) run(ctx context.Context) error {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		before := r.next
		err := r.session(ctx)
		if f, ok := errors.AsType[finalError](err); ok {
			return f.err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if r.next > before {
			pause = retryFirst
		}
		r.log.metrics.tailRestart.Inc()
		r.log.logger.InfoContext(ctx, "reading the log starts anew", slog.Uint64("seq", r.next), slog.Any("error", err))
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}

// session reads through one consumer until it fails or ctx ends.
func (r *reader) session(ctx context.Context) error {
	head, err := r.log.checkHistory(ctx, r.reached)
	if err != nil {
		return err
	}
	if r.contiguous && r.next > head && !r.caughtUp {
		if err := r.deliver(ctx, Batch{CaughtUp: true}); err != nil {
			return err
		}
	}
	consumer, err := r.consumer(ctx)
	if neverPasses(err) {
		return final(err)
	}
	if err != nil {
		return err
	}
	defer r.log.dropConsumer(ctx, consumer)
	q := newQueue(maxBatch, queueBytes)
	feed := &feed{queue: q, reader: r, nextSeq: r.next}
	consuming, err := consumer.Consume(feed.message,
		jetstream.PullMaxMessages(r.pull), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(heartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { q.fail(err) }))
	if err != nil {
		return err
	}
	defer func() {
		q.fail(errors.New("stopped"))
		consuming.Stop()
		<-consuming.Closed()
	}()
	for {
		items, pending, err := q.take(ctx)
		if len(items) > 0 {
			last := items[len(items)-1].Seq
			caughtUp := err == nil && pending == 0 && last >= head
			if err := r.deliver(ctx, Batch{Events: items, CaughtUp: caughtUp}); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

func (r *reader) deliver(ctx context.Context, b Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.handle(ctx, b); err != nil {
		return final(err)
	}
	r.caughtUp = b.CaughtUp
	if n := len(b.Events); n > 0 {
		r.next = b.Events[n-1].Seq + 1
		r.reached = r.next - 1
		r.from = time.Time{}
		r.log.observe(r.reached)
		r.log.metrics.tailed.Add(float64(n))
	}
	return nil
}

func (r *reader) consumer(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.log.ackTimeout)
	defer cancel()
	cfg := jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.next,
		AckPolicy:         jetstream.AckNonePolicy,
		FilterSubject:     r.subject,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: consumerLife,
	}
	if !r.from.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartSeq, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, 0, &r.from
	}
	return r.log.js.CreateConsumer(ctx, StreamName, cfg)
}

// neverPasses reports whether a consumer could not be made because of what was
// asked for: another try would fail alike.
func neverPasses(err error) bool {
	if _, ok := errors.AsType[*json.MarshalerError](err); ok {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok || api.Code != http.StatusBadRequest {
		return false
	}
	switch api.ErrorCode {
	case codeNoSuitablePeers, codeAccountResources, codeMaximumConsumers, codeConsumerNameInUse, codeConsumerExists:
		return false
	}
	return true
}

// dropConsumer tidies up; what cannot be reached now goes by itself after consumerLife.
func (l *Log) dropConsumer(ctx context.Context, c jetstream.Consumer) {
	l.dropConsumerOf(ctx, StreamName, c)
}

func (l *Log) dropConsumerOf(ctx context.Context, stream Side, c jetstream.Consumer) {
	if !l.nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.ackTimeout)
	defer cancel()
	if err := l.js.DeleteConsumer(ctx, string(stream), c.CachedInfo().Name); err != nil {
		l.logger.DebugContext(ctx, "a consumer was not deleted", slog.String("error", err.Error()))
	}
}

// feed turns a consumer's messages into the events of a queue.
type feed struct {
	queue    *queue
	reader   *reader
	received uint64 // messages of this consumer
	nextSeq  uint64
}

func (f *feed) message(msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		f.queue.fail(err)
		return
	}
	f.received++
	if meta.Sequence.Consumer != f.received {
		f.queue.fail(fmt.Errorf("message %d of the consumer came where %d was due", meta.Sequence.Consumer, f.received))
		return
	}
	seq := meta.Sequence.Stream
	// The consumer skipped nothing, so what is missing is missing in the stream.
	if f.reader.contiguous && seq != f.nextSeq {
		f.queue.fail(final(fmt.Errorf("%w: event %d comes where %d is due", ErrHistoryReplaced, seq, f.nextSeq)))
		return
	}
	f.nextSeq = seq + 1
	a, err := parseSubject(msg.Subject())
	if err != nil {
		f.queue.fail(final(undecodable(seq, err)))
		return
	}
	e, err := decode(seq, a, msg.Data())
	if err != nil {
		f.queue.fail(final(err))
		return
	}
	f.queue.put(e, meta.NumPending)
}
