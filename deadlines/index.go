package deadlines

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// index is what the log says about deadlines: of every key that lives and has one,
// when it is due. Safe for concurrent use; nobody holds it for longer than a batch
// takes to fold.
//
// Key ids and macs are unique over all accounts, the lowest seq owns one, and an
// aggregate whose first event claims neither is void for good: the same rule as in
// packages verify and projections. That takes some 55 bytes for every key that ever
// was; a key with a deadline takes some 130 more.
type index struct {
	leads []time.Duration // of notices, ascending

	mu      sync.Mutex
	queue   queue
	records []record
	free    []uint32 // slots of records that are not used
	keys    map[digest]claim
	macs    map[digest]struct{}
	void    map[eventstore.Aggregate]struct{}

	accounts   []domain.AccountID
	accountIDs map[domain.AccountID]uint32

	asOf     uint64
	caughtUp bool          // the log was read to its end once
	wrote    time.Time     // when an event of the clock was last read
	changed  chan struct{} // closed when asOf moves; nil while nobody waits
	sooner   chan struct{} // holds a token when something is due earlier than was known
}

// digest stands for a key id or a mac: half of a hash, of which two that meet are
// not found by trying.
type digest [16]byte

// claim says who owns a key id, and where the key's record is.
type claim struct{ account, slot uint32 }

// The slots of keys that have no record.
const (
	slotIdle uint32 = 1<<32 - 1 - iota // lives, and has no deadline
	slotDead
)

func newIndex(leads []time.Duration) *index {
	x := &index{
		leads: leads, keys: map[digest]claim{}, macs: map[digest]struct{}{}, void: map[eventstore.Aggregate]struct{}{},
		accountIDs: map[domain.AccountID]uint32{}, sooner: make(chan struct{}, 1),
	}
	x.queue.records = &x.records
	return x
}

// apply takes events in, in the order of their seqs. Those it has are left out.
func (x *index) apply(events []eventstore.Event, caughtUp bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	first := x.queue.first()
	for i := range events {
		if e := &events[i]; e.Seq > x.asOf {
			x.fold(e)
			x.asOf = e.Seq
		}
	}
	x.caughtUp = x.caughtUp || caughtUp
	if x.changed != nil {
		close(x.changed)
		x.changed = nil
	}
	if x.queue.first() < first {
		select {
		case x.sooner <- struct{}{}:
		default:
		}
	}
}

// await returns when the index has applied seq.
func (x *index) await(ctx context.Context, seq uint64) error {
	for {
		x.mu.Lock()
		if x.asOf >= seq {
			x.mu.Unlock()
			return nil
		}
		if x.changed == nil {
			x.changed = make(chan struct{})
		}
		changed := x.changed
		x.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// job is a key that is due, as the index knows it.
type job struct {
	key domain.Key
	seq uint64 // of its last event
	due int64  // µs since 1970
}

// take returns at most so many keys that are due at now, the one that has been for
// longest first, and when the first of all is due. They stay due until the log says
// otherwise.
func (x *index) take(now time.Time, most int) (jobs []job, first int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.queue.until(now.UnixMicro(), func(slot uint32) bool {
		r := &x.records[slot]
		jobs = append(jobs, job{key: r.key(x.accounts[r.account]), seq: r.seq, due: x.queue.entries[r.pos].due})
		return len(jobs) < most
	})
	return jobs, x.queue.first()
}

// setAside keeps a key out of what take returns until it is readmitted.
func (x *index) setAside(id domain.KeyID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if slot, ok := x.slot(id); ok {
		x.records[slot].aside = true
		x.queue.remove(slot)
	}
}

// readmit undoes setAside. It reports whether something is due for the key at now.
func (x *index) readmit(id domain.KeyID, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	slot, ok := x.slot(id)
	if !ok {
		return false
	}
	r := &x.records[slot]
	r.aside = false
	due := r.due(x.leads)
	x.queue.set(slot, due)
	return due <= now.UnixMicro()
}

func (x *index) slot(id domain.KeyID) (uint32, bool) {
	c, ok := x.keys[digestOf(id)]
	return c.slot, ok && c.slot < slotDead
}

// overdue is what should have been written by now.
type overdue struct {
	keys  int
	since time.Time // when the first of them came due; zero if there is none
	wrote time.Time // when an event of the clock was last read from the log
}

// overdue counts what is due at now, apart from what was set aside. There is
// nothing to count before the log was read to its end.
func (x *index) overdue(now time.Time) overdue {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := overdue{wrote: x.wrote}
	if first := x.queue.first(); x.caughtUp && first <= now.UnixMicro() {
		o.keys, o.since = x.queue.overdue(now.UnixMicro()), time.UnixMicro(first).UTC()
	}
	return o
}

// digestOf hashes a key id.
func digestOf(id domain.KeyID) digest {
	sum := sha256.Sum256([]byte(id))
	return digest(sum[:len(digest{})])
}

// account returns the number of an account.
func (x *index) account(id domain.AccountID) uint32 {
	if n, ok := x.accountIDs[id]; ok {
		return n
	}
	n := uint32(len(x.accounts)) //nolint:gosec // memory ends before
	own := domain.AccountID(strings.Clone(string(id)))
	x.accounts = append(x.accounts, own)
	x.accountIDs[own] = n
	return n
}
