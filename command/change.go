package command

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// KeyChanges is the content of an update command; a nil member is left as it is.
type KeyChanges struct {
	Name        *string            `json:"name,omitempty"`
	Description *string            `json:"description,omitempty"`
	Scopes      *[]domain.Scope    `json:"scopes,omitempty"`
	FullAccess  bool               `json:"full_access,omitempty"` // instead of Scopes
	Metadata    *map[string]string `json:"metadata,omitempty"`
	AllowedIPs  *[]string          `json:"allowed_ips,omitempty"`
	Expiry      *NewExpiry         `json:"expiry,omitempty"`
}

// Rotation is the content of a rotate command.
type Rotation struct {
	// Overlap is how long the old key goes on working; 0 ends it at once.
	Overlap time.Duration `json:"overlap_ns"`
	// TokenSHA256 is as in [NewKey].
	TokenSHA256 string `json:"token_sha256,omitempty"`
}

// UpdateKey changes a key.
func (h *Handler) UpdateKey(ctx context.Context, r Request, t Target, c KeyChanges) (Outcome, error) {
	if c.Name != nil {
		trimmed := strings.TrimSpace(*c.Name)
		c.Name = &trimmed
	}
	p, err := h.planFor(r, t, domain.CommandUpdateKey, c)
	if err != nil {
		return Outcome{}, err
	}
	p.decide = func(k domain.Key, now time.Time) ([]domain.KeyEvent, []eventstore.Change, error) {
		update, err := h.resolveUpdate(t.Type, c)
		if err != nil {
			return nil, nil, err
		}
		if err := r.Authority.CheckUpdate(k, update); err != nil {
			return nil, nil, err
		}
		events, err := domain.Decide(k, update, now)
		return events, nil, err
	}
	return h.execute(ctx, p)
}

// RevokeKey revokes a key for good. An empty reason is recorded as unspecified
// (the word of RFC 5280 for it). Revoking a revoked key changes nothing.
func (h *Handler) RevokeKey(ctx context.Context, r Request, t Target, reason string) (Outcome, error) {
	if reason == "" {
		reason = "unspecified"
	}
	if domain.KeyID(r.Authority.Actor) == t.ID {
		return Outcome{}, domain.NewError(domain.KindConflict, "self_revocation", "a management key cannot revoke itself",
			"revoke it with another management key: so one is always left that can manage the rest")
	}
	p, err := h.planFor(r, t, domain.CommandRevokeKey, reason)
	if err != nil {
		return Outcome{}, err
	}
	p.decide = func(k domain.Key, now time.Time) ([]domain.KeyEvent, []eventstore.Change, error) {
		if err := r.Authority.CheckRevoke(k); err != nil {
			return nil, nil, err
		}
		events, err := domain.Decide(k, domain.RevokeKey{Reason: reason}, now)
		return events, nil, err
	}
	return h.execute(ctx, p)
}

// RotateKey puts a new key in the place of another, in one atomic append. The
// outcome is the new key, with its token.
func (h *Handler) RotateKey(ctx context.Context, r Request, t Target, rotation Rotation) (Outcome, error) {
	p, err := h.planFor(r, t, domain.CommandRotateKey, rotation)
	if err != nil {
		return Outcome{}, err
	}
	newID, err := h.ids.keyID(t.Account, p.identity, t.ID)
	if err != nil {
		return Outcome{}, err
	}
	successor := eventstore.KeyAggregate(t.Account, newID)
	var secret credential
	if rotation.TokenSHA256 != "" {
		if secret, err = h.givenCredential(t.Type, rotation.TokenSHA256); err != nil {
			return Outcome{}, err
		}
	}
	p.decide = func(k domain.Key, now time.Time) ([]domain.KeyEvent, []eventstore.Change, error) {
		if secret == (credential{}) { // the old key says what the new token looks like; tries after the first keep it
			made, err := h.makeToken(k.Type, k.Environment, newID)
			if err != nil {
				return nil, nil, err
			}
			secret = made
		}
		if err := h.checkClaim(newID, secret.mac); err != nil {
			return nil, nil, err
		}
		rotate := domain.RotateKey{
			NewID: newID, NewMac: secret.mac, PepperID: h.pepper.ID(), Display: h.format.Display(k.Type, k.Environment, newID),
			Overlap: rotation.Overlap, Actor: r.Authority.Actor,
		}
		return h.decideRotation(r.Authority, k, rotate, successor, now)
	}
	p.answer = func(ctx context.Context, _, appended []eventstore.Event) (Outcome, error) {
		if appended != nil {
			return secret.answer(nil, of(successor, appended)), nil
		}
		history, err := h.read(ctx, successor, leader)
		if err != nil {
			return Outcome{}, err
		}
		first, err := p.identity.first(history)
		if err != nil {
			return Outcome{}, err
		}
		return secret.answer(first, nil), nil
	}
	return h.execute(ctx, p)
}

