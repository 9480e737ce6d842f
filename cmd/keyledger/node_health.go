package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// welcome waits until the node knows the whole history, makes sure that the
// operator exists, says where the node is, and calls ready. The operator comes
// after the history: a keyring that is not the log's must not add a key to it.
func (n *node) welcome(ctx context.Context, ready func()) error {
	if err := n.awaitVerifier(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	if err := n.ensureOperator(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	head, err := n.log.Head(ctx)
	if err != nil {
		return ignoreEnd(ctx, err)
	}
	if err := n.verifier.WaitFor(ctx, head); err != nil {
		return ignoreEnd(ctx, err)
	}
	if err := n.awaitTables(ctx, head); err != nil {
		return ignoreEnd(ctx, err)
	}
	if err := n.listenNATS(ctx); err != nil {
		return err
	}
	remove, err := writeServerFile(n.DataDir, n.address)
	if err != nil {
		return failf("see that the disk is not full and the data dir is this user's", "%w", err)
	}
	n.onClose(func(context.Context) error { return remove() })
	ready()
	<-ctx.Done()
	return nil
}

const readyPoll = 2 * time.Millisecond

// awaitVerifier waits until the verifier has read the log to its end and found
// every pepper that it needs.
func (n *node) awaitVerifier(ctx context.Context) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for !n.verifier.Ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// ignoreEnd drops what failed because the node is being stopped, or because a
// feed has stopped, which reports itself.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

func (n *node) verifierReady(context.Context) error {
	if !n.verifier.Ready() {
		return fmt.Errorf("the history is being read; at seq %d", n.verifier.AsOf())
	}
	return nil
}

// explainNode finds the words for what keeps a node from starting or going on. Of
// several causes it tells the first: the others mostly follow from it.
func explainNode(err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if e != nil {
				return explainNode(e)
			}
		}
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	if e, ok := errors.AsType[*domain.Error](err); ok {
		return &failure{what: err.Error(), do: e.Fix, err: err}
	}
	return err
}
