package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Watch looks after the stream until the context ends, and returns nil then: that
// its configuration does not drift, that it is still the same stream and nothing
// is missing from it, that its end never goes back, and that it can be reached and
// stores what is appended. What it finds stands in [Log.Health] and is logged once.
func (l *Log) Watch(ctx context.Context) error {
	ticker := time.NewTicker(l.watchInterval)
	defer ticker.Stop()
	for {
		err := l.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		l.raise(ctx, err, errors.Is(err, ErrHistoryReplaced))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Health returns nil, or what [Log.Watch] found: *[DriftError],
// [ErrHistoryReplaced] (which stands until the process ends), or a
// domain.KindUnavailable while the stream cannot be reached.
func (l *Log) Health() error {
	if a := l.alarm.Load(); a != nil {
		return a.err
	}
	return nil
}

// raise sets what Health returns; nil ends an alarm that is not final.
func (l *Log) raise(ctx context.Context, err error, final bool) {
	before := l.alarm.Load()
	if before != nil && before.final {
		return
	}
	if err == nil {
		if before != nil && l.alarm.CompareAndSwap(before, nil) {
			l.metrics.healthy.Set(1)
			l.logger.InfoContext(ctx, "the event log is well again", slog.String("was", before.err.Error()))
		}
		return
	}
	if !l.alarm.CompareAndSwap(before, &alarm{err: err, final: final}) {
		return
	}
	l.metrics.healthy.Set(0)
	if before == nil || before.err.Error() != err.Error() {
		l.logger.ErrorContext(ctx, "the event log is not well", slog.String("error", err.Error()))
	}
}

func (l *Log) look(ctx context.Context) error {
	if _, err := l.checkHistory(ctx, l.head.Load()); err != nil {
		if f, ok := errors.AsType[finalError](err); ok {
			return f.err
		}
		return unavailable("watch", err)
	}
	if fault := l.fault(); fault != nil {
		return broken(fault)
	}
	if at := l.silent.Load(); at > 0 && time.Since(time.Unix(0, at)) < silenceStands {
		return unavailable("watch", errors.New("the stream answers, but does not acknowledge what is appended; its disk may be full or failing"))
	}
	return drift(streamConfig(l.replicas), l.stream.CachedInfo().Config)
}

// silenceStands is how long an append without an answer counts against a stream
// that answers otherwise. After that the next append has to show it: a node that
// is kept out of use by its health would never try one.
const silenceStands = 30 * time.Second

// historyChecks is how often what looks like a replaced history is looked at
// before it is called so: in a cluster, a new leader may for a moment lag behind
// what it was elected with, and one that comes up not know the stream yet.
const historyChecks = 4

// checkHistory returns the seq of the last event, from the leader, after checking
// that this is the stream that was opened, that nothing is missing from it and
// that it reaches to a seq. A failure of these is final; others are not.
func (l *Log) checkHistory(ctx context.Context, reached uint64) (head uint64, err error) {
	for i := range historyChecks {
		if i > 0 && !sleep(ctx, retryMost) {
			return 0, ctx.Err()
		}
		var info *jetstream.StreamInfo
		info, err = l.info(ctx)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			err = fmt.Errorf("%w: the stream %s does not exist any more", ErrHistoryReplaced, StreamName)
			continue
		case err != nil:
			return 0, err
		case !settled(info):
			return 0, errors.New("the stream has no leader that a majority follows")
		}
		if err = l.sameHistory(info, reached); err == nil {
			l.observe(info.State.LastSeq)
			return info.State.LastSeq, nil
		}
	}
	l.raise(ctx, err, true)
	return 0, final(err)
}

func (l *Log) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, l.ackTimeout)
	defer cancel()
	return l.stream.Info(ctx)
}

func (l *Log) sameHistory(info *jetstream.StreamInfo, reached uint64) error {
	switch last := info.State.LastSeq; {
	case !info.Created.Equal(l.created):
		return fmt.Errorf("%w: the stream was made anew at %s", ErrHistoryReplaced, info.Created.Format(time.RFC3339))
	case last < reached:
		return fmt.Errorf("%w: it ends at %d, and was known to reach to %d", ErrHistoryReplaced, last, reached)
	default:
		return whole(info)
	}
}
