package verify

import (
	"context"
	"log/slog"
	"strings"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// fold is what only the feed needs. It is guarded by Verifier.feedMu.
type fold struct {
	hashes   map[domain.KeyID]hash             // by which the table finds a key
	void     map[eventstore.Aggregate]struct{} // whose claim was void
	orphans  map[domain.KeyID]orphan           // whose pepper is not in the keyring
	accounts map[domain.AccountID]domain.AccountID

	scopes           *compiler // of customers' keys
	managementScopes *compiler
}

type orphan struct {
	pepperID string
	seq      uint64
}

func newFold(c *domain.Catalogue) *fold {
	return &fold{
		hashes: map[domain.KeyID]hash{}, void: map[eventstore.Aggregate]struct{}{}, orphans: map[domain.KeyID]orphan{},
		accounts: map[domain.AccountID]domain.AccountID{},
		scopes:   newCompiler(c), managementScopes: newCompiler(domain.ManagementCatalogue()),
	}
}

func (f *fold) compile(t keyType, s domain.Scopes) *scopeSet {
	if t == typeManagement {
		return f.managementScopes.compile(s)
	}
	return f.scopes.compile(s)
}

// account returns one copy of an account's name for all its keys.
func (f *fold) account(id domain.AccountID) domain.AccountID {
	if known, ok := f.accounts[id]; ok {
		return known
	}
	own := domain.AccountID(strings.Clone(string(id)))
	f.accounts[own] = own
	return own
}

func (v *Verifier) apply(ctx context.Context, e *eventstore.Event) {
	if e.Aggregate.Kind != eventstore.KindKey {
		return
	}
	switch data := e.Data.(type) {
	case domain.KeyCreated:
		v.claim(ctx, e, &data.KeySpec)
	case domain.KeyImported:
		v.claim(ctx, e, &data.KeySpec)
	case domain.KeyUpdated:
		if rec := v.owned(ctx, e); rec != nil {
			v.update(rec, &data)
		}
	case domain.KeyRotated:
		if rec := v.owned(ctx, e); rec != nil {
			v.table.change(rec, func(r *record) { r.ends = instantOf(data.EndsAt) })
		}
	case domain.KeyRevoked:
		if rec := v.owned(ctx, e); rec != nil {
			v.table.change(rec, func(r *record) { r.revoked = !data.RevokedAt.IsZero() })
		}
	case domain.KeyExpired:
		if rec := v.owned(ctx, e); rec != nil {
			v.table.change(rec, func(r *record) { r.expired = !data.ExpiresAt.IsZero() })
		}
	case domain.KeyExpiring, domain.KeyLeaked:
		// They say something about the key; they do not change what it may do.
	}
}

// claim enters a new key. The lowest seq owns a key id and a mac, over all
// accounts and types: an event that claims what is owned, or whose data name
// another key than its subject, is void.
func (v *Verifier) claim(ctx context.Context, e *eventstore.Event, spec *domain.KeySpec) {
	if spec.Account != e.Aggregate.Account || string(spec.ID) != e.Aggregate.ID {
		v.refuse(ctx, e, "the data name another key than the subject", spec.ID)
		return
	}
	if owner := v.record(spec.ID); owner != nil {
		v.refuse(ctx, e, "the key id is owned by an earlier event", owner.id)
		return
	}
	if owner, taken := v.Owner(spec.Mac); taken {
		v.refuse(ctx, e, "the mac is owned by an earlier event", owner)
		return
	}
	if _, void := v.fold.void[e.Aggregate]; void {
		v.refuse(ctx, e, "an earlier event of this key was void", spec.ID)
		return
	}
	rec := recordOf(spec, v.fold.compile(keyTypeOf(spec.Type), spec.Scopes))
	rec.id, rec.account = domain.KeyID(strings.Clone(string(spec.ID))), v.fold.account(spec.Account)
	if p := v.pepper(spec.PepperID); p != nil {
		p.inUse.Store(true)
	} else {
		v.fold.orphans[rec.id] = orphan{pepperID: spec.PepperID, seq: e.Seq}
	}
	if rec.typ == typeManagement {
		v.setAuthority(domain.AuthorityOf(domain.Key{KeySpec: *spec}))
	}
	v.fold.hashes[rec.id] = hashOf(&rec.mac)
	v.table.insert(rec)
	v.keys.Add(1)
}

// record returns the record of a key, dead or alive, or nil. Like table.byID.
func (v *Verifier) record(id domain.KeyID) *record {
	h, ok := v.fold.hashes[id]
	if !ok {
		return nil
	}
	return v.table.byID(h, id)
}

// owned returns the key that an event is about, or nil if it does not count: its
// aggregate never owned the key.
func (v *Verifier) owned(ctx context.Context, e *eventstore.Event) *record {
	rec := v.record(domain.KeyID(e.Aggregate.ID))
	if rec != nil && rec.account == e.Aggregate.Account {
		return rec
	}
	if _, known := v.fold.void[e.Aggregate]; !known {
		v.refuse(ctx, e, "the key was never created in this account", domain.KeyID(e.Aggregate.ID))
	}
	return nil
}

func (v *Verifier) update(rec *record, u *domain.KeyUpdated) {
	if rec.typ == typeManagement && (u.Scopes != nil || u.Expiry != nil) {
		v.authMu.RLock()
		authority := v.authorities[rec.id]
		v.authMu.RUnlock()
		if u.Scopes != nil {
			authority.Scopes = *u.Scopes
		}
		if u.Expiry != nil {
			authority.ExpiresAt = u.Expiry.At
		}
		v.setAuthority(authority)
	}
	next := *rec // only the feed writes records, so it may read them without the lock
	if u.Scopes != nil {
		next.scopes = v.fold.compile(rec.typ, *u.Scopes)
	}
	if u.AllowedIPs != nil {
		next.networks = networksOf(*u.AllowedIPs)
	}
	if u.Expiry != nil {
		next.expires = instantOf(u.Expiry.At)
	}
	v.table.change(rec, func(r *record) { *r = next })
}

func (v *Verifier) setAuthority(a domain.Authority) {
	v.authMu.Lock()
	v.authorities[domain.KeyID(a.Actor)] = a
	v.authMu.Unlock()
}

// refuse counts an event for nothing, and raises the alarm: no command of ours
// appends such an event, except in a race that the checks before it have lost.
// Unless the aggregate owns its key, its later events do not count either.
func (v *Verifier) refuse(ctx context.Context, e *eventstore.Event, why string, owner domain.KeyID) {
	if rec := v.record(domain.KeyID(e.Aggregate.ID)); rec == nil || rec.account != e.Aggregate.Account {
		v.fold.void[e.Aggregate] = struct{}{}
	}
	v.voids.Add(1)
	v.metrics.void.Inc()
	v.logger.ErrorContext(ctx, "an event is void",
		slog.Uint64("seq", e.Seq), slog.String("event_type", string(e.Type())),
		slog.String("account", string(e.Aggregate.Account)), slog.String("key_id", e.Aggregate.ID),
		slog.String("owner_key_id", string(owner)), slog.String("reason", why))
}
