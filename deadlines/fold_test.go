package deadlines

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// reference is the fold as it is written down: domain.Evolve, and the rule that the
// lowest seq owns a key id and a mac.
type reference struct {
	owners map[domain.KeyID]domain.AccountID
	macs   map[domain.Mac]bool
	void   map[eventstore.Aggregate]bool
	keys   map[domain.KeyID]domain.Key
	seqs   map[domain.KeyID]uint64
	times  map[domain.KeyID]time.Time
}

func newReference() *reference {
	return &reference{
		map[domain.KeyID]domain.AccountID{}, map[domain.Mac]bool{}, map[eventstore.Aggregate]bool{},
		map[domain.KeyID]domain.Key{}, map[domain.KeyID]uint64{}, map[domain.KeyID]time.Time{},
	}
}

func (r *reference) apply(e eventstore.Event) {
	id := domain.KeyID(e.Aggregate.ID)
	account, known := r.owners[id]
	if !known || account != e.Aggregate.Account {
		spec := claimOf(e.Data)
		if known || r.void[e.Aggregate] || spec == nil || spec.ID != id || spec.Account != e.Aggregate.Account || r.macs[spec.Mac] {
			r.void[e.Aggregate] = true
			return
		}
		r.owners[id], r.macs[spec.Mac] = e.Aggregate.Account, true
	}
	own, ok := e.Data.(domain.KeyEvent)
	if !ok {
		panic("not an event of a key")
	}
	r.keys[id], r.seqs[id], r.times[id] = domain.Evolve(r.keys[id], own), e.Seq, e.Time
}

// TestFoldAgreesWithTheDomain feeds random histories, also such as no command would
// write, and asks the rules about each key: by the small record they say what they
// say by the whole key, and exactly from the time on that the index gives.
func TestFoldAgreesWithTheDomain(t *testing.T) {
	leads := []time.Duration{time.Hour, day, 12 * day}
	rapid.Check(t, func(rt *rapid.T) {
		x, ref := newIndex(leads), newReference()
		events := projectionstest.History(rt, 0, 60)
		for i := range events {
			events[i].Seq = uint64(i + 1)
			ref.apply(events[i])
		}
		for len(events) > 0 {
			n := rapid.IntRange(1, len(events)).Draw(rt, "batch")
			x.apply(events[:n], n == len(events))
			events = events[n:]
			mustBeHeap(rt, x)
		}
		for id, whole := range ref.keys {
			checkKey(rt, x, id, whole, ref)
		}
		for id, c := range x.keys {
			if c.slot < slotDead && digestOf(x.records[c.slot].id) != id {
				rt.Fatalf("the record of another key: %+v", x.records[c.slot])
			}
		}
	})
}

func checkKey(rt *rapid.T, x *index, id domain.KeyID, whole domain.Key, ref *reference) {
	slot, ok := x.slot(id)
	instants := []time.Time{projectionstest.Start(), whole.ExpiresAt, whole.EndsAt}
	for _, lead := range x.leads {
		instants = append(instants, whole.ExpiresAt.Add(-lead))
	}
	for _, at := range slices.Clone(instants) {
		instants = append(instants, at.Add(time.Microsecond), at.Add(-time.Microsecond))
	}
	small, due := domain.Key{}, int64(never)
	if ok {
		r := &x.records[slot]
		small, due = r.key(x.accounts[r.account]), r.due(x.leads)
		if r.seq != ref.seqs[id] || small.Account != whole.Account {
			rt.Fatalf("%s: seq %d of %s, want %d of %s", id, r.seq, small.Account, ref.seqs[id], whole.Account)
		}
	}
	for _, now := range instants {
		now = now.Truncate(time.Microsecond)
		for _, c := range clockCommands(whole, x.leads) {
			want, err := domain.Decide(whole, c, now)
			if err != nil {
				rt.Fatal(err)
			}
			if !ok {
				if len(want) > 0 {
					rt.Fatalf("%s has no record; at %s %T is to be written: %+v", id, now, want[0], whole)
				}
				continue
			}
			if got, err := domain.Decide(small, c, now); err != nil || !reflect.DeepEqual(got, want) {
				rt.Fatalf("%s, %s at %s: %+v, %v; want %+v of %+v", id, c.Command(), now, got, err, want, whole)
			}
			if len(want) > 0 && now.UnixMicro() < due && !now.Before(ref.times[id]) {
				rt.Fatalf("%s, %s at %s: something is to be written, and due only at %s", id, c.Command(), now, time.UnixMicro(due).UTC())
			}
		}
	}
	if due == never {
		return
	}
	from := time.UnixMicro(due).UTC()
	if got, err := domain.Decide(whole, commandFor(small, x.leads, from), from); err != nil || len(got) == 0 {
		rt.Fatalf("%s is due at %s, and nothing is to be written: %v, %+v", id, from, err, whole)
	}
}

