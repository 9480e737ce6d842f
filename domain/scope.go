package domain

import (
	"fmt"
	"slices"
	"strings"
)

// Scope is one permission, "resource:action"; "resource:*" for every action of a
// resource; or [FullAccess].
type Scope string

// FullAccess covers every scope of the catalogue, whatever it grows to. It never
// covers a management scope.
const FullAccess Scope = "*"

// The scopes of the control plane. Only management keys hold them.
const (
	ScopeKeysRead      Scope = "keyledger.keys:read"
	ScopeKeysWrite     Scope = "keyledger.keys:write"
	ScopeWebhooksRead  Scope = "keyledger.webhooks:read"
	ScopeWebhooksWrite Scope = "keyledger.webhooks:write"
	ScopeAuditRead     Scope = "keyledger.audit:read"
	ScopeVerify        Scope = "keyledger.verify"
	ScopeCommands      Scope = "keyledger.commands"
	ScopeOperate       Scope = "keyledger.operate"
)

const (
	maxScopes      = 64
	maxScopeLength = 100
	resourceAny    = ":*"
)

// ScopeInfo describes a scope to people.
type ScopeInfo struct {
	Scope       Scope  `json:"scope"`
	Description string `json:"description"`
}

// Catalogue is the list of scopes that keys of one sort may hold. It is immutable.
type Catalogue struct {
	scopes    []ScopeInfo
	index     map[Scope]int
	resources map[string]bool
	wildcards bool
}

// DefaultCatalogue returns the product's twelve scopes.
func DefaultCatalogue() *Catalogue {
	return mustCatalogue(true, []ScopeInfo{
		{"invoices:read", "View invoices"},
		{"invoices:write", "Create and update invoices"},
		{"payment-links:read", "View payment links"},
		{"payment-links:write", "Create payment links"},
		{"clients:read", "View clients"},
		{"clients:write", "Create and update clients"},
		{"payouts:read", "View payouts"},
		{"payouts:write", "Create payouts"},
		{"disbursements:read", "View disbursements"},
		{"disbursements:write", "Create disbursements"},
		{"webhooks:read", "View webhook endpoints"},
		{"webhooks:write", "Manage webhook endpoints"},
	})
}

// ManagementCatalogue returns the scopes of the control plane. It has no
// wildcards: every power over keyledger is granted by name.
func ManagementCatalogue() *Catalogue {
	return mustCatalogue(false, []ScopeInfo{
		{ScopeKeysRead, "View keys and their history"},
		{ScopeKeysWrite, "Create, update, rotate and revoke keys within the key's grants"},
		{ScopeWebhooksRead, "View webhook endpoints and deliveries"},
		{ScopeWebhooksWrite, "Manage webhook endpoints"},
		{ScopeAuditRead, "Read the event log and the audit log"},
		{ScopeVerify, "Ask whether a key may pass"},
		{ScopeCommands, "Send commands over NATS"},
		{ScopeOperate, "Manage management keys and the instance"},
	})
}

// NewCatalogue makes a catalogue of ordinary scopes. Each must be
// "resource:action" in lower case, listed once, and outside the keyledger namespace.
func NewCatalogue(scopes []ScopeInfo) (*Catalogue, error) {
	if len(scopes) == 0 {
		return nil, Invalid("invalid_catalogue", "", "the scope catalogue is empty", "list at least one scope")
	}
	c := newCatalogue(true, scopes)
	for i, s := range scopes {
		pointer := fmt.Sprintf("/%d/scope", i)
		resource, action, ok := strings.Cut(string(s.Scope), ":")
		switch {
		case !ok || !isScopeWord(resource) || !isScopeWord(action) || len(s.Scope) > maxScopeLength:
			return nil, Invalid("invalid_catalogue", pointer, "not the form of a scope",
				"use resource:action in lower-case letters, digits, '-', '_' and '.'")
		case strings.HasPrefix(resource, "keyledger."):
			return nil, Invalid("invalid_catalogue", pointer, "the keyledger namespace is reserved", "choose another resource name")
		case c.index[s.Scope] != i:
			return nil, Invalid("invalid_catalogue", pointer, "listed twice", "list each scope once")
		}
	}
	return c, nil
}

