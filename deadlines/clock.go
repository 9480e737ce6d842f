package deadlines

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// ServerClock is the clock of the NATS server, which on a cluster is that of another
// machine; *eventstore.Log is one.
type ServerClock interface {
	ServerTime(context.Context) (time.Time, error)
}

const (
	// DefaultPatience is how long a clock that was set forward has to stay so.
	DefaultPatience = 5 * time.Minute

	// maxAhead is how far a clock may be ahead of what it should be.
	maxAhead = time.Minute
	// compareEvery is how often a clock that was right is compared with the server's.
	compareEvery = time.Minute
)

// errDoubt ends the turn of a node whose clock is not believed, so that one whose
// clock is right can lead.
var errDoubt = errors.New("this node's clock is not believed")

// wallClock is a node's wall clock, and whether it is believed. What is written by a
// clock that is ahead is final, and keys are checked by the clock with or without the
// event, so that waiting costs nothing. Safe for concurrent use.
type wallClock struct {
	now      func() time.Time
	server   ServerClock   // nil: there is nothing to compare with
	patience time.Duration // negative: a step forward is believed
	logger   *slog.Logger

	mu     sync.Mutex
	wall   time.Time     // when it was last believed
	at     time.Time     // the same moment by the monotonic clock
	ahead  time.Duration // of what it should be by the monotonic clock; 0: believed
	since  time.Time     // when it came to be so far ahead, by the monotonic clock
	apart  time.Duration // ahead of the server's; 0: believed
	agreed time.Time     // when it was found to agree with the server's; zero: not yet
}

// begin takes the clock as it is for right by the monotonic clock.
func (c *wallClock) begin() { c.wall, c.at = c.read(), time.Now() }

// read reads the clock as commands do, in the microseconds that events keep. What it
// returns has no monotonic part, so that it is compared as a wall clock.
func (c *wallClock) read() time.Time { return c.now().UTC().Truncate(time.Microsecond) }

// look reads the clock, and says why it is not believed. It has to be called often:
// what the clock did between two looks is judged at the second.
func (c *wallClock) look(ctx context.Context) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.why()
	now, at := c.read(), time.Now()
	switch ahead := now.Sub(c.wall.Add(at.Sub(c.at))); {
	case ahead <= maxAhead || c.patience < 0: // as it should be, or set back
		c.ahead = 0
	case (ahead - c.ahead).Abs() > maxAhead:
		c.ahead, c.since = ahead, at
	case at.Sub(c.since) >= c.patience:
		c.ahead = 0
	}
	if c.ahead == 0 {
		c.wall, c.at = now, at
	} else {
		c.agreed = time.Time{} // to be asked again before it is believed
	}
	c.tell(ctx, before)
	return now, c.why()
}

// check looks, and compares with the server if that was not done lately. Without an
// error the time may be written by; errDoubt says that the clock is not believed,
// another error that the server did not say.
func (c *wallClock) check(ctx context.Context) (time.Time, error) {
	now, doubt := c.look(ctx)
	if c.server == nil || !c.toCompare() {
		return now, doubt
	}
	theirs, err := c.server.ServerTime(ctx)
	if err != nil {
		return now, fmt.Errorf("compare the clock with the NATS server's: %w", err)
	}
	return now, c.compare(ctx, now, theirs)
}

func (c *wallClock) toCompare() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead == 0 && (c.agreed.IsZero() || time.Since(c.agreed) >= compareEvery)
}

// compare takes in what the server's clock said after this one said now: that the
// answer took long does not make this one ahead.
func (c *wallClock) compare(ctx context.Context, now, theirs time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.why()
	c.apart, c.agreed = 0, time.Now()
	if apart := now.Sub(theirs.Round(0)); apart > maxAhead {
		c.apart, c.agreed = apart, time.Time{}
	}
	c.tell(ctx, before)
	return c.why()
}

// doubt returns why the clock is not believed, as far as was looked.
func (c *wallClock) doubt() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why()
}

// why is doubt for those who hold mu.
func (c *wallClock) why() error {
	switch {
	case c.ahead > 0:
		return fmt.Errorf("%w: it was set forward by %v, and nothing is written until it has stayed so for %v or was set back",
			errDoubt, c.ahead.Round(time.Second), c.patience)
	case c.apart > 0:
		return fmt.Errorf("%w: it is %v ahead of the NATS server's, and nothing is written until they agree", errDoubt, c.apart.Round(time.Second))
	default:
		return nil
	}
}

// tell logs that a doubt began or ended.
func (c *wallClock) tell(ctx context.Context, before error) {
	switch now := c.why(); {
	case before == nil && now != nil:
		c.logger.ErrorContext(ctx, "alarm: deadlines are not written by this node's clock", slog.String("error", now.Error()))
	case before != nil && now == nil:
		c.logger.InfoContext(ctx, "this node's clock is believed again")
	}
}

// watch looks at the clock until ctx ends, also on a node that stands by: when it
// leads it must know what its clock did.
func (c *wallClock) watch(ctx context.Context, every time.Duration) {
	for ctx.Err() == nil {
		_, _ = c.look(ctx) // what it finds it keeps
		sleep(ctx, every)
	}
}
