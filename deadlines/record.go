package deadlines

import (
	"math"
	"slices"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// record is what the rules about time ask of a key that lives and has a deadline:
// the fold of its events, without what they do not ask.
type record struct {
	id      domain.KeyID
	seq     uint64        // of the last event of its aggregate: what an append expects
	expires instant       // never: it does not expire
	ends    instant       // of the overlap; never: there is none
	lead    time.Duration // domain.Key.NoticeLead
	since   int64         // time of the event that seq names, in µs
	account uint32        // in index.accounts
	pos     int32         // in the queue; outside if negative
	rotated bool
	aside   bool // kept out of the queue for a while
}

const outside = -1

// key is the state that the rules decide upon. Of what they do not look at it has nothing.
func (r *record) key(account domain.AccountID) domain.Key {
	k := domain.Key{
		KeySpec: domain.KeySpec{ID: r.id, Account: account, ExpiresAt: r.expires.time()},
		EndsAt:  r.ends.time(), NoticeLead: r.lead, Version: 1,
	}
	if r.rotated {
		k.ReplacedBy = "another"
	}
	return k
}

// idle reports whether nothing can come due for the key as it is.
func (r *record) idle() bool { return !r.rotated && !r.expires.set() && !r.ends.set() }

// never is a time that does not come.
const never = math.MaxInt64

// due returns when the clock has something to decide about the key, in µs since
// 1970: at the end of its overlap, at its expiry, or when its next notice is to be
// given. A notice whose lead had begun when the key was last changed is due since
// then: it does not come before that, even if the clock was set back.
func (r *record) due(leads []time.Duration) int64 {
	at := int64(never)
	if r.ends.set() {
		at = r.ends.micro()
	}
	if !r.expires.set() {
		return at
	}
	at = min(at, r.expires.micro())
	if r.rotated {
		return at
	}
	for _, lead := range slices.Backward(leads) { // the longest that was not given
		if r.lead == 0 || lead < r.lead {
			return min(at, max(r.expires.micro()-lead.Microseconds(), r.since))
		}
	}
	return at
}

// commandFor returns what the clock asks of a key at an instant. leads ascend.
func commandFor(k domain.Key, leads []time.Duration, now time.Time) domain.KeyCommand {
	switch {
	case !k.EndsAt.IsZero() && !now.Before(k.EndsAt):
		return domain.EndOverlap{}
	case !now.Before(k.ExpiresAt):
		return domain.ExpireKey{Deadline: k.ExpiresAt}
	}
	for _, lead := range leads { // the most urgent
		if !now.Before(k.ExpiresAt.Add(-lead)) {
			return domain.NotifyExpiry{Deadline: k.ExpiresAt, Lead: lead}
		}
	}
	return domain.ExpireKey{Deadline: k.ExpiresAt} // to which the rules say: not yet
}

// instant is a time.Time without its pointer, exact for every time. The zero
// time.Time stands for never.
type instant struct {
	sec  int64
	nsec int32
}

// neverSec is the Unix time of the zero time.Time.
const neverSec = -62135596800

func instantOf(t time.Time) instant {
	return instant{t.Unix(), int32(t.Nanosecond())} //nolint:gosec // below 1e9
}

func (i instant) time() time.Time { return time.Unix(i.sec, int64(i.nsec)).UTC() }

// set reports whether the instant is not never.
func (i instant) set() bool { return i != instant{sec: neverSec} }

// micro returns the first whole microsecond at which the instant has come: clocks
// here are read in microseconds.
func (i instant) micro() int64 { return i.sec*1e6 + (int64(i.nsec)+999)/1000 }
