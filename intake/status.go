package intake

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyledger/keyledger/eventstore/feed"
)

// tolerableAge is how long a command may wait before health shows it.
const tolerableAge = time.Minute

// Health says what keeps commands from being carried out; nil if nothing does.
func (i *Intake) Health() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.state
}

func (i *Intake) report(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.state = err
}

// look watches the backlog and purges what was carried out, until ctx ends.
func (i *Intake) look(ctx context.Context, s *feed.Subscriber) {
	tick := time.NewTicker(i.cfg.Look)
	defer tick.Stop()
	for {
		i.report(i.lookOnce(ctx, s))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (i *Intake) lookOnce(ctx context.Context, s *feed.Subscriber) error {
	ctx, cancel := context.WithTimeout(ctx, i.cfg.Look)
	defer cancel()
	backlog, err := s.Backlog(ctx, topic)
	if err != nil {
		return fmt.Errorf("how many commands wait is not known: %w", err)
	}
	age := time.Duration(0)
	if !backlog.Oldest.IsZero() {
		age = max(0, i.cfg.Now().Sub(backlog.Oldest))
	}
	pending := backlog.Waiting + uint64(max(0, backlog.InHand))
	i.metrics.pending.Set(float64(pending))
	i.metrics.oldest.Set(age.Seconds())
	if err := s.PurgeDone(ctx, topic); err != nil { // next time
		i.cfg.Logger.WarnContext(ctx, "commands that were carried out were not purged", slog.String("error", err.Error()))
	}
	if age > tolerableAge {
		return fmt.Errorf("%d commands wait, the oldest for %s", pending, age.Round(time.Second))
	}
	return nil
}
