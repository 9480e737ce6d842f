package domain

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// ReasonRotated is the reason of a revocation that ends a rotation, and
// ReasonLeaked of one that follows a leak report.
const (
	ReasonRotated = "rotated"
	ReasonLeaked  = "leaked"
)

// Decide returns the events that a command leads to in a state, none if it changes
// nothing, or an [Error] that refuses it. All rules about a single key are here and
// in what it calls. now must be UTC; it becomes the time of the events.
func Decide(k Key, c KeyCommand, now time.Time) ([]KeyEvent, error) {
	switch {
	case c.makesKey() && k.Exists():
		return nil, NewError(KindConflict, CodeKeyExists, "a key with this id exists already", "send the command again with another idempotency key")
	case !c.makesKey() && !k.Exists():
		return nil, KeyNotFound()
	}
	switch c := c.(type) {
	case CreateKey:
		return decideNew(c.KeySpec, now, KeyCreated{KeySpec: c.KeySpec, CreatedBy: c.Actor, CreatedAt: now})
	case ImportKey:
		return decideNew(c.KeySpec, now, KeyImported{KeySpec: c.KeySpec, CreatedBy: c.Actor, ImportedAt: now})
	case UpdateKey:
		return decideUpdate(k, c, now)
	case RotateKey:
		return decideRotate(k, c, now)
	case RevokeKey:
		return decideRevoke(k, c, now)
	case ReportLeak:
		return decideLeak(k, c, now)
	case NotifyExpiry:
		return decideNotify(k, c, now)
	case ExpireKey:
		return decideExpire(k, c, now)
	case EndOverlap:
		return decideEndOverlap(k, now)
	default:
		return nil, NewError(KindInternal, "unknown_command", fmt.Sprintf("no rule for the command %s", c.Command()), "report this as a bug")
	}
}

// Successor returns the command that creates the key which a rotation puts in the
// place of old. Both sets of events belong into one append.
func Successor(old Key, c RotateKey) CreateKey {
	spec := old.KeySpec
	spec.ID, spec.Mac, spec.PepperID, spec.Display = c.NewID, c.NewMac, c.PepperID, c.Display
	spec.RotatedFrom = old.ID
	return CreateKey{KeySpec: spec, Actor: c.Actor}
}

// KeyNotFound is the refusal for a key that does not exist or is not the caller's:
// the two must look the same.
func KeyNotFound() error {
	return NewError(KindNotFound, CodeKeyNotFound, "there is no such key", "check the id; keys of other accounts are not shown")
}

func decideNew(spec KeySpec, now time.Time, e KeyEvent) ([]KeyEvent, error) {
	if err := checkSpec(spec, now); err != nil {
		return nil, err
	}
	return []KeyEvent{e}, nil
}

func decideUpdate(k Key, c UpdateKey, now time.Time) ([]KeyEvent, error) {
	if err := requireActive(k, now); err != nil {
		return nil, err
	}
	if err := checkUpdate(k, c, now); err != nil {
		return nil, err
	}
	e := KeyUpdated{UpdatedAt: now}
	changed := false
	if c.Name != nil && *c.Name != k.Name {
		e.Name, changed = c.Name, true
	}
	if c.Description != nil && *c.Description != k.Description {
		e.Description, changed = c.Description, true
	}
	if c.Scopes != nil && !slices.Equal(*c.Scopes, k.Scopes) {
		e.Scopes, changed = c.Scopes, true
	}
	if c.Metadata != nil && !maps.Equal(*c.Metadata, k.Metadata) {
		e.Metadata, changed = c.Metadata, true
	}
	if c.AllowedIPs != nil && !slices.Equal(*c.AllowedIPs, k.AllowedIPs) {
		e.AllowedIPs, changed = c.AllowedIPs, true
	}
	if c.Expiry != nil && !c.Expiry.At.Equal(k.ExpiresAt) {
		e.Expiry, changed = c.Expiry, true
	}
	if !changed {
		return nil, nil
	}
	return []KeyEvent{e}, nil
}

// checkUpdate checks the changed key as a whole. A rotated key's end is fixed:
// moving its expiry would leave two ends to choose from.
func checkUpdate(k Key, c UpdateKey, now time.Time) error {
	if c.Expiry != nil {
		if k.Rotated() && !c.Expiry.At.Equal(k.ExpiresAt) {
			return keyRotated(k)
		}
		if err := checkExpiry(c.Expiry.At, now); err != nil {
			return err
		}
	}
	changed := evolveUpdated(k, KeyUpdated{
		Name: c.Name, Description: c.Description, Scopes: c.Scopes, Metadata: c.Metadata, AllowedIPs: c.AllowedIPs,
	})
	return checkSpec(changed.KeySpec, now)
}

