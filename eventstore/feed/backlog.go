package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Backlog is what a consumer has not done yet.
type Backlog struct {
	Waiting uint64    // messages that were not delivered yet
	InHand  int       // messages that were delivered and not acknowledged
	Oldest  time.Time // when the stream got the oldest of them; zero if there is none
	Done    uint64    // everything up to this sequence is acknowledged
}

// Backlog asks the server what the consumer of a topic has not done yet.
func (s *Subscriber) Backlog(ctx context.Context, topic string) (Backlog, error) {
	consumer, err := s.cfg.JetStream.Consumer(ctx, s.cfg.Stream, s.cfg.Durable(topic))
	if err != nil {
		return Backlog{}, fmt.Errorf("look at the consumer of %s: %w", topic, err)
	}
	info := consumer.CachedInfo()
	b := Backlog{Waiting: info.NumPending, InHand: info.NumAckPending, Done: info.AckFloor.Stream}
	if b.Waiting == 0 && b.InHand == 0 {
		return b, nil
	}
	stream, err := s.cfg.JetStream.Stream(ctx, s.cfg.Stream)
	if err != nil {
		return b, fmt.Errorf("look at the stream %s: %w", s.cfg.Stream, err)
	}
	oldest, err := stream.GetMsg(ctx, b.Done+1, jetstream.WithGetMsgSubject(topic))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // done and purged meanwhile
	case err != nil:
		return b, fmt.Errorf("read the oldest message of %s: %w", topic, err)
	default:
		b.Oldest = oldest.Time
	}
	return b, nil
}

// PurgeDone removes from the stream what the consumer of a topic has acknowledged
// without a gap. Call it for a stream that only this consumer reads. Any number of
// nodes may call it at any time: what is not acknowledged lies beyond that point,
// and a point that is out of date removes less.
func (s *Subscriber) PurgeDone(ctx context.Context, topic string) error {
	b, err := s.Backlog(ctx, topic)
	if err != nil || b.Done == 0 {
		return err
	}
	stream, err := s.cfg.JetStream.Stream(ctx, s.cfg.Stream)
	if err != nil {
		return fmt.Errorf("look at the stream %s: %w", s.cfg.Stream, err)
	}
	if stream.CachedInfo().State.FirstSeq > b.Done {
		return nil
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(b.Done+1)); err != nil {
		return fmt.Errorf("purge %s up to %d: %w", s.cfg.Stream, b.Done, err)
	}
	return nil
}
