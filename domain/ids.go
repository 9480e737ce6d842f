package domain

import "strings"

// AccountID names a tenant.
type AccountID string

// KeyID names a key: "key_" and the 16 characters that its token carries too.
type KeyID string

// ActorID names who asked for a change: the id of a management key, or
// [SystemActor]. It is opaque; it never holds a person's name or address.
type ActorID string

const (
	// DefaultAccount is the account where nobody names one.
	DefaultAccount AccountID = "default"
	// RootAccount owns the instance's own management keys. Customers' accounts
	// cannot begin with an underscore.
	RootAccount AccountID = "_root"
	// SystemActor is keyledger itself: the bootstrap of the operator and work done by the clock.
	SystemActor ActorID = "_system"
)

const (
	maxIDLength  = 64
	keyIDPrefix  = "key_"
	tokenIDChars = 16
)

// ValidID reports whether s may be part of a subject: ^[A-Za-z0-9_-]{1,64}$.
// Anything else (NATS wildcards, separators, spaces, control characters) never
// reaches the log.
func ValidID(s string) bool {
	if s == "" || len(s) > maxIDLength {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !isAlphanumeric(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// ParseKeyID checks s as the id of a key. Ids of a valid form that no key has are
// accepted here and not found later. A whole token is made of the same characters,
// and is refused: ids are logged and kept.
func ParseKeyID(s string) (KeyID, error) {
	if !ValidID(s) || ContainsToken(s) {
		return "", Invalid("invalid_id", "/id", "not the form of an id", "use the key's id as it was given, for example key_ and 16 letters and digits")
	}
	return KeyID(s), nil
}

// ParseAccountID checks s as the id of a customer's account, or the root account.
// Like [ParseKeyID] it refuses a token.
func ParseAccountID(s string) (AccountID, error) {
	if !ValidID(s) || ContainsToken(s) || (strings.HasPrefix(s, "_") && AccountID(s) != RootAccount) {
		return "", Invalid("invalid_account", "/account", "not the form of an account id",
			"use 1 to 64 letters, digits, '-' and '_'; a leading '_' is reserved")
	}
	return AccountID(s), nil
}

// NewKeyID makes the key id that belongs to the 16-character id inside a token.
func NewKeyID(tokenID string) KeyID { return KeyID(keyIDPrefix + tokenID) }

// TokenID returns the 16 characters that a token of this key carries, or "" for
// an id that no token of ours can carry.
func (id KeyID) TokenID() string {
	rest, ok := strings.CutPrefix(string(id), keyIDPrefix)
	if !ok || len(rest) != tokenIDChars || !isBase62(rest) {
		return ""
	}
	return rest
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

func isBase62(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) {
			return false
		}
	}
	return true
}
