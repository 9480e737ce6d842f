package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/eventstore"
)

// lookAtConsumers calls dropPushConsumers; what fails is tried again.
func (d *Door) lookAtConsumers(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if err := d.dropPushConsumers(bounded); err != nil && ctx.Err() == nil {
		d.logger.WarnContext(ctx, "the consumers of the log cannot be looked after", slog.Any("error", err))
	}
}

// dropPushConsumers deletes every consumer of the log that the server pushes from. A
// reader may create one, since NATS cannot permit one sort only, and it would go on
// delivering after the reader's key has ended, to a subject that another client
// follows. Nobody needs one: nodes and the official clients pull, and what is pushed
// in the log's account reaches no inbox of a client.
func (d *Door) dropPushConsumers(ctx context.Context) error {
	js, err := jetstream.New(d.cfg.Node)
	if err != nil {
		return fmt.Errorf("look at the consumers of the log: %w", err)
	}
	stream, err := js.Stream(ctx, eventstore.StreamName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the consumers of the log: %w", err)
	}
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		if info.Config.DeliverSubject == "" {
			continue
		}
		if err := stream.DeleteConsumer(ctx, info.Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("delete a push consumer of the log: %w", err)
		}
		d.logger.WarnContext(ctx, "a push consumer of the log was deleted", slog.String("deliver_subject", info.Config.DeliverSubject))
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("look at the consumers of the log: %w", err)
	}
	return nil
}
