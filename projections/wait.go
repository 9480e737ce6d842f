package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyledger/keyledger/domain"
)

// WaitFor returns when readers of this process's store see the effect of the event
// at seq. The error is of domain.KindUnavailable: [CodeBehind] if the context ends
// before, [CodeStopped] if the projector has stopped, and what is wrong at present
// (with its own code, such as [CodeUnavailable]) at once while the store or the log
// cannot be reached.
func (p *Projector) WaitFor(ctx context.Context, seq uint64) error {
	late := fmt.Sprintf("the tables have not reached seq %d", seq)
	return p.wait(ctx, late, func() (bool, error) {
		if p.readable < seq && p.away {
			return false, fmt.Errorf("%s: %w", late, p.status.Err)
		}
		return p.readable >= seq, nil
	})
}

// WaitCaughtUp returns when the tables have been level with the log once, and
// readers can use them. Errors are those of [Projector.WaitFor], but it goes on
// waiting while something cannot be reached.
func (p *Projector) WaitCaughtUp(ctx context.Context) error {
	return p.wait(ctx, "the tables have not caught up with the log", func() (bool, error) { return p.status.CaughtUp, nil })
}

// wait returns when done, which is called with mu held, says so.
func (p *Projector) wait(ctx context.Context, late string, done func() (bool, error)) error {
	p.waits(1)
	defer p.waits(-1)
	for {
		p.mu.Lock()
		ok, err := done()
		status, changed := p.status, p.changed
		p.mu.Unlock()
		switch {
		case ok:
			return nil
		case status.Stopped:
			return &domain.Error{
				Kind: domain.KindUnavailable, Code: CodeStopped, Cause: status.Err,
				Message: "the tables no longer follow the log", Fix: "ask the operator to look at the node's log",
			}
		case err != nil:
			return err
		}
		p.nudge()
		select {
		case <-changed:
		case <-ctx.Done():
			return &domain.Error{
				Kind: domain.KindUnavailable, Code: CodeBehind, Cause: errors.Join(ctx.Err(), status.Err),
				Message: late, Fix: "ask again shortly",
			}
		}
	}
}

// waits counts who waits for the tables.
func (p *Projector) waits(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiters += n
}

// awaited reports whether somebody waits for the tables.
func (p *Projector) awaited() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiters > 0
}

// nudge ends a linger, or makes a follower look.
func (p *Projector) nudge() {
	select {
	case p.hurry <- struct{}{}:
	default:
	}
}
