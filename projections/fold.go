package projections

import (
	"context"
	"fmt"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// folder turns runs of events into batches. It decides which claims are void:
// key ids and macs are unique over all accounts, and the lowest seq owns one.
//
// A claim is a KeyCreated or a KeyImported. An aggregate (account and key id, as
// the subject has them; what the body says about itself is not trusted) is
// decided by its first event: a claim that is not void makes the key, anything
// else makes the aggregate void for good. A void claim takes neither the id nor the
// mac from anyone. Package verify goes by the same rule.
//
// Not safe for concurrent use.
type folder struct {
	store Writer
	cache *cache
}

// fold returns the effect of consecutive events that follow the checkpoint. The
// cache holds the state after them from then on, so that the batch must be
// written, or the folder thrown away.
func (f *folder) fold(ctx context.Context, from Checkpoint, events []eventstore.Event) (Batch, error) {
	b := &batchFold{
		batch:    Batch{From: from, To: from, Audit: make([]AuditEntry, 0, len(events)), Versions: make([]KeyVersion, 0, len(events))},
		versions: make(map[domain.KeyID]int, len(events)),
		macs:     make(map[MacHash]domain.KeyID),
		cache:    f.cache,
	}
	lookup, err := f.lookup(from, events)
	if err != nil {
		return Batch{}, err
	}
	known, err := f.store.Load(ctx, lookup)
	if err != nil {
		return Batch{}, fmt.Errorf("load %d keys: %w", len(lookup.Keys), err)
	}
	f.cache.learn(lookup.Keys, known)
	b.known = known
	for i := range events {
		b.apply(&events[i])
	}
	f.cache.trim()
	return b.batch, nil
}

// lookup names what the store must be asked before the events can be folded.
func (f *folder) lookup(from Checkpoint, events []eventstore.Event) (Lookup, error) {
	var l Lookup
	asked := make(map[domain.KeyID]struct{})
	next := from.Seq
	for i := range events {
		e := &events[i]
		next++
		if e.Seq != next {
			return l, eventError(e, fmt.Sprintf("seq %d was expected", next))
		}
		if _, ok := e.Data.(domain.KeyEvent); !ok || e.Aggregate.Kind != eventstore.KindKey {
			return l, eventError(e, "this release knows no such event")
		}
		if reason := unstorable(e); reason != "" {
			return l, eventError(e, reason)
		}
		id := domain.KeyID(e.Aggregate.ID)
		if _, ok := asked[id]; !ok && f.cache.get(id) == nil {
			asked[id] = struct{}{}
			l.Keys = append(l.Keys, id)
		}
		if spec := claimOf(e.Data); spec != nil {
			l.Macs = append(l.Macs, HashMac(spec.Mac))
		}
	}
	return l, nil
}

// batchFold is the work on one batch.
type batchFold struct {
	batch    Batch
	versions map[domain.KeyID]int // index in batch.Versions of a key's current row
	macs     map[MacHash]domain.KeyID
	known    Known
	cache    *cache
}

func (b *batchFold) apply(e *eventstore.Event) {
	held := b.cache.get(domain.KeyID(e.Aggregate.ID))
	before, after := held.record, KeyRecord{}
	reason := b.judge(e, held)
	if reason == "" {
		data, _ := e.Data.(domain.KeyEvent) // it is one: lookup has seen to it
		after = KeyRecord{Key: Normalize(domain.Evolve(before.Key, data)), Seq: e.Seq, CreatedSeq: before.CreatedSeq}
		if before.Seq == 0 {
			after.CreatedSeq = e.Seq
		}
		b.replace(held, after)
	}
	entry := auditEntry(e, before, after, reason)
	entry.Clock = entry.Time
	if entry.Clock.Before(b.batch.To.Clock) {
		entry.Clock = b.batch.To.Clock
	}
	b.batch.Audit = append(b.batch.Audit, entry)
	b.batch.To = Checkpoint{Seq: e.Seq, EventID: e.ID, Clock: entry.Clock}
}

// judge returns why the event is void, or "". It records what the event claims.
func (b *batchFold) judge(e *eventstore.Event, held *entry) VoidReason {
	spec := claimOf(e.Data)
	owner := held.record.Seq > 0 && held.record.Account == e.Aggregate.Account
	if owner && spec != nil {
		return VoidCreatedTwice
	}
	if owner {
		return ""
	}
	if reason := held.void(e.Aggregate.Account); reason != "" {
		return reason
	}
	reason := b.judgeFirst(e, spec, held.record.Seq > 0)
	if reason != "" {
		void := VoidKey{Key: domain.KeyID(e.Aggregate.ID), Account: e.Aggregate.Account, Seq: e.Seq, Reason: reason}
		b.batch.Voids = append(b.batch.Voids, void)
		b.cache.put(void.Key, held.withVoid(void))
	}
	return reason
}

// judgeFirst judges the first event of an aggregate.
func (b *batchFold) judgeFirst(e *eventstore.Event, spec *domain.KeySpec, idTaken bool) VoidReason {
	switch {
	case idTaken:
		return VoidKeyIDTaken
	case spec == nil:
		return VoidNoKey
	case string(spec.ID) != e.Aggregate.ID || spec.Account != e.Aggregate.Account:
		return VoidSubjectMismatch
	}
	hash := HashMac(spec.Mac)
	if _, taken := b.known.Macs[hash]; taken {
		return VoidMacTaken
	}
	if _, taken := b.macs[hash]; taken {
		return VoidMacTaken
	}
	b.macs[hash] = spec.ID
	b.batch.Macs = append(b.batch.Macs, MacClaim{Hash: hash, Key: spec.ID, Seq: e.Seq})
	return ""
}

// replace puts a new version in the place of the one that is held, if there is one.
func (b *batchFold) replace(held *entry, after KeyRecord) {
	before := held.record
	if at, ok := b.versions[after.ID]; ok {
		b.batch.Versions[at].ToSeq = after.Seq
	} else if before.Seq > 0 {
		b.batch.Ended = append(b.batch.Ended, EndedVersion{Key: after.ID, CreatedSeq: before.CreatedSeq, FromSeq: before.Seq, ToSeq: after.Seq})
	}
	b.versions[after.ID] = len(b.batch.Versions)
	b.batch.Versions = append(b.batch.Versions, KeyVersion{KeyRecord: after})
	b.cache.put(after.ID, &entry{record: after, voids: held.voids})
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

func eventError(e *eventstore.Event, reason string) error {
	typ := domain.EventType("")
	if e.Data != nil {
		typ = e.Data.Type()
	}
	return &EventError{Seq: e.Seq, EventID: e.ID, Type: typ, Reason: reason}
}