func mustCatalogue(wildcards bool, scopes []ScopeInfo) *Catalogue {
	return newCatalogue(wildcards, scopes)
}

func newCatalogue(wildcards bool, scopes []ScopeInfo) *Catalogue {
	c := &Catalogue{
		scopes: slices.Clone(scopes), index: make(map[Scope]int, len(scopes)),
		resources: map[string]bool{}, wildcards: wildcards,
	}
	for i, s := range scopes {
		c.index[s.Scope] = i
		if resource, _, ok := strings.Cut(string(s.Scope), ":"); ok {
			c.resources[resource] = true
		}
	}
	return c
}

// All returns the scopes with their descriptions, in catalogue order.
func (c *Catalogue) All() []ScopeInfo { return slices.Clone(c.scopes) }

// Len returns the number of scopes.
func (c *Catalogue) Len() int { return len(c.scopes) }

// Index returns a scope's place in the catalogue; ok is false for a scope that is
// not listed, wildcards included. It does not allocate.
func (c *Catalogue) Index(s Scope) (i int, ok bool) {
	i, ok = c.index[s]
	return i, ok
}

// Resolve checks a list of scopes against the catalogue and returns it sorted and
// without repeats. "resource:*" and "*" are accepted where the catalogue has
// wildcards; "*" swallows the rest. pointer is the JSON pointer of the list, for errors.
func (c *Catalogue) Resolve(pointer string, scopes []Scope) (Scopes, error) {
	if len(scopes) == 0 {
		return nil, Invalid(CodeValidation, pointer, "no scope is given", "name at least one scope of GET /v1/scopes, or ask for full access")
	}
	if len(scopes) > maxScopes {
		return nil, Invalid(CodeValidation, pointer, fmt.Sprintf("%d scopes, at most %d", len(scopes), maxScopes), "name fewer scopes, or use resource:*")
	}
	for i, s := range scopes {
		if !c.accepts(s) {
			return nil, Invalid(CodeUnknownScope, fmt.Sprintf("%s/%d", pointer, i), "not a scope of the catalogue",
				"choose from GET /v1/scopes")
		}
	}
	if slices.Contains(scopes, FullAccess) {
		return Scopes{FullAccess}, nil
	}
	sorted := slices.Clone(scopes)
	slices.Sort(sorted)
	return Scopes(slices.Compact(sorted)), nil
}

func (c *Catalogue) accepts(s Scope) bool {
	if _, listed := c.index[s]; listed {
		return true
	}
	if !c.wildcards {
		return false
	}
	resource, isAny := strings.CutSuffix(string(s), resourceAny)
	return s == FullAccess || isAny && c.resources[resource]
}

// Scopes is a set of scopes, sorted, without repeats.
type Scopes []Scope

// Cover reports whether the set includes what s grants: "*" includes everything,
// "resource:*" its resource, and a wildcard is included only by one at least as
// wide, since it grows with the catalogue. Whether a required scope exists at all
// is the catalogue's question, not the set's. Management scopes are covered only by name.
func (set Scopes) Cover(s Scope) bool {
	resource, _, _ := strings.Cut(string(s), ":")
	management := strings.HasPrefix(string(s), "keyledger.")
	for _, have := range set {
		if have == s {
			return true
		}
		if management {
			continue
		}
		if have == FullAccess {
			return true
		}
		if wide, isAny := strings.CutSuffix(string(have), resourceAny); isAny && wide == resource && s != FullAccess {
			return true
		}
	}
	return false
}

// Beyond returns the members of other that the set does not cover.
func (set Scopes) Beyond(other Scopes) Scopes {
	var beyond Scopes
	for _, s := range other {
		if !set.Cover(s) {
			beyond = append(beyond, s)
		}
	}
	return beyond
}

func isScopeWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return s != ""
}
