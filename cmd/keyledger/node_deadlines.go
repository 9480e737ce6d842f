package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/keyledger/keyledger/deadlines"
	"github.com/keyledger/keyledger/eventstore"
)

// expiryNotices is how long before their expiry keys' notices are given.
type expiryNotices struct{ leads []time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *expiryNotices) UnmarshalText(text []byte) (err error) {
	e.leads, err = deadlines.ParseNotices(string(text))
	return err
}

func (n *node) makeDeadlines(context.Context) error {
	worker, err := deadlines.New(deadlines.Config{
		Log: n.log, Lease: n.log, Holder: n.name(), Notices: n.ExpiryNotices.leads,
		Now: n.now, ServerClock: n.log, Logger: n.logger, Registerer: n.metrics,
	})
	n.deadlines = worker
	return err
}

// runDeadlines writes what time brings about, if this node is the one that does. It
// reads the whole history first, and leaves that to the verifier at the start: keys
// are checked by the clock, whether or not the events are there. If it stops, the
// others and the node go on without; only a log that is not the one which was read
// ends the node.
func (n *node) runDeadlines(ctx context.Context) error {
	if err := n.awaitVerifier(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	err := n.deadlines.Run(ctx)
	if err == nil || errors.Is(err, eventstore.ErrHistoryReplaced) {
		return err
	}
	n.logger.ErrorContext(ctx, "alarm: this node writes no expiries and ends of overlaps any more", slog.Any("error", err))
	<-ctx.Done()
	return nil
}
