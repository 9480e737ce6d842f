package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/keyledger/keyledger/domain"
)

// maxBatchEvents is what the server accepts in one atomic batch.
const maxBatchEvents = 1000

// Append stores events, all or none, and returns them with their seqs. meta is
// common to all of them. A single event is one publish; several are one atomic
// batch. An aggregate is named by at most one change.
//
// Errors: [ErrConflict] and [ErrUnknownOutcome], which ask the caller to load
// again; with any other, nothing was stored: an event over [MaxEventBytes] is a
// domain.KindTooLarge, an unreachable or full log a domain.KindUnavailable, and
// a context that had ended before anything was sent is the context's error. An
// unknown outcome may have a domain.KindUnavailable beside it that says why. It
// never sends again what may have been stored.
func (l *Log) Append(ctx context.Context, meta Meta, changes ...Change) ([]Event, error) {
	a, err := l.prepare(meta, changes)
	if err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	if alarm := l.alarm.Load(); alarm != nil && alarm.final {
		return nil, fmt.Errorf("append: %w", otherHistory(alarm.err))
	}
	if fault := l.fault(); fault != nil { // nothing is stored any more, and nothing answered
		return nil, fmt.Errorf("append: %w", broken(fault))
	}
	started := time.Now()
	known := l.head.Load()
	first, err := l.store(ctx, a.messages)
	err = l.answered(ctx, err)
	l.metrics.appends.WithLabelValues(outcome(err)).Inc()
	if err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	l.metrics.appendTime.Observe(time.Since(started).Seconds())
	if first <= known {
		err := fmt.Errorf("%w: an append was stored at %d, and %d was there before", ErrHistoryReplaced, first, known)
		l.raise(ctx, err, true)
		return nil, fmt.Errorf("append: %w", otherHistory(err))
	}
	for i := range a.events {
		a.events[i].Seq = first + uint64(i)
	}
	l.observe(first + uint64(len(a.events)) - 1)
	return a.events, nil
}

// answered notes whether the server answered at all, and adds to an unknown
// outcome what a server in this process knows of its cause. The outcome stays
// unknown: the storage may have failed after it took the events.
func (l *Log) answered(ctx context.Context, err error) error {
	_, refused := errors.AsType[*jetstream.APIError](err)
	switch {
	case err == nil || refused || errors.Is(err, ErrConflict):
		l.silent.Store(0)
	// Only our own timeout says something about the server. A caller that hung up
	// has not waited for the answer.
	case errors.Is(err, context.DeadlineExceeded) && errors.Is(err, ErrUnknownOutcome) && ctx.Err() == nil:
		l.silent.Store(time.Now().UnixNano())
	}
	if fault := l.fault(); fault != nil && errors.Is(err, ErrUnknownOutcome) {
		return fmt.Errorf("%w: %w", err, broken(fault))
	}
	return err
}

// appendage is one append ready to be stored: messages[i] carries events[i].
type appendage struct {
	events   []Event
	messages []*nats.Msg
}

// prepare encodes the events. Each is read back before it is sent: what could not
// be read would stop every projection for good.
func (l *Log) prepare(meta Meta, changes []Change) (appendage, error) {
	var a appendage
	seen := make(map[Aggregate]bool, len(changes))
	for _, c := range changes {
		subject, err := c.Aggregate.Subject()
		if err != nil {
			return a, err
		}
		if seen[c.Aggregate] || len(c.Events) == 0 {
			return a, fmt.Errorf("%s: named twice, or without an event", c.Aggregate)
		}
		seen[c.Aggregate] = true
		for i, data := range c.Events {
			e, err := l.encodeEvent(meta, c.Aggregate, data)
			if err != nil {
				return a, err
			}
			msg := &nats.Msg{Subject: subject, Data: e.Raw, Header: nats.Header{
				"Content-Type":                 {"application/cloudevents+json"},
				jetstream.MsgIDHeader:          {e.ID},
				jetstream.ExpectedStreamHeader: {StreamName},
			}}
			// One expectation for each aggregate: a second inside a batch would be
			// compared with what the batch found, and fail.
			if i == 0 {
				msg.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(c.ExpectedSeq, 10)}
			}
			a.events = append(a.events, e)
			a.messages = append(a.messages, msg)
		}
	}
	if n := len(a.events); n == 0 || n > maxBatchEvents {
		return a, fmt.Errorf("%d events: an append takes 1 to %d", n, maxBatchEvents)
	}
	return a, nil
}

func (l *Log) encodeEvent(meta Meta, a Aggregate, data domain.Event) (Event, error) {
	raw, err := l.encoder.encode(Event{
		ID:          l.newID(),
		Source:      l.source,
		Time:        meta.Time,
		Aggregate:   a,
		Actor:       meta.Actor,
		Command:     meta.Command,
		CommandID:   meta.CommandID,
		CommandHash: meta.CommandHash,
		RequestID:   meta.RequestID,
		TraceParent: meta.TraceParent,
		Data:        data,
	})
	if err != nil {
		return Event{}, err
	}
	if len(raw) > MaxEventBytes {
		return Event{}, tooLarge(fmt.Sprintf("the event %s would take %d bytes; at most %d are kept", data.Type(), len(raw), MaxEventBytes))
	}
	e, err := decode(0, a, raw)
	if err != nil {
		return Event{}, fmt.Errorf("the event %s could not be read back: %w", data.Type(), err)
	}
	return e, nil
}

func tooLarge(message string) error {
	return domain.NewError(domain.KindTooLarge, domain.CodeEventTooLarge, message,
		"shorten the name, description, metadata, scopes or addresses")
}

// store publishes messages that belong together and returns the seq of the first.
// It repeats only what certainly was not stored: when nobody listened, or when a
// batch arrived in pieces because the leader changed.
//
// It is the place for a committer that turns the appends that wait into one
// batch: callers hand over messages and get a seq, and do not know what else was
// stored with them.
func (l *Log) store(ctx context.Context, msgs []*nats.Msg) (first uint64, err error) {
	waitCtx, cancel := context.WithTimeout(ctx, l.leaderWait)
	defer cancel()
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("%w: %w", errNotStored, err)
		}
		first, err = l.publish(waitCtx, msgs)
		if err == nil {
			return first, nil
		}
		err = publishError(err)
		if !errors.Is(err, errNotStored) {
			return 0, err
		}
		l.logger.DebugContext(ctx, "append is tried again", slog.String("error", err.Error()))
		if !sleep(waitCtx, pause) {
			return 0, unavailable("store", err)
		}
	}
}

func (l *Log) publish(ctx context.Context, msgs []*nats.Msg) (first uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.ackTimeout)
	defer cancel()
	if len(msgs) == 1 {
		ack, err := l.js.PublishMsg(ctx, msgs[0])
		switch {
		case err != nil:
			return 0, err
		case ack.Duplicate:
			return 0, fmt.Errorf("%w: its id is in the log at %d", ErrConflict, ack.Sequence)
		}
		return ack.Sequence, nil
	}
	// Waiting for an answer to the first message would cost a round trip and tell
	// nothing that the commit does not.
	ack, err := jetstreamext.PublishMsgBatch(ctx, l.js, msgs, jetstreamext.BatchFlowControl{})
	if err != nil {
		return 0, err
	}
	return ack.Sequence - uint64(len(msgs)) + 1, nil
}