func clockCommands(k domain.Key, leads []time.Duration) []domain.KeyCommand {
	all := []domain.KeyCommand{domain.EndOverlap{}, domain.ExpireKey{Deadline: k.ExpiresAt}}
	for _, lead := range leads {
		all = append(all, domain.NotifyExpiry{Deadline: k.ExpiresAt, Lead: lead})
	}
	return all
}

func mustBeHeap(rt *rapid.T, x *index) {
	in := 0
	for pos, e := range x.queue.entries {
		r := x.records[e.slot]
		if int(r.pos) != pos || r.due(x.leads) != e.due || x.queue.entries[max(pos-1, 0)/2].due > e.due {
			rt.Fatalf("entry %d: %+v of %+v", pos, e, r)
		}
	}
	for _, r := range x.records {
		if r.pos >= 0 {
			in++
		}
	}
	if in != len(x.queue.entries) {
		rt.Fatalf("%d records are in the queue of %d", in, len(x.queue.entries))
	}
}

func TestTake(t *testing.T) {
	x := newIndex(nil)
	start := at("2026-01-01")
	var events []eventstore.Event
	for n := range 1000 {
		id := domain.KeyID(fmt.Sprintf("key_%d", n))
		created := domain.KeyCreated{KeySpec: spec(id, start.Add(time.Duration(n%100)*time.Hour))}
		events = append(events, eventstore.Event{Seq: uint64(n + 1), Aggregate: eventstore.KeyAggregate(domain.DefaultAccount, id), Data: created})
	}
	x.apply(events, true)
	for _, tt := range []struct {
		after      time.Duration
		most, want int
	}{{-time.Second, 10, 0}, {0, 1000, 10}, {0, 7, 7}, {10 * time.Hour, 1000, 110}, {100 * time.Hour, 5000, 1000}} {
		now := start.Add(tt.after)
		jobs, first := x.take(now, tt.most)
		if len(jobs) != tt.want || first != start.UnixMicro() {
			t.Errorf("after %v: %d jobs, want %d; the first at %d", tt.after, len(jobs), tt.want, first)
		}
		for i, j := range jobs {
			if j.due > now.UnixMicro() || i == 0 && j.due != first {
				t.Errorf("after %v: job %d is due at %d", tt.after, i, j.due)
			}
		}
		if o := x.overdue(now); min(o.keys, tt.most) != tt.want || (o.keys > 0) != o.since.Equal(start) {
			t.Errorf("after %v: overdue %+v", tt.after, o)
		}
	}
}

func TestOverdueIsUnknownBeforeTheLogWasRead(t *testing.T) {
	x := newIndex(nil)
	x.apply([]eventstore.Event{{Seq: 1, Aggregate: eventstore.KeyAggregate(domain.DefaultAccount, "k"), Data: domain.KeyCreated{KeySpec: spec("k", at("2026-01-01"))}}}, false)
	if o := x.overdue(at("2026-02-01")); o.keys != 0 {
		t.Errorf("%+v", o)
	}
	x.apply(nil, true)
	if o := x.overdue(at("2026-02-01")); o.keys != 1 {
		t.Errorf("%+v", o)
	}
}
