package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const defaultAckTimeout = 5 * time.Second

// ErrClosed is what a publisher or subscriber that was closed returns.
var ErrClosed = errors.New("closed")

// PublisherConfig is what [NewPublisher] needs.
type PublisherConfig struct {
	// JetStream of the connection to publish on; required. The connection stays open.
	JetStream jetstream.JetStream
	// AckTimeout bounds the wait for one acknowledgement; 0 means 5 s.
	AckTimeout time.Duration
}

// Publisher publishes messages to streams. It is safe for concurrent use.
type Publisher struct {
	js      jetstream.JetStream
	timeout time.Duration
	closed  context.Context //nolint:containedctx // the life of the publisher, ended by Close
	end     context.CancelFunc
	mu      sync.RWMutex // held for reading by Publish, so that Close waits for it
}

// NewPublisher makes a publisher.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	if cfg.JetStream == nil {
		return nil, errors.New("feed publisher: JetStream is required")
	}
	p := &Publisher{js: cfg.JetStream, timeout: or(cfg.AckTimeout, defaultAckTimeout)}
	p.closed, p.end = context.WithCancel(context.Background())
	return p, nil
}

// Publish publishes messages to a subject, one after the other, each within its own
// context, and returns when a stream has acknowledged the last. An error means that
// those from the failed one on are not known to be stored. A message's UUID, unless
// it is empty, keeps a stream from storing it twice under the same subject within the
// stream's window for duplicates.
func (p *Publisher) Publish(subject string, messages ...*message.Message) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, m := range messages {
		if err := p.publish(subject, m); err != nil {
			return fmt.Errorf("publish to %s: %w", subject, err)
		}
	}
	return nil
}

func (p *Publisher) publish(subject string, m *message.Message) error {
	if p.closed.Err() != nil {
		return ErrClosed
	}
	headers, err := headersOf(subject, m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(m.Context(), p.timeout)
	defer cancel()
	_, err = p.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: headers, Data: m.Payload})
	return err
}

// Close waits for what is being published, and makes further calls of Publish fail.
// It may be called again.
func (p *Publisher) Close() error {
	p.end()
	p.mu.Lock()
	defer p.mu.Unlock()
	return nil
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
