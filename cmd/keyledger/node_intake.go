package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/keyledger/keyledger/intake"
)

// makeIntake makes the NATS door. Replies go to the account that producers are in,
// where this node looks after them. The door opens its streams itself: what is wrong
// with them is no reason to keep the other door shut.
func (n *node) makeIntake(context.Context) (err error) {
	streams := n.log.Commands()
	if n.records, err = intake.NewRecords(n.log, streams); err != nil {
		return err
	}
	cfg := intake.Config{
		Log: n.log, Commands: n.handler, Producers: n.verifier, Now: n.now, Logger: n.logger, Registerer: n.metrics,
	}
	if n.clients != nil {
		cfg.Reply = n.clients.Publish
	}
	n.intake, err = intake.New(cfg, streams)
	return err
}

// intakeReady says whether commands over NATS are carried out, if they are to be.
func (n *node) intakeReady(context.Context) error {
	if n.secrets == nil {
		return nil
	}
	return n.intake.Health()
}

// startIntake carries out commands that come over NATS, from when the node knows the
// whole history, and returns what ends that: what is in hand is finished while what
// it rests on is still fed. A door that stands still is an alarm, and no reason to
// close the other.
//
// Where others than this node say who may publish what, the subject of a command is
// no proof of who sent it: nothing is carried out there.
func (n *node) startIntake(ctx context.Context) (end func()) {
	if n.secrets == nil {
		n.logger.InfoContext(ctx, "this node carries out no commands over nats: it does not say who may publish there (--nats-secrets)")
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() {
		if n.awaitVerifier(ctx) != nil {
			return // the node ends before it was ready
		}
		if err := n.intake.Run(ctx); err != nil {
			n.logger.ErrorContext(ctx, "alarm: this node carries out no commands over nats any more", slog.Any("error", err))
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}
