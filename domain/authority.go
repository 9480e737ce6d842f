package domain

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Authority is what the bearer of a management key may do: its account, scopes
// and ceiling. Nobody grants more than they hold.
type Authority struct {
	Actor     ActorID
	Account   AccountID
	Scopes    Scopes
	Grants    Grants
	ExpiresAt time.Time // zero: never
}

// AuthorityOf returns what a management key confers on its bearer.
func AuthorityOf(k Key) Authority {
	a := Authority{Actor: ActorID(k.ID), Account: k.Account, Scopes: k.Scopes, ExpiresAt: k.ExpiresAt}
	if k.Grants != nil {
		a.Grants = *k.Grants
	}
	return a
}

// Instance reports whether the authority reaches over all accounts.
func (a Authority) Instance() bool { return a.Account == RootAccount }

// May returns a KindForbidden error unless the authority holds the scope.
func (a Authority) May(s Scope) error {
	if a.Scopes.Cover(s) {
		return nil
	}
	return &Error{
		Kind: KindForbidden, Code: CodeMissingScope,
		Message: "the management key lacks the scope " + string(s),
		Fix:     "use a management key that has it",
	}
}

// ResolveAccount returns the account a request is about. Only instance keys may
// name one; for others it is their own. "" means the authority's own account, or
// [DefaultAccount] for instance keys.
func (a Authority) ResolveAccount(named AccountID) (AccountID, error) {
	switch {
	case a.Instance() && named == "":
		return DefaultAccount, nil
	case a.Instance() || named == a.Account:
		return named, nil
	case named == "":
		return a.Account, nil
	default:
		return "", &Error{
			Kind: KindForbidden, Code: CodeCeiling, Message: "the management key belongs to one account and cannot name another",
			Fix: "leave account out, or use an instance management key", Fields: []FieldError{{Pointer: "/account", Detail: "another account"}},
		}
	}
}

// Reaches reports whether things of the account exist for the authority.
func (a Authority) Reaches(account AccountID) bool { return a.Instance() || a.Account == account }

// CheckSpec returns a KindForbidden error if making a key of this spec would grant
// more than the authority may: another account, environment, scope or grant, or a
// longer life.
func (a Authority) CheckSpec(spec KeySpec) error {
	if !a.Reaches(spec.Account) {
		return a.beyond("/account", "another account")
	}
	if err := a.checkLife(spec.ExpiresAt); err != nil {
		return err
	}
	if spec.Type == KeyTypeManagement {
		return a.checkManagement(spec)
	}
	if spec.Environment.Valid() && !slices.Contains(a.Grants.Environments, spec.Environment) { // an invalid one is refused by Decide, as invalid
		return a.beyond("/environment", "an environment outside the grants")
	}
	return a.checkGranted(spec.Scopes)
}

// CheckUpdate returns a KindForbidden error if the change widens what the key may
// do (scopes it did not have, a longer life, more addresses) and the authority may
// not make the key that would come of it. Taking away is always allowed.
func (a Authority) CheckUpdate(k Key, c UpdateKey) error {
	changed := evolveUpdated(k, KeyUpdated{Scopes: c.Scopes, AllowedIPs: c.AllowedIPs, Expiry: c.Expiry})
	widened := len(k.Scopes.Beyond(changed.Scopes)) > 0 || longer(changed.ExpiresAt, k.ExpiresAt) ||
		wider(changed.AllowedIPs, k.AllowedIPs)
	if !widened {
		return nil
	}
	return a.CheckSpec(changed.KeySpec)
}

// CheckRevoke returns a KindForbidden error unless the authority holds all that a
// management key holds. So the strongest keys are ended by their equals only, and
// an instance cannot lose its last one to a weaker key. Ordinary keys are revoked by
// whoever may write keys.
func (a Authority) CheckRevoke(k Key) error {
	if k.Type != KeyTypeManagement {
		return nil
	}
	return a.checkManagement(k.KeySpec)
}

func (a Authority) checkManagement(spec KeySpec) error {
	if beyond := a.Scopes.Beyond(spec.Scopes); len(beyond) > 0 {
		return a.beyond("/scopes", "management scopes the caller does not hold: "+join(beyond))
	}
	if spec.Grants == nil {
		return nil
	}
	for _, env := range spec.Grants.Environments {
		if env.Valid() && !slices.Contains(a.Grants.Environments, env) {
			return a.beyond("/grants/environments", "an environment outside the caller's grants: "+string(env))
		}
	}
	if beyond := a.Grants.Scopes.Beyond(spec.Grants.Scopes); len(beyond) > 0 {
		return a.beyond("/grants/scopes", "outside the caller's grants: "+join(beyond))
	}
	return nil
}

func (a Authority) checkGranted(scopes Scopes) error {
	if beyond := a.Grants.Scopes.Beyond(scopes); len(beyond) > 0 {
		return a.beyond("/scopes", "outside the caller's grants: "+join(beyond))
	}
	return nil
}

func (a Authority) checkLife(expiresAt time.Time) error {
	if longer(expiresAt, a.ExpiresAt) {
		return a.beyond("/expires_at", "a longer life than the caller's own, which ends at "+a.ExpiresAt.Format(time.RFC3339))
	}
	return nil
}

func (a Authority) beyond(pointer, detail string) error {
	return &Error{
		Kind: KindForbidden, Code: CodeCeiling, Message: "the management key may not grant this",
		Fix:    "ask for less, or use a management key whose grants cover it",
		Fields: []FieldError{{Pointer: pointer, Detail: detail}},
	}
}

// longer reports whether a lasts longer than b, where a zero time means for ever.
func longer(a, b time.Time) bool {
	return !b.IsZero() && (a.IsZero() || a.After(b))
}

// wider reports whether a admits addresses that b does not; no ranges admit all.
func wider(a, b []netip.Prefix) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(b) > 0
	}
	return slices.ContainsFunc(a, func(p netip.Prefix) bool {
		return !slices.ContainsFunc(b, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
	})
}

func join(s Scopes) string {
	parts := make([]string, len(s))
	for i := range s {
		parts[i] = string(s[i])
	}
	return strings.Join(parts, ", ")
}
