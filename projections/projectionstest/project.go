package projectionstest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyledger/keyledger/projections"
)

// Project brings the store up to date with the log, through a projector, and
// stops it again. Members of cfg other than Store and Log are used as they are.
func Project(tb testing.TB, store projections.Store, log projections.Log, cfg projections.Config) {
	tb.Helper()
	withProjector(tb, store, log, cfg, func(context.Context, *projections.Projector) error { return nil })
}

// Rebuild is [Project], and then a rebuild of the tables.
func Rebuild(tb testing.TB, store projections.Store, log projections.Log, cfg projections.Config) {
	tb.Helper()
	withProjector(tb, store, log, cfg, func(ctx context.Context, p *projections.Projector) error { return p.Rebuild(ctx) })
}

// Differences is [Project], and then a check of the tables. It returns what the
// check finds.
func Differences(tb testing.TB, store projections.Store, log projections.Log, cfg projections.Config) []projections.Difference {
	tb.Helper()
	var found []projections.Difference
	withProjector(tb, store, log, cfg, func(ctx context.Context, p *projections.Projector) error {
		result, err := p.Check(ctx, func(d projections.Difference) error {
			found = append(found, d)
			return nil
		})
		if err == nil && result.Differences != len(found) {
			tb.Errorf("the check tells of %d differences and counts %d", len(found), result.Differences)
		}
		// Every event has its entry in the audit log, there or found to be missing.
		if err == nil && result.Rows+int64(len(found)) < int64(result.At.Seq) {
			tb.Errorf("the check says that it looked at %d rows of tables made from %d events", result.Rows, result.At.Seq)
		}
		return err
	})
	return found
}

// withProjector runs a projector, waits until it has caught up with the log, does
// something with it, and stops it.
func withProjector(tb testing.TB, store projections.Store, log projections.Log, cfg projections.Config,
	do func(context.Context, *projections.Projector) error,
) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 5*time.Minute)
	defer cancel()
	cfg.Store, cfg.Log = store, log
	p, err := projections.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	head, err := log.Head(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		err := p.Run(running)
		cancel() // nothing comes any more: do not wait for it
		ended <- err
	}()
	err = errors.Join(p.WaitCaughtUp(ctx), p.WaitFor(ctx, head))
	if err == nil {
		err = do(ctx, p)
	}
	stop()
	if runErr := <-ended; err != nil || runErr != nil {
		tb.Fatalf("project events up to %d: %v; the projector ended with: %v", head, err, runErr)
	}
}
