package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	defaultInFlight   = 256
	defaultAckWait    = 30 * time.Second
	defaultRetryFirst = 100 * time.Millisecond
	defaultRetryMost  = 30 * time.Second
	defaultDrain      = 10 * time.Second

	requestTimeout = 5 * time.Second
	pullHeartbeat  = time.Second
	// pullExpiry is how often a subscriber asks anew. It is shorter than pinnedTTL,
	// after which the server takes one that does not ask for gone.
	pullExpiry = 2 * time.Second
	pinnedTTL  = 6 * time.Second
	// exclusiveGroup is the consumer's one priority group.
	exclusiveGroup = "one"
)

// SubscriberConfig is what [NewSubscriber] needs.
type SubscriberConfig struct {
	// JetStream of the connection to read from; required. The connection stays open.
	JetStream jetstream.JetStream
	// Stream that carries the topics, which are subjects of it and may hold
	// wildcards; required. It must exist when Subscribe is called.
	Stream string
	// Durable names the consumer of a topic; required. Subscribers with the same
	// stream and name share the messages; another name gets all of them again.
	Durable func(topic string) string
	// Lane names the lane of a message: what must stay in order gets the same name.
	// It must not change the message. nil means that everything is one lane.
	Lane func(*message.Message) string
	// InFlight bounds the messages that are delivered and not acknowledged, of all
	// subscribers of the consumer together, and so what is handled at once; 0 means 256.
	InFlight int
	// Exclusive lets one subscriber of a consumer get messages at a time, so that
	// lanes hold over all of them. Another takes over when it is closed, or was not
	// heard of for 6 s. What one that died had in hand comes again after AckWait, and
	// so after what the next one was handed meanwhile.
	Exclusive bool
	// AckWait is how long after a subscriber has died what it had in hand comes
	// again; 0 means 30 s.
	AckWait time.Duration
	// RetryFirst is how long a message waits after it was first not acknowledged, and
	// RetryMost how long at most, since the wait doubles; 0 means 100 ms and 30 s.
	RetryFirst, RetryMost time.Duration
	// Drain is how long Close, or the end of Subscribe's context, lets handlers finish
	// what they have in hand, before their messages' contexts end; 0 means 10 s.
	Drain time.Duration
	// Logger; nil discards.
	Logger *slog.Logger
}

// Subscriber hands the messages of a stream to handlers. It is safe for concurrent use.
type Subscriber struct {
	cfg     SubscriberConfig
	closing chan struct{}

	mu     sync.Mutex
	closed bool // guarded by mu, so that nothing is added to running after Close
	// running counts subscriptions.
	running sync.WaitGroup
}

// NewSubscriber makes a subscriber. It starts nothing.
func NewSubscriber(cfg SubscriberConfig) (*Subscriber, error) {
	if cfg.JetStream == nil || cfg.Stream == "" || cfg.Durable == nil {
		return nil, errors.New("feed subscriber: JetStream, Stream and Durable are required")
	}
	if cfg.Lane == nil {
		cfg.Lane = func(*message.Message) string { return "" }
	}
	cfg.InFlight = or(cfg.InFlight, defaultInFlight)
	cfg.AckWait = or(cfg.AckWait, defaultAckWait)
	cfg.RetryFirst = or(cfg.RetryFirst, defaultRetryFirst)
	cfg.RetryMost = or(cfg.RetryMost, defaultRetryMost)
	cfg.Drain = or(cfg.Drain, defaultDrain)
	cfg.Logger = or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &Subscriber{cfg: cfg, closing: make(chan struct{})}, nil
}

// Subscribe finds or makes the durable consumer of a topic and hands its messages
// over on the channel, until ctx ends or the subscriber is closed. Then the channel
// is closed, after the handlers have finished or Config.Drain has passed. The
// contexts of messages have ctx's values; they end when a message is acknowledged
// or not, and not with ctx, so that what is in hand can be finished.
//
// An error means that the consumer could not be made or is another one. What goes
// wrong later (the connection is lost, the consumer is deleted) is tried again for ever.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	consumer, err := s.consumer(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	sub := &subscription{
		cfg: s.cfg, durable: s.cfg.Durable(topic), values: context.WithoutCancel(ctx),
		find:  func(ctx context.Context) (jetstream.Consumer, error) { return s.consumer(ctx, topic) },
		out:   make(chan *message.Message),
		stop:  make(chan struct{}),
		cut:   make(chan struct{}),
		held:  map[uint64]*item{},
		lanes: map[string]*lane{},
	}
	s.running.Go(func() { sub.run(consumer) })
	s.running.Go(func() {
		select {
		case <-ctx.Done():
		case <-s.closing:
		}
		close(sub.stop)
	})
	return sub.out, nil
}

// Close ends all subscriptions, as Subscribe says, and returns when they have ended.
// It may be called again.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// consumer finds or makes the consumer of a topic.
func (s *Subscriber) consumer(ctx context.Context, topic string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cfg := jetstream.ConsumerConfig{
		Durable:       s.cfg.Durable(topic),
		FilterSubject: topic,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.cfg.AckWait,
		MaxAckPending: s.cfg.InFlight,
		MaxDeliver:    -1,
	}
	if s.cfg.Exclusive {
		cfg.PriorityPolicy = jetstream.PriorityPolicyPinned
		cfg.PriorityGroups = []string{exclusiveGroup}
		cfg.PinnedTTL = pinnedTTL
	}
	return s.cfg.JetStream.CreateOrUpdateConsumer(ctx, s.cfg.Stream, cfg)
}
