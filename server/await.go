package server

import (
	"context"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// await waits until everything that answers are read from has applied the event
// with this seq, for Config.AwaitTimeout at most. It reports whether it has.
func (s *Server) await(ctx context.Context, seq uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AwaitTimeout)
	defer cancel()
	for _, a := range s.cfg.Appliers {
		if a.WaitFor(ctx, seq) != nil {
			return false
		}
	}
	return true
}

// awaitAsked waits for the seq that a read asks for. Unlike a command, which is
// done whatever the readers know, a read that cannot wait is refused.
func (s *Server) awaitAsked(ctx context.Context, p seqParam) error {
	seq, err := p.read("min_seq")
	if err != nil || seq == 0 {
		return err
	}
	if s.await(ctx, seq) {
		return nil
	}
	return &refusal{
		err: domain.NewError(domain.KindUnavailable, "not_caught_up", "the event with min_seq has not taken effect here",
			"try again in a moment, or read without min_seq; a number beyond the end of the log never takes effect"),
		retryAfter: time.Second,
	}
}
