package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
)

// leaseBucket holds who has which lease. It is in memory: a lease is worth nothing
// after its servers are gone, and renewing it must cost no write to a disk.
const leaseBucket = "KEYLEDGER_LEASES"

// errLeaseLost ends the context of the work that a lease was held for.
var errLeaseLost = errors.New("the lease was lost")

// LeaseConfig says which lease is asked for, and by whom.
type LeaseConfig struct {
	// Name of the lease, of the form of an id; required.
	Name string
	// Holder is who asks, for people who look into the bucket; "" means nobody says.
	Holder string
	// TTL is how long the lease outlives a holder that was killed; 0 means 5 s. The
	// first holder that ever asks decides it for as long as the bucket exists.
	TTL time.Duration
	// Logger; nil means the log's.
	Logger *slog.Logger
}

// Hold waits for a lease that one process has at a time, runs work while it has
// it, and gives it back when work returns, so that another takes over at once
// (within a tenth of the TTL). The context of work ends when the lease was lost or
// may have been, which is at the latest when the holder has not been able to renew
// it for TTL by its own monotonic clock: no two clocks are compared. work should
// return then; Hold asks for the lease again.
//
// It returns what work returned while it held the lease, or the error of ctx. That
// NATS does not answer is waited out.
//
// A lease saves work and prevents nothing: what was sent while it was held may be
// stored after another has it. Whoever appends relies on expectations.
func (l *Log) Hold(ctx context.Context, cfg LeaseConfig, work func(context.Context) error) error {
	if !domain.ValidID(cfg.Name) {
		return fmt.Errorf("hold a lease: %w", domain.Invalid("invalid_id", "/name", "not the form of an id", "use letters, digits, '-' and '_'"))
	}
	h := &lease{
		log: l, name: cfg.Name, ttl: or(cfg.TTL, 5*time.Second),
		// Two processes may have been given one name.
		holder: cfg.Holder + " " + uuid.NewString(),
		logger: or(cfg.Logger, l.logger).With(slog.String("lease", cfg.Name)),
	}
	for {
		if err := h.acquire(ctx); err != nil {
			return fmt.Errorf("wait for the lease %s: %w", cfg.Name, err)
		}
		h.logger.InfoContext(ctx, "the lease was taken")
		if lost, err := h.while(ctx, work); !lost {
			return err
		}
		h.logger.WarnContext(ctx, "the lease was lost; asking for it again")
	}
}

// lease is one process's claim. Its fields are used by one goroutine at a time.
type lease struct {
	log          *Log
	name, holder string
	ttl          time.Duration
	logger       *slog.Logger

	bucket   jetstream.KeyValue // nil: to be opened
	revision uint64             // of the entry that makes this process the holder
	until    time.Time          // the server keeps the entry at least so long
}

// acquire asks for the lease until this process has it or ctx ends.
func (h *lease) acquire(ctx context.Context) error {
	told := ""
	for {
		taken, err := h.try(ctx)
		switch {
		case taken:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && err.Error() != told:
			told = err.Error()
			h.logger.WarnContext(ctx, "the lease cannot be asked for; trying on", slog.String("error", told))
		}
		if !sleep(ctx, h.pause()) {
			return ctx.Err()
		}
	}
}

// pause is how often a lease that another has is asked for.
func (h *lease) pause() time.Duration { return h.ttl / 10 }

func (h *lease) try(ctx context.Context) (taken bool, err error) {
	if h.bucket == nil {
		if err := h.open(ctx); err != nil {
			return false, err
		}
	}
	bounded, cancel := context.WithTimeout(ctx, min(h.log.ackTimeout, h.ttl))
	defer cancel()
	sent := time.Now()
	revision, err := h.bucket.Create(bounded, h.name, []byte(h.holder))
	if err == nil {
		h.revision, h.until = revision, sent.Add(h.ttl)
		return true, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		h.bucket = nil // it may be gone, with the servers that held it in memory
		return false, err
	}
	own, err := h.own(bounded)
	if err != nil || !own {
		return false, err
	}
	return h.renew(ctx) // of an earlier try whose answer was lost
}