func (h *Handler) decideRotation(a domain.Authority, old domain.Key, rotate domain.RotateKey, successor eventstore.Aggregate, now time.Time) ([]domain.KeyEvent, []eventstore.Change, error) {
	events, err := domain.Decide(old, rotate, now)
	if err != nil {
		return nil, nil, err
	}
	create := domain.Successor(old, rotate)
	if err := a.CheckSpec(create.KeySpec); err != nil {
		return nil, nil, err
	}
	created, err := domain.Decide(domain.Key{}, create, now)
	if err != nil {
		return nil, nil, err
	}
	return events, []eventstore.Change{change(successor, 0, created)}, nil
}

// planFor starts the plan of a command about an existing key. A key beyond the
// caller's reach, or of the other type, does not exist for it.
func (h *Handler) planFor(r Request, t Target, name domain.CommandName, content any) (plan, error) {
	if err := r.Authority.May(scopeToWrite(t.Type)); err != nil {
		return plan{}, err
	}
	if !r.Authority.Reaches(t.Account) {
		return plan{}, domain.KeyNotFound()
	}
	who, err := h.identify(r, name, t.Account, struct {
		Key     domain.KeyID `json:"key_id"`
		Content any          `json:"content"`
	}{t.ID, content})
	if err != nil {
		return plan{}, err
	}
	return plan{
		request: r, identity: who, aggregate: eventstore.KeyAggregate(t.Account, t.ID), keyType: t.Type,
		answer: func(_ context.Context, history, appended []eventstore.Event) (Outcome, error) {
			outcome := keyOutcome(history, appended)
			outcome.Replayed = appended == nil
			return outcome, nil
		},
	}, nil
}

func (h *Handler) resolveUpdate(t domain.KeyType, c KeyChanges) (domain.UpdateKey, error) {
	update := domain.UpdateKey{Name: c.Name, Description: c.Description, Metadata: c.Metadata}
	if c.Scopes != nil || c.FullAccess {
		var asked []domain.Scope
		if c.Scopes != nil {
			asked = *c.Scopes
		}
		scopes, err := h.resolveScopes("/scopes", h.catalogueOf(t), asked, c.FullAccess)
		if err != nil {
			return update, err
		}
		update.Scopes = &scopes
	}
	if c.AllowedIPs != nil {
		ranges, err := domain.ParseAllowedIPs(*c.AllowedIPs)
		if err != nil {
			return update, err
		}
		update.AllowedIPs = &ranges
	}
	if c.Expiry != nil {
		at, err := c.Expiry.instant()
		if err != nil {
			return update, err
		}
		update.Expiry = &domain.Expiry{At: at}
	}
	return update, nil
}

// identify makes the identity of a request's command.
func (h *Handler) identify(r Request, name domain.CommandName, account domain.AccountID, content any) (identity, error) {
	id := r.ID
	if id == "" {
		id = h.newID()
	}
	if err := checkCommandID(id); err != nil {
		return identity{}, err
	}
	hash, err := h.ids.hash(name, account, content)
	return identity{name: name, actor: r.Authority.Actor, id: id, hash: hash}, err
}

func scopeToWrite(t domain.KeyType) domain.Scope {
	if t == domain.KeyTypeManagement {
		return domain.ScopeOperate
	}
	return domain.ScopeKeysWrite
}

// keyOutcome folds history and what was appended to the same key after it.
func keyOutcome(history, appended []eventstore.Event) Outcome {
	events := append(slices.Clip(history), appended...)
	outcome := Outcome{Key: fold(events)}
	if len(events) > 0 {
		outcome.Seq = events[len(events)-1].Seq
		outcome.KeySeq = outcome.Seq
	}
	return outcome
}

func of(a eventstore.Aggregate, events []eventstore.Event) []eventstore.Event {
	var own []eventstore.Event
	for _, e := range events {
		if e.Aggregate == a {
			own = append(own, e)
		}
	}
	return own
}
