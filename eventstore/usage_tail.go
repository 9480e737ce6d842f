package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// usageAhead is how many reports may be on the way to a tail. They are large.
	usageAhead = 16
	// usesPerBatch is at how many uses a batch is handed over although more wait.
	usesPerBatch = 2 * MaxUsesPerReport
)

// usageTail reads the stream through one consumer after another; its position is
// here, not on the server. It belongs to one goroutine.
type usageTail struct {
	log    *Log
	at     UsagePosition
	handle func(context.Context, UsageBatch) error
}

// usageItem is one message as it was received.
type usageItem struct {
	report  *UsageReport // nil if it is none
	seq     uint64
	pending uint64 // how many wait behind it
	err     error  // ends the session
}

// session reads through one consumer until it fails or ctx ends.
func (t *usageTail) session(ctx context.Context) error {
	stream, err := t.log.OpenSide(ctx, SideUsage)
	if _, drifted := errors.AsType[*DriftError](err); drifted {
		return final(err)
	}
	if err != nil {
		return err
	}
	t.begin(ctx, stream.CachedInfo())
	consumer, err := t.consumer(ctx)
	if err != nil {
		return err
	}
	defer t.log.dropConsumerOf(ctx, SideUsage, consumer)
	if consumer.CachedInfo().NumPending == 0 {
		if err := t.deliver(ctx, UsageBatch{At: t.at, CaughtUp: true}); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(ctx)
	items := make(chan usageItem, usageAhead)
	put := func(i usageItem) {
		select {
		case items <- i:
		case <-ctx.Done():
		}
	}
	received := uint64(0)
	consuming, err := consumer.Consume(func(msg jetstream.Msg) { put(t.read(ctx, msg, &received)) },
		jetstream.PullMaxMessages(usageAhead), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(heartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { put(usageItem{err: err}) }))
	if err != nil {
		stop()
		return err
	}
	defer func() {
		stop()
		consuming.Stop()
		<-consuming.Closed()
	}()
	for {
		batch, err := t.gather(ctx, items)
		if batch.At != t.at {
			if err := t.deliver(ctx, batch); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// begin finds the place to go on from in the stream that there is.
func (t *usageTail) begin(ctx context.Context, info *jetstream.StreamInfo) {
	switch {
	case t.at.Stream.Equal(info.Created) && t.at.Seq <= info.State.LastSeq:
		return
	case t.at != (UsagePosition{}):
		t.log.logger.WarnContext(ctx, "the stream of reports of use is another one or was set back; it is read from its beginning",
			slog.String("stream", string(SideUsage)), slog.Uint64("seq", t.at.Seq), slog.Uint64("last_seq", info.State.LastSeq))
	}
	t.at = UsagePosition{Stream: info.Created.UTC()}
}

func (t *usageTail) consumer(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, t.log.ackTimeout)
	defer cancel()
	return t.log.js.CreateConsumer(ctx, string(SideUsage), jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: t.at.Seq + 1,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerLife,
	})
}

// read decodes a message. The consumer numbers what it sends: a number that is
// missing was lost on the way.
func (t *usageTail) read(ctx context.Context, msg jetstream.Msg, received *uint64) usageItem {
	meta, err := msg.Metadata()
	if err != nil {
		return usageItem{err: err}
	}
	if *received++; meta.Sequence.Consumer != *received {
		return usageItem{err: fmt.Errorf("report %d of the consumer came where %d was due", meta.Sequence.Consumer, *received)}
	}
	item := usageItem{seq: meta.Sequence.Stream, pending: meta.NumPending}
	report, err := decodeUsage(msg)
	if err != nil {
		t.log.logger.WarnContext(ctx, "a message is no report of use; it is left out",
			slog.String("stream", string(SideUsage)), slog.Uint64("seq", item.seq), attrErr(err))
		return item
	}
	item.report = &report
	return item
}

// decodeUsage reads a report. Whoever may publish under a subject reports in that
// name and no other.
func decodeUsage(msg jetstream.Msg) (UsageReport, error) {
	var r UsageReport
	if err := json.Unmarshal(msg.Data(), &r); err != nil {
		return r, errors.New("not the JSON of a report") // what it holds is not for our logs
	}
	if subject, err := UsageSubject(r.Reporter); err != nil || subject != msg.Subject() {
		return r, errors.New("the reporter is not that of the subject")
	}
	if _, err := time.Parse(time.DateOnly, r.Day); err != nil {
		return r, errors.New("the day is none")
	}
	if _, err := UsageSubject(r.Run); err != nil || r.Number == 0 {
		return r, errors.New("run or number are missing")
	}
	return r, nil
}

// gather waits for a message and takes those that are there, up to the size of a batch.
func (t *usageTail) gather(ctx context.Context, items <-chan usageItem) (UsageBatch, error) {
	batch, uses := UsageBatch{At: t.at}, 0
	for uses < usesPerBatch {
		var item usageItem
		select {
		case item = <-items:
		default:
			if batch.At != t.at {
				return batch, nil
			}
			select {
			case item = <-items:
			case <-ctx.Done():
				return batch, ctx.Err()
			}
		}
		if item.err != nil {
			return batch, item.err
		}
		if item.report != nil {
			batch.Reports = append(batch.Reports, *item.report)
			uses += len(item.report.Uses)
		}
		batch.At.Seq, batch.CaughtUp = item.seq, item.pending == 0
	}
	return batch, nil
}

func (t *usageTail) deliver(ctx context.Context, b UsageBatch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.handle(ctx, b); err != nil {
		return final(err)
	}
	t.at = b.At
	return nil
}

func attrErr(err error) slog.Attr { return slog.Any("error", err) }
