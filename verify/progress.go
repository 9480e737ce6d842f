package verify

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/keyledger/keyledger/domain"
)

// progress says how far the table has come. Checks read the atomics; waiting goes
// through the mutex.
type progress struct {
	asOf atomic.Uint64
	// caughtUp is set while the feed runs and has reached the end of the log once.
	caughtUp atomic.Bool

	mu      sync.Mutex
	changed chan struct{} // closed at the next change; nil while nobody waits
	ended   error         // why the feed has ended; nil while it runs or before it began
}

// fresh reports whether the table may say that a key is valid. It is the one place
// that decides it, asked once for each check: at present by whether the feed is
// alive and has reached the end of the log.
func (v *Verifier) fresh() bool { return v.progress.caughtUp.Load() }

// AsOf returns the last seq that the table has applied.
func (v *Verifier) AsOf() uint64 { return v.progress.asOf.Load() }

// Ready reports whether the verifier answers: it has read the log to its end once,
// and its feed is alive.
func (v *Verifier) Ready() bool { return v.fresh() }

// WaitFor returns when the table has applied seq. It returns the context's error
// if that ends first, and a domain.KindUnavailable if the feed has ended.
func (v *Verifier) WaitFor(ctx context.Context, seq uint64) error {
	for {
		changed, err := v.progress.await(seq)
		if changed == nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the verifier to apply seq %d: %w", seq, ctx.Err())
		}
	}
}

// await returns a channel that is closed at the next change, or nil if there is
// nothing to wait for.
func (p *progress) await(seq uint64) (<-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.asOf.Load() >= seq:
		return nil, nil //nolint:nilnil // nothing to wait for
	case p.ended != nil:
		return nil, &domain.Error{
			Kind: domain.KindUnavailable, Code: "verifier_stopped", Message: "the verifier no longer follows the log",
			Fix: "look at the node's log for the reason, and start it again", Cause: p.ended,
		}
	}
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed, nil
}

// set makes a change and wakes all who wait.
func (p *progress) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}
