package feed

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
)

// subscription is one call of Subscribe. What the consumer delivers goes into lanes,
// each of which hands over one message at a time. The consumer delivers no more than
// Config.InFlight, so that nothing here needs a bound of its own.
type subscription struct {
	cfg     SubscriberConfig
	durable string
	values  context.Context //nolint:containedctx // what the contexts of messages are made from
	find    func(context.Context) (jetstream.Consumer, error)
	out     chan *message.Message
	stop    chan struct{} // closed when nothing more is to be fetched
	cut     chan struct{} // closed when handlers have had their time to finish

	mu       sync.Mutex
	stopping bool
	handed   bool             // something was delivered here: of an exclusive consumer, this is the one
	held     map[uint64]*item // by sequence: all that is in hand
	lanes    map[string]*lane // that hold messages
	working  sync.WaitGroup   // counts lanes
}

// lane holds messages that wait for one before them; guarded by subscription.mu.
type lane struct{ waiting []*item }

// run consumes until stop, finishes, and closes the channel.
func (s *subscription) run(consumer jetstream.Consumer) {
	keeping, keep := context.WithCancel(s.values)
	var keeper sync.WaitGroup
	keeper.Go(func() { s.keep(keeping) })

	s.consumeUntilStop(consumer)

	// What was delivered is finished, not given back: another subscriber would get it
	// after what follows it.
	timer := time.AfterFunc(s.cfg.Drain, func() {
		s.mu.Lock()
		s.stopping = true
		s.mu.Unlock()
		close(s.cut)
	})
	s.working.Wait()
	if timer.Stop() {
		close(s.cut)
	}
	keep()
	keeper.Wait()
	s.leave()
	close(s.out)
}

// leave sends what was acknowledged on its way, before somebody closes the
// connection, and lets another subscriber take over.
func (s *subscription) leave() {
	ctx, cancel := context.WithTimeout(s.values, time.Second)
	defer cancel()
	err := s.cfg.JetStream.Conn().FlushWithContext(ctx)
	if err == nil && s.cfg.Exclusive && s.handed {
		err = s.unpin(ctx)
	}
	if err != nil {
		s.cfg.Logger.DebugContext(ctx, "what was in hand may come again, and others may wait a little", slog.String("error", err.Error()))
	}
}

func (s *subscription) unpin(ctx context.Context) error {
	stream, err := s.cfg.JetStream.Stream(ctx, s.cfg.Stream)
	if err != nil {
		return err
	}
	return stream.UnpinConsumer(ctx, s.durable, exclusiveGroup)
}

// consumeUntilStop holds one session with the consumer after the other.
func (s *subscription) consumeUntilStop(consumer jetstream.Consumer) {
	for {
		err := s.consume(consumer)
		for pause := s.cfg.RetryFirst; err != nil; pause = min(2*pause, requestTimeout) {
			s.cfg.Logger.WarnContext(s.values, "reading a stream was interrupted", slog.String("stream", s.cfg.Stream), slog.String("error", err.Error()))
			if !s.wait(pause) {
				return
			}
			consumer, err = s.find(s.values)
		}
		select {
		case <-s.stop:
			return
		default:
		}
	}
}

var errEnded = errors.New("the consumer has ended")

// consume hands on what the consumer delivers, until stop (nil) or the consumer ends.
func (s *subscription) consume(consumer jetstream.Consumer) error {
	failed := make(chan error, 1)
	opts := []jetstream.PullConsumeOpt{
		jetstream.PullMaxMessages(s.cfg.InFlight), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			select {
			case failed <- err:
			default:
			}
		}),
	}
	if s.cfg.Exclusive {
		opts = append(opts, jetstream.PullPriorityGroup(exclusiveGroup))
	}
	consuming, err := consumer.Consume(s.receive, opts...)
	if err != nil {
		return err
	}
	ended := consuming.Closed()
	for {
		select {
		case err := <-failed: // most of them the library mends by itself
			s.cfg.Logger.DebugContext(s.values, "consumer", slog.String("stream", s.cfg.Stream), slog.String("error", err.Error()))
		case <-ended:
			return errEnded
		case <-s.stop:
			consuming.Drain()
			select {
			case <-ended:
			case <-time.After(time.Second): // without a connection nothing is on its way either
				consuming.Stop()
			}
			return nil
		}
	}
}

