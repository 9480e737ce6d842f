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
// A claim is a KeyCreated or a KeyImported. The first claim that names a key id
// decides it for good. If it is void itself (its mac is another key's, or it
// contradicts its own subject), the id is void: no key of it ever exists. The
// account of an event is that of its subject, which the log checked when it was
// written; what the body says about itself is not trusted.
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
		batch:    Batch{From: from, To: from, Audit: make([]AuditEntry, 0, len(events))},
		versions: make(map[domain.KeyID]int),
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
	f.cache.learn(known)
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
	id := domain.KeyID(e.Aggregate.ID)
	data := e.Data.(domain.KeyEvent) // lookup has seen to it
	held := b.cache.get(id)
	var before, after KeyRecord
	if held != nil {
		before = held.record
	}
	reason := b.judge(e, held)
	if reason == "" {
		after = KeyRecord{Key: Normalize(domain.Evolve(before.Key, data)), Seq: e.Seq, CreatedSeq: before.CreatedSeq}
		if held == nil {
			after.CreatedSeq = e.Seq
		}
		b.replace(before, after)
	}
	b.batch.Audit = append(b.batch.Audit, auditEntry(e, before, after, reason))
	b.batch.To = Checkpoint{Seq: e.Seq, EventID: e.ID}
}

// judge returns why the event is void, or "". It records the claims it makes.
func (b *batchFold) judge(e *eventstore.Event, held *entry) VoidReason {
	spec := claimOf(e.Data)
	switch {
	case held != nil && held.account() != e.Aggregate.Account:
		return VoidKeyIDTaken
	case held != nil && held.void != nil:
		return held.void.Reason
	case held != nil && spec != nil:
		return VoidCreatedTwice
	case held != nil:
		return ""
	case spec == nil:
		return VoidNoKey
	}
	reason := b.judgeClaim(e, spec)
	if reason != "" {
		void := VoidKey{Key: domain.KeyID(e.Aggregate.ID), Account: e.Aggregate.Account, Seq: e.Seq, Reason: reason}
		b.batch.Voids = append(b.batch.Voids, void)
		b.cache.put(void.Key, &entry{void: &void})
	}
	return reason
}

// judgeClaim judges the first claim of a key id.
func (b *batchFold) judgeClaim(e *eventstore.Event, spec *domain.KeySpec) VoidReason {
	if string(spec.ID) != e.Aggregate.ID || spec.Account != e.Aggregate.Account {
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

// replace puts a new version in the place of the one before, if there is one.
func (b *batchFold) replace(before, after KeyRecord) {
	if at, ok := b.versions[after.ID]; ok {
		b.batch.Versions[at].ToSeq = after.Seq
	} else if before.Seq > 0 {
		b.batch.Ended = append(b.batch.Ended, EndedVersion{Key: after.ID, FromSeq: before.Seq, ToSeq: after.Seq})
	}
	b.versions[after.ID] = len(b.batch.Versions)
	b.batch.Versions = append(b.batch.Versions, KeyVersion{KeyRecord: after})
	b.cache.put(after.ID, &entry{record: after})
}

// claimOf returns what a claim is made with, nil for other events.
func claimOf(data domain.Event) *domain.KeySpec {
	switch data := data.(type) {
	case domain.KeyCreated:
		return &data.KeySpec
	case domain.KeyImported:
		return &data.KeySpec
	default:
		return nil
	}
}

func eventError(e *eventstore.Event, reason string) error {
	typ := domain.EventType("")
	if e.Data != nil {
		typ = e.Data.Type()
	}
	return &EventError{Seq: e.Seq, EventID: e.ID, Type: typ, Reason: reason}
}
