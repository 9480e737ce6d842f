package server

import (
	"context"
	"sync"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// readLimits bounds how many reads of the tables run at once: lists, counts, pages of
// the audit log, checks of the past. A database answers only so many at a time, so
// that without a limit one management key could keep it busy with searches, and all
// others would wait. Reads of a single key are not counted: they cost next to
// nothing, and must go through whatever is searched for.
type readLimits struct {
	perKey   int
	patience time.Duration
	all      chan struct{} // holds one of each read that runs

	mu sync.Mutex
	of map[domain.ActorID]*keyReads // by management key; only those with some
}

// keyReads are the reads of one management key.
type keyReads struct {
	running  chan struct{}
	counting chan struct{} // counts look at many keys: one at a time
	users    int           // that hold or wait for a place; under readLimits.mu
}

func newReadLimits(perKey, total int, patience time.Duration) *readLimits {
	return &readLimits{perKey: perKey, patience: patience, all: make(chan struct{}, total), of: map[domain.ActorID]*keyReads{}}
}

// acquire takes a place for a read of a management key, and the one for counts if
// it is one. It waits a little for them, and then refuses. Places are given back
// with what it returns.
func (l *readLimits) acquire(ctx context.Context, key domain.ActorID, count bool) (release func(), err error) {
	patient, cancel := context.WithTimeoutCause(ctx, l.patience, tooManyReads())
	defer cancel()
	return l.take(patient, key, count)
}

// take is acquire for as long as ctx lives: exports have begun and cannot be refused.
func (l *readLimits) take(ctx context.Context, key domain.ActorID, count bool) (release func(), err error) {
	reads := l.join(key)
	places := []chan struct{}{reads.running, l.all}
	if count {
		places = append([]chan struct{}{reads.counting}, places...)
	}
	taken := 0
	release = func() {
		for _, place := range places[:taken] {
			<-place
		}
		l.leave(key, reads)
	}
	for _, place := range places {
		select {
		case place <- struct{}{}:
			taken++
		case <-ctx.Done():
			release()
			return nil, context.Cause(ctx)
		}
	}
	return release, nil
}

func (l *readLimits) join(key domain.ActorID) *keyReads {
	l.mu.Lock()
	defer l.mu.Unlock()
	reads := l.of[key]
	if reads == nil {
		reads = &keyReads{running: make(chan struct{}, l.perKey), counting: make(chan struct{}, 1)}
		l.of[key] = reads
	}
	reads.users++
	return reads
}

func (l *readLimits) leave(key domain.ActorID, reads *keyReads) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reads.users--; reads.users == 0 {
		delete(l.of, key)
	}
}

func tooManyReads() error {
	return &refusal{
		err: domain.NewError(kindTooMany, "too_many_reads", "too many lists, counts and searches run at once",
			"ask for fewer at the same time, and for a count with the first page only"),
		retryAfter: time.Second,
	}
}