func decideRotate(k Key, c RotateKey, now time.Time) ([]KeyEvent, error) {
	if err := requireActive(k, now); err != nil {
		return nil, err
	}
	if k.Rotated() {
		return nil, keyRotated(k)
	}
	if c.Overlap < 0 || c.Overlap > MaxOverlap {
		return nil, Invalid(CodeValidation, "/overlap", "out of range", "use a duration from 0s to 8760h, for example 24h")
	}
	ends := now.Add(c.Overlap)
	if longer(ends, k.ExpiresAt) {
		return nil, Invalid("overlap_beyond_expiry", "/overlap", "the old key expires before the overlap ends",
			"use a shorter overlap; the key expires at "+k.ExpiresAt.Format(time.RFC3339))
	}
	events := []KeyEvent{KeyRotated{ReplacedBy: c.NewID, EndsAt: ends, RotatedAt: now}}
	if c.Overlap == 0 {
		events = append(events, KeyRevoked{Reason: ReasonRotated, RevokedAt: now})
	}
	return events, nil
}

func decideRevoke(k Key, c RevokeKey, now time.Time) ([]KeyEvent, error) {
	if err := checkText("/reason", c.Reason, 1, MaxReasonLength); err != nil {
		return nil, err
	}
	switch k.Status(now) {
	case StatusRevoked:
		return nil, nil
	case StatusExpired:
		return nil, keyExpired(k)
	default:
		return []KeyEvent{KeyRevoked{Reason: c.Reason, RevokedAt: now}}, nil
	}
}

func decideLeak(k Key, c ReportLeak, now time.Time) ([]KeyEvent, error) {
	if err := checkText("/source", c.Source, 1, MaxNameLength); err != nil {
		return nil, err
	}
	if err := checkText("/location", c.Location, 0, MaxReasonLength); err != nil {
		return nil, err
	}
	var events []KeyEvent
	if k.LeakedAt.IsZero() {
		events = append(events, KeyLeaked{Source: c.Source, Location: c.Location, LeakedAt: now})
	}
	if c.Revoke && k.Status(now) == StatusActive {
		events = append(events, KeyRevoked{Reason: ReasonLeaked, RevokedAt: now})
	}
	return events, nil
}

// decideNotify ignores rotated keys: the end of an overlap is no expiry, and the
// expiry itself will not be reached.
func decideNotify(k Key, c NotifyExpiry, now time.Time) ([]KeyEvent, error) {
	lead := c.Lead.Truncate(time.Second)
	due := k.Expiring(now, lead) && k.ExpiresAt.Equal(c.Deadline) && !k.Rotated()
	given := k.NoticeLead != 0 && k.NoticeLead <= lead
	if lead <= 0 || !due || given {
		return nil, nil
	}
	return []KeyEvent{KeyExpiring{ExpiresAt: k.ExpiresAt, LeadSeconds: int64(lead / time.Second)}}, nil
}

func decideExpire(k Key, c ExpireKey, now time.Time) ([]KeyEvent, error) {
	if !k.ExpiredAt.IsZero() || !k.ExpiresAt.Equal(c.Deadline) || k.Status(now) != StatusExpired {
		return nil, nil
	}
	return []KeyEvent{KeyExpired{ExpiresAt: k.ExpiresAt}}, nil
}

// decideEndOverlap dates the revocation at the promised end, however late it is written.
func decideEndOverlap(k Key, now time.Time) ([]KeyEvent, error) {
	if !k.RevokedAt.IsZero() || !k.ExpiredAt.IsZero() || !passed(k.EndsAt, now) {
		return nil, nil
	}
	return []KeyEvent{KeyRevoked{Reason: ReasonRotated, RevokedAt: k.EndsAt}}, nil
}

func requireActive(k Key, now time.Time) error {
	switch k.Status(now) {
	case StatusRevoked:
		return NewError(KindConflict, CodeKeyRevoked, "the key is revoked, and that is final", "create a new key")
	case StatusExpired:
		return keyExpired(k)
	default:
		return nil
	}
}

func keyExpired(k Key) error {
	return NewError(KindConflict, CodeKeyExpired, "the key expired at "+k.ExpiresAt.Format(time.RFC3339)+", and that is final", "create a new key")
}

func keyRotated(k Key) error {
	return NewError(KindConflict, CodeKeyRotated, "the key was rotated and ends at "+k.EndsAt.Format(time.RFC3339),
		"act on its successor "+string(k.ReplacedBy)+", or revoke this key to end it now")
}