// own reports whether the entry is this process's, and takes over its revision.
func (h *lease) own(ctx context.Context) (bool, error) {
	entry, err := h.bucket.Get(ctx, h.name)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return false, nil
	case err != nil:
		return false, err
	case string(entry.Value()) != h.holder:
		return false, nil
	}
	h.revision = entry.Revision()
	return true, nil
}

// renew prolongs the lease. False without an error says that another has it, or nobody.
func (h *lease) renew(ctx context.Context) (held bool, err error) {
	for range 2 {
		sent := time.Now()
		revision, err := h.bucket.Update(ctx, h.name, []byte(h.holder), h.revision)
		if err == nil {
			h.revision, h.until = revision, sent.Add(h.ttl)
			return true, nil
		}
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) && !errors.Is(err, jetstream.ErrKeyExists) {
			return false, err
		}
		// The answer to the last renewal may have been lost.
		if own, err := h.own(ctx); err != nil || !own {
			return false, err
		}
	}
	return false, nil
}

// while runs work and renews the lease beside it. It reports whether the lease was
// lost before work returned.
func (h *lease) while(ctx context.Context, work func(context.Context) error) (lost bool, err error) {
	held, end := context.WithCancelCause(ctx)
	defer end(nil)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		if err := h.keep(held); err != nil {
			end(errLeaseLost)
			h.logger.WarnContext(ctx, "the lease is not held any more", slog.String("error", err.Error()))
		}
	})
	err = work(held)
	lost = errors.Is(context.Cause(held), errLeaseLost) && ctx.Err() == nil
	end(nil)
	renewing.Wait()
	if !lost {
		h.release(ctx)
	}
	return lost, err
}

// keep renews the lease three times in each TTL until ctx ends. It returns an error
// when the lease is lost, or may be.
func (h *lease) keep(ctx context.Context) error {
	for wait := h.ttl / 3; ; {
		if !sleep(ctx, min(wait, time.Until(h.until))) {
			return nil
		}
		bounded, cancel := context.WithDeadline(ctx, h.until)
		held, err := h.renewOnce(bounded)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the work is done; it failed because of that
		case err == nil && held:
			wait = h.ttl / 3
		case err == nil:
			return errLeaseLost
		case !time.Now().Before(h.until):
			return err
		default:
			wait = h.pause()
		}
	}
}

// renewOnce leaves time for another try after one that was not answered.
func (h *lease) renewOnce(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, min(h.log.ackTimeout, h.ttl/3))
	defer cancel()
	return h.renew(ctx)
}

// release gives the lease back. What cannot be given back ends by itself.
func (h *lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(h.log.ackTimeout, h.ttl))
	defer cancel()
	err := h.bucket.Delete(ctx, h.name, jetstream.LastRevision(h.revision))
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) { // a renewal whose answer did not come
		var own bool
		if own, err = h.own(ctx); own {
			err = h.bucket.Delete(ctx, h.name, jetstream.LastRevision(h.revision))
		}
	}
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		h.logger.InfoContext(ctx, "the lease was not given back; it ends by itself", slog.String("error", err.Error()))
	}
}

// open finds or creates the bucket, and takes its TTL for this lease's.
func (h *lease) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.log.ackTimeout)
	defer cancel()
	bucket, err := h.log.js.KeyValue(ctx, leaseBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		bucket, err = h.log.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: leaseBucket, Description: "keyledger: which node does what only one should do",
			Storage: jetstream.MemoryStorage, Replicas: h.log.replicas, TTL: h.ttl,
		})
	}
	if err != nil { // or another was faster: found at the next try
		return err
	}
	status, err := bucket.Status(ctx)
	if err != nil {
		return err
	}
	if status.TTL() <= 0 {
		return &DriftError{Stream: "KV_" + leaseBucket, Fields: []DriftField{{Name: "max_age", Want: h.ttl.String(), Got: "none"}}}
	}
	h.bucket, h.ttl = bucket, status.TTL()
	return nil
}
