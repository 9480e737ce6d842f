package deadlines

import (
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// fold takes one event in. It is domain.Evolve for what record holds, after it was
// judged whether the event counts.
func (x *index) fold(e *eventstore.Event) {
	if e.Aggregate.Kind != eventstore.KindKey {
		return
	}
	spec := claimOf(e.Data)
	id := digestOf(domain.KeyID(e.Aggregate.ID))
	c, known := x.keys[id]
	switch owner := known && x.accounts[c.account] == e.Aggregate.Account; {
	case owner:
		x.change(id, c, e)
	case spec != nil && !known:
		x.claim(id, spec, e)
	default:
		x.voids(e.Aggregate)
	}
	if e.Actor == domain.SystemActor && ofTheClock(e.Command) {
		x.wrote = time.Now()
	}
}

func ofTheClock(c domain.CommandName) bool {
	return c == domain.CommandNotifyExpiry || c == domain.CommandExpireKey || c == domain.CommandEndOverlap
}

// claim enters a new key, unless its claim is void.
func (x *index) claim(id digest, spec *domain.KeySpec, e *eventstore.Event) {
	mac := digest(spec.Mac[:len(digest{})])
	_, taken := x.macs[mac]
	_, void := x.void[e.Aggregate]
	if taken || void || string(spec.ID) != e.Aggregate.ID || spec.Account != e.Aggregate.Account {
		x.voids(e.Aggregate)
		return
	}
	x.macs[mac] = struct{}{}
	c := claim{account: x.account(spec.Account), slot: slotIdle}
	x.put(id, c, record{account: c.account, expires: instantOf(spec.ExpiresAt), ends: instant{sec: neverSec}, pos: outside}, e)
}

// voids notes that an aggregate's first event made no key.
func (x *index) voids(a eventstore.Aggregate) {
	if _, known := x.void[a]; !known {
		a.Account, a.ID = domain.AccountID(strings.Clone(string(a.Account))), strings.Clone(a.ID)
		x.void[a] = struct{}{}
	}
}

// change takes in an event of a key that owns its id. A dead key stays dead.
func (x *index) change(id digest, c claim, e *eventstore.Event) {
	r := record{account: c.account, expires: instant{sec: neverSec}, ends: instant{sec: neverSec}, pos: outside}
	switch c.slot {
	case slotDead:
		return
	case slotIdle:
	default:
		r = x.records[c.slot]
	}
	dead := false
	switch data := e.Data.(type) {
	case domain.KeyUpdated:
		if data.Expiry != nil {
			r.expires, r.lead = instantOf(data.Expiry.At), 0
		}
	case domain.KeyRotated:
		r.ends, r.rotated = instantOf(data.EndsAt), data.ReplacedBy != ""
	case domain.KeyExpiring:
		r.lead = time.Duration(data.LeadSeconds) * time.Second
	case domain.KeyRevoked:
		dead = !data.RevokedAt.IsZero()
	case domain.KeyExpired:
		dead = !data.ExpiresAt.IsZero()
	case domain.KeyCreated, domain.KeyImported, domain.KeyLeaked:
		// A second creation is void, and a leak does not concern the clock; but the
		// next append must expect them.
	}
	if dead {
		x.drop(c.slot)
		x.keys[id] = claim{account: c.account, slot: slotDead}
		return
	}
	x.put(id, c, r, e)
}

// put stores what an event has made of a key, and when it is due.
func (x *index) put(id digest, c claim, r record, e *eventstore.Event) {
	r.seq, r.since = e.Seq, e.Time.UnixMicro()
	switch {
	case r.idle():
		x.drop(c.slot)
		c.slot = slotIdle
	case c.slot == slotIdle:
		r.id = domain.KeyID(strings.Clone(e.Aggregate.ID))
		c.slot = x.slotFor(r)
	default:
		x.records[c.slot] = r
	}
	x.keys[id] = c
	if c.slot != slotIdle && !r.aside {
		x.queue.set(c.slot, r.due(x.leads))
	}
}

// drop forgets a record.
func (x *index) drop(slot uint32) {
	if slot >= slotDead {
		return
	}
	x.queue.remove(slot)
	x.records[slot] = record{pos: outside}
	x.free = append(x.free, slot)
}

func (x *index) slotFor(r record) uint32 {
	if n := len(x.free); n > 0 {
		slot := x.free[n-1]
		x.free = x.free[:n-1]
		x.records[slot] = r
		return slot
	}
	x.records = append(x.records, r)
	return uint32(len(x.records) - 1) //nolint:gosec // below the slots that mean something
}

// claimOf returns what a claim is made with, nil for other events.
func claimOf(data domain.Event) *domain.KeySpec {
	switch data := data.(type) {
	case domain.KeyCreated:
		return &data.KeySpec
	case domain.KeyImported:
		return &data.KeySpec
	case domain.KeyUpdated, domain.KeyRotated, domain.KeyRevoked, domain.KeyExpiring, domain.KeyExpired, domain.KeyLeaked:
	}
	return nil
}
