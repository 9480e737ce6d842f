package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/feed"
)

// Issuer carries out the commands that make keys.
type Issuer interface {
	CreateKey(context.Context, command.Request, command.NewKey) (command.Outcome, error)
	RotateKey(context.Context, command.Request, command.Target, command.Rotation) (command.Outcome, error)
}

// Changer carries out the commands that change keys.
type Changer interface {
	UpdateKey(context.Context, command.Request, command.Target, command.KeyChanges) (command.Outcome, error)
	RevokeKey(context.Context, command.Request, command.Target, string) (command.Outcome, error)
}

// Commands carries out commands; *command.Handler does.
type Commands interface {
	Issuer
	Changer
}

// Authorities knows what the bearers of management keys may do.
type Authorities interface {
	// Active returns what a management key may do now; false if it is not good now,
	// or that is not known.
	Active(domain.KeyID) (domain.Authority, bool)
	// Ready says whether it has read the log to its end.
	Ready() bool
	// WaitFor returns nil once the event with this seq has taken effect.
	WaitFor(ctx context.Context, seq uint64) error
}

// Producers knows the keys of producers, and whose tokens are; *verify.Verifier does.
type Producers interface {
	Authorities
	// Owner returns the key that holds a mac.
	Owner(domain.Mac) (domain.KeyID, bool)
}

// Config is what [New] needs.
type Config struct {
	Log       *eventstore.Log // required
	Commands  Commands        // required
	Producers Producers       // required

	// Reply sends what a producer waits for to its inbox; nil means on the log's own
	// connection. What it sends may hold a token, and must not be kept.
	Reply func(inbox string, body []byte) error

	// InFlight bounds the commands that are worked on at once; 0 means 256: enough
	// for the log to store what waits in common batches.
	InFlight int
	// AckWait is how long after a node has died what it had in hand is taken up by
	// another; 0 means 30 s.
	AckWait time.Duration
	// RetryFirst is the first wait of a command that failed for now, and RetryMost the
	// longest, since it doubles; 0 means 100 ms and 10 s.
	RetryFirst, RetryMost time.Duration
	// Drain is how long what is in hand may go on at the end; 0 means 10 s.
	Drain time.Duration
	// Look is how often the backlog is looked at and what was carried out is purged;
	// 0 means 5 s.
	Look time.Duration

	Now        func() time.Time      // nil: time.Now
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: metrics are not registered
}

const (
	// durable is the consumer that all nodes share.
	durable = "intake"
	topic   = eventstore.CommandPrefix + ".>"

	tries      = 3 // of a command, before it waits in its lane
	closeGrace = 5 * time.Second
)

// Intake is the NATS door. It is safe for concurrent use.
type Intake struct {
	cfg     Config
	streams *eventstore.CommandStreams
	metrics metrics
	logger  watermill.LoggerAdapter

	mu    sync.Mutex
	state error // what Health returns; guarded by mu
}

// New makes a door that is closed: it does nothing until Run. streams are what
// eventstore.Log.Commands returned; Run opens them.
func New(cfg Config, streams *eventstore.CommandStreams) (*Intake, error) {
	if cfg.Log == nil || cfg.Commands == nil || cfg.Producers == nil || streams == nil {
		return nil, errors.New("intake: Log, Commands, Producers and the streams are required")
	}
	for _, d := range [...]struct {
		value *time.Duration
		def   time.Duration
	}{
		{&cfg.RetryFirst, 100 * time.Millisecond}, {&cfg.RetryMost, 10 * time.Second},
		{&cfg.Drain, 10 * time.Second}, {&cfg.Look, 5 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if cfg.Reply == nil {
		cfg.Reply = streams.Reply
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Intake{
		cfg: cfg, streams: streams, metrics: newMetrics(cfg.Registerer), state: errors.New("not started"),
		logger: watermill.NewSlogLoggerWithLevelMapping(cfg.Logger, map[slog.Level]slog.Level{
			slog.LevelInfo: slog.LevelDebug, slog.LevelError: slog.LevelWarn,
		}),
	}, nil
}

// Run carries out commands until ctx ends, and then finishes what is in hand. While
// NATS is out of reach, or a stream is not as it must be, it waits, and Health says
// so. It returns nil.
func (i *Intake) Run(ctx context.Context) error {
	pause := i.cfg.RetryFirst
	for {
		worked, err := i.session(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		if worked {
			pause = i.cfg.RetryFirst
		}
		i.report(fmt.Errorf("commands over NATS stand still: %w", err))
		i.cfg.Logger.ErrorContext(ctx, "alarm: commands over nats stand still", slog.Any("error", err))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, i.cfg.RetryMost)
	}
}

// session runs one router until ctx ends or it stops, and says whether it ran at all.
func (i *Intake) session(ctx context.Context) (worked bool, err error) {
	if err := i.streams.Open(ctx); err != nil {
		return false, err
	}
	subscriber, err := i.subscriber()
	if err != nil {
		return false, err
	}
	router, err := i.router(subscriber)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var looking sync.WaitGroup
	looking.Go(func() {
		select {
		case <-router.Running():
			worked = true
			i.look(ctx, subscriber)
		case <-ctx.Done():
		}
	})
	err = router.Run(ctx)
	cancel()
	looking.Wait()
	return worked, errors.Join(err, subscriber.Close())
}

func (i *Intake) subscriber() (*feed.Subscriber, error) {
	return feed.NewSubscriber(feed.SubscriberConfig{
		JetStream: i.cfg.Log.JetStream(), Stream: string(eventstore.SideCommands),
		Durable: func(string) string { return durable },
		Lane:    lane, Exclusive: true, InFlight: i.cfg.InFlight, AckWait: i.cfg.AckWait,
		RetryFirst: i.cfg.RetryFirst, RetryMost: i.cfg.RetryMost, Drain: i.cfg.Drain, Logger: i.cfg.Logger,
	})
}

func (i *Intake) router(subscriber message.Subscriber) (*message.Router, error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: i.cfg.Drain + closeGrace}, i.logger)
	if err != nil {
		return nil, err
	}
	publisher, err := feed.NewPublisher(feed.PublisherConfig{JetStream: i.cfg.Log.JetStream()})
	if err != nil {
		return nil, err
	}
	poison, err := middleware.PoisonQueueWithFilter(deadLetters{to: publisher}, eventstore.DeadPrefix, func(err error) bool {
		_, isDead := errors.AsType[deadError](err)
		return isDead
	})
	if err != nil {
		return nil, err
	}
	retry := middleware.Retry{
		MaxRetries: tries - 1, InitialInterval: i.cfg.RetryFirst, MaxInterval: i.cfg.RetryMost, Multiplier: 2,
		ShouldRetry: func(p middleware.RetryParams) bool { return passing(p.Err) },
	}
	// The first is the outermost.
	router.AddMiddleware(i.observe, middleware.CorrelationID, poison, i.settle, retry.Middleware, middleware.Recoverer)
	router.AddConsumerHandler("commands", topic, subscriber, i.handle)
	return router, nil
}

// lane keeps the commands about one key in their order. A command that makes a key
// is about no key that anybody can name yet.
func lane(m *message.Message) string {
	var peek struct {
		Data struct {
			KeyID string `json:"key_id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(m.Payload, &peek); err == nil && peek.Data.KeyID != "" {
		return peek.Data.KeyID
	}
	return fmt.Sprint("\n", feed.DeliveryOf(m).Sequence) // no key has this id
}
