package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// A command is answered as soon as the log has it, and what is made from the log
// follows a moment later. So that callers of this server read their own writes,
// reads wait: every one until what it reads from has applied the last command that
// was acknowledged here, which it nearly always has. Waiting here costs a command
// nothing, and a revocation that was acknowledged is refused by the very next check.

// follower is something made from the log that answers are read from.
type follower struct {
	applier Applier
	// reached is a seq that it is known to have applied, so that the usual case
	// is a comparison.
	reached atomic.Uint64
}

// acknowledge notes that a caller is told of the event with this seq, and whether
// it may be about a management key.
func (s *Server) acknowledge(seq uint64, management bool) {
	raise(&s.acknowledged, seq)
	if management {
		raise(&s.acknowledgedManagement, seq)
	}
}

// await waits until the follower shows everything that was acknowledged here, and
// the event with this seq.
func (s *Server) await(ctx context.Context, f *follower, seq uint64) error {
	return s.awaitSeq(ctx, f, max(seq, s.acknowledged.Load()))
}

// awaitCredentials waits until the verifier shows what was acknowledged here about
// management keys. It does not wait for what was said of other keys: a caller that
// sends one command after the other would wait for its last each time.
func (s *Server) awaitCredentials(ctx context.Context) error {
	return s.awaitSeq(ctx, &s.verifier, s.acknowledgedManagement.Load())
}

// awaitSeq waits until the follower has applied seq, for Config.AwaitTimeout at most.
func (s *Server) awaitSeq(ctx context.Context, f *follower, seq uint64) error {
	if f.applier == nil || seq <= f.reached.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AwaitTimeout)
	defer cancel()
	if err := f.applier.WaitFor(ctx, seq); err != nil {
		if domain.KindOf(err) == domain.KindUnavailable && domain.CodeOf(err) != projections.CodeBehind {
			return fromTables(err) // it said at once what is wrong
		}
		return notCaughtUp(err)
	}
	raise(&f.reached, seq)
	return nil
}

// awaitAsked is await for the seq that a parameter asks for.
func (s *Server) awaitAsked(ctx context.Context, f *follower, p seqParam) error {
	seq, err := p.read("min_seq")
	if err != nil {
		return err
	}
	return s.await(ctx, f, seq)
}

// awaitHead waits until the follower shows the whole log, and so what was
// acknowledged anywhere. It returns the last seq.
func (s *Server) awaitHead(ctx context.Context, f *follower) (uint64, error) {
	head, err := s.cfg.History.Head(ctx)
	if err != nil {
		return 0, err
	}
	return head, s.await(ctx, f, head)
}

func notCaughtUp(cause error) error {
	return &refusal{
		err: &domain.Error{
			Kind: domain.KindUnavailable, Code: "not_caught_up", Cause: cause,
			Message: "what was asked for has not taken effect here yet",
			Fix:     "try again in a moment; a min_seq beyond the end of the log never takes effect",
		},
		retryAfter: time.Second,
	}
}

// raise sets a to seq if that is higher.
func raise(a *atomic.Uint64, seq uint64) {
	for {
		before := a.Load()
		if seq <= before || a.CompareAndSwap(before, seq) {
			return
		}
	}
}