// receive puts a message into its lane. It never waits, so that the library's
// buffer, whose messages nobody keeps alive, is always empty.
func (s *subscription) receive(msg jetstream.Msg) {
	it, err := newItem(msg)
	if err != nil {
		s.cfg.Logger.ErrorContext(s.values, "a message is not from a stream", slog.String("error", err.Error()))
		return
	}
	name := s.cfg.Lane(it.message(msg, 0))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		s.settle("give back", msg.Nak())
		return
	}
	if again := s.held[it.sequence]; again != nil { // its acknowledgement goes to the new delivery
		again.msg = msg
		return
	}
	s.held[it.sequence], s.handed = it, true
	l := s.lanes[name]
	if l == nil {
		l = &lane{}
		s.lanes[name] = l
		s.working.Go(func() { s.work(name, l) })
	}
	l.waiting = append(l.waiting, it)
}

// work hands over the messages of a lane until none is left, or one was not done.
func (s *subscription) work(name string, l *lane) {
	done := true
	for {
		it, ok := s.next(name, l, done)
		if !ok {
			return
		}
		done = s.handOver(it)
		s.mu.Lock()
		delete(s.held, it.sequence)
		s.mu.Unlock()
	}
}

// next takes the next message of a lane, if the one before it is done. A lane that is
// empty, or must stop, ends: what it still has is given back.
func (s *subscription) next(name string, l *lane, done bool) (it *item, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(l.waiting) > 0 && done && !s.stopping {
		it, l.waiting = l.waiting[0], l.waiting[1:]
		return it, true
	}
	delete(s.lanes, name)
	for _, it := range l.waiting {
		delete(s.held, it.sequence)
		s.settle("give back", it.msg.Nak())
	}
	return nil, false
}

// handOver hands a message over until it is acknowledged, or there is no more time:
// after stop, what fails is given back. It reports whether it was acknowledged.
func (s *subscription) handOver(it *item) bool {
	for attempt, pause := 0, s.cfg.RetryFirst; ; attempt, pause = attempt+1, min(2*pause, s.cfg.RetryMost) {
		m := it.message(s.newest(it), attempt)
		ctx, cancel := context.WithCancel(s.values)
		m.SetContext(ctx)
		select {
		case s.out <- m:
		case <-s.cut:
			cancel()
			s.settle("give back", s.newest(it).Nak())
			return false
		}
		select {
		case <-m.Acked():
			cancel()
			s.acknowledge(it, m.Metadata.Get(metaTerm))
			return true
		case <-m.Nacked():
			cancel()
		case <-s.cut: // its handler may yet do it: it comes again after AckWait, not now
			cancel()
			return false
		}
		if !s.wait(pause) {
			s.settle("give back", s.newest(it).NakWithDelay(pause))
			return false
		}
	}
}

func (s *subscription) acknowledge(it *item, term string) {
	if term != "" {
		s.settle("terminate", s.newest(it).TermWithReason(term))
		return
	}
	s.settle("acknowledge", s.newest(it).Ack())
}

func (s *subscription) newest(it *item) jetstream.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	return it.msg
}

// settle notes what could not be told the server: the message comes again.
func (s *subscription) settle(what string, err error) {
	if err != nil {
		s.cfg.Logger.WarnContext(s.values, "a message comes again", slog.String("could_not", what), slog.String("error", err.Error()))
	}
}

// keep tells the server now and then that everything in hand is being worked on.
func (s *subscription) keep(ctx context.Context) {
	tick := time.NewTicker(s.cfg.AckWait / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		for _, it := range s.held {
			_ = it.msg.InProgress() // without a connection there is nobody to tell
		}
		s.mu.Unlock()
	}
}

// wait waits for d and reports whether the subscription is to go on.
func (s *subscription) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stop:
		return false
	}
}
