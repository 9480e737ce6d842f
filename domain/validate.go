package domain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of what a key may hold. Lengths are in characters.
const (
	MaxNameLength        = 100
	MaxDescriptionLength = 500
	MaxReasonLength      = 500
	MaxAllowedIPs        = 32
	MaxMetadataEntries   = 16
	MaxMetadataKey       = 40
	MaxMetadataValue     = 500
	// MaxOverlap bounds how long a rotated key may go on working.
	MaxOverlap = 365 * 24 * time.Hour
	maxYear    = 9999 // RFC 3339 has four-digit years
)

// checkSpec checks what a key is to be made with. Scopes were resolved against a
// catalogue before; here only their number is looked at.
func checkSpec(s KeySpec, now time.Time) error {
	if !ValidID(string(s.ID)) || !ValidID(string(s.Account)) || s.Mac.IsZero() || s.PepperID == "" || s.Display == "" {
		return NewError(KindInternal, "incomplete_command", "the command lacks an id, account, mac, pepper or display", "report this as a bug")
	}
	if err := checkType(s); err != nil {
		return err
	}
	if len(s.Scopes) == 0 || len(s.Scopes) > maxScopes {
		return Invalid(CodeValidation, "/scopes", fmt.Sprintf("%d scopes", len(s.Scopes)), fmt.Sprintf("name 1 to %d scopes", maxScopes))
	}
	if err := checkName(s.Name); err != nil {
		return err
	}
	if err := checkText("/description", s.Description, 0, MaxDescriptionLength); err != nil {
		return err
	}
	if err := checkExpiry(s.ExpiresAt, now); err != nil {
		return err
	}
	if err := checkAllowedIPs(s.AllowedIPs); err != nil {
		return err
	}
	return checkMetadata(s.Metadata)
}

func checkType(s KeySpec) error {
	switch s.Type {
	case KeyTypeAPI:
		if s.Account == RootAccount {
			return Invalid(CodeValidation, "/account", "the instance's own account has no customers' keys", "name a customer's account")
		}
		if !s.Environment.Valid() {
			return Invalid(CodeValidation, "/environment", "neither live nor test", `use "live" or "test"`)
		}
		if s.Grants != nil {
			return Invalid(CodeValidation, "/grants", "an ordinary key grants nothing", "leave grants out, or make a management key")
		}
	case KeyTypeManagement:
		if s.Environment != "" {
			return Invalid(CodeValidation, "/environment", "a management key has no environment", "leave environment out; say in grants which it may give")
		}
		if len(s.AllowedIPs) > 0 {
			return Invalid(CodeValidation, "/allowed_ips", "not kept for management keys", "leave allowed_ips out; restrict the server's listener instead")
		}
		if s.Grants != nil && !allValid(s.Grants.Environments) {
			return Invalid(CodeValidation, "/grants/environments", "neither live nor test", `use "live" and "test"`)
		}
	default:
		return Invalid(CodeValidation, "/key_type", "not a type of key", `use "api" or "management"`)
	}
	return nil
}

func allValid(environments []Environment) bool {
	return !slices.ContainsFunc(environments, func(e Environment) bool { return !e.Valid() })
}

func checkName(name string) error {
	if strings.TrimSpace(name) == "" {
		return Invalid(CodeValidation, "/name", "empty", `give the key a name, for example "Production Server"`)
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return Invalid(CodeValidation, "/name", "holds control characters", "use printable characters")
	}
	return checkText("/name", name, 1, MaxNameLength)
}

// checkText checks a free-text member: its length in characters, that it is text,
// and that nobody pasted a token into it.
func checkText(pointer, text string, atLeast, atMost int) error {
	if !utf8.ValidString(text) {
		return Invalid(CodeValidation, pointer, "not valid UTF-8", "send UTF-8 text")
	}
	if n := utf8.RuneCountInString(text); n < atLeast || n > atMost {
		return Invalid(CodeValidation, pointer, fmt.Sprintf("%d characters", n), fmt.Sprintf("use %d to %d characters", atLeast, atMost))
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }) {
		return Invalid(CodeValidation, pointer, "holds control characters", "use printable characters")
	}
	if ContainsToken(text) {
		return Invalid(CodeSecretInText, pointer, "holds an API key, or much of one",
			"take the key out: what is written here is kept for ever and shown to others; revoke that key if it has been shared")
	}
	return nil
}

func checkExpiry(at, now time.Time) error {
	if at.IsZero() {
		return nil
	}
	if !at.After(now) {
		return Invalid(CodeExpiryInPast, "/expires_at", "not in the future", "choose a later time, or leave the expiry out")
	}
	if at.UTC().Year() > maxYear {
		return Invalid(CodeValidation, "/expires_at", "beyond the year 9999", "choose an earlier time, or leave the expiry out")
	}
	return nil
}

func checkAllowedIPs(prefixes []netip.Prefix) error {
	if len(prefixes) > MaxAllowedIPs {
		return Invalid(CodeValidation, "/allowed_ips", fmt.Sprintf("%d entries", len(prefixes)), fmt.Sprintf("use at most %d, or wider ranges", MaxAllowedIPs))
	}
	for i, p := range prefixes {
		if !p.IsValid() {
			return Invalid(CodeValidation, fmt.Sprintf("/allowed_ips/%d", i), "not an address range", "use CIDR notation, for example 203.0.113.0/24")
		}
	}
	return nil
}

func checkMetadata(metadata map[string]string) error {
	if len(metadata) > MaxMetadataEntries {
		return Invalid(CodeValidation, "/metadata", fmt.Sprintf("%d entries", len(metadata)), fmt.Sprintf("use at most %d", MaxMetadataEntries))
	}
	for key, value := range metadata {
		if err := checkText("/metadata", key, 1, MaxMetadataKey); err != nil {
			return err
		}
		if err := checkText("/metadata/"+escapePointer(key), value, 0, MaxMetadataValue); err != nil {
			return err
		}
	}
	return nil
}

// escapePointer writes a member name as a JSON pointer token (RFC 6901, section 3).
func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// ParseExpiresOn reads a date, "2026-12-31", as the instant at which a key expires:
// midnight UTC at the beginning of that day.
func ParseExpiresOn(date string) (time.Time, error) {
	at, err := time.ParseInLocation(time.DateOnly, date, time.UTC)
	if err != nil {
		return time.Time{}, Invalid(CodeValidation, "/expires_on", "not a date", "use the form 2026-12-31")
	}
	return at, nil
}

// ParseAllowedIPs reads CIDR ranges and single addresses, masks host bits and
// unwraps IPv4-mapped addresses, so that equal ranges are equal texts.
func ParseAllowedIPs(texts []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(texts))
	for i, text := range texts {
		prefix, err := parseRange(text)
		if err != nil {
			return nil, Invalid(CodeValidation, fmt.Sprintf("/allowed_ips/%d", i), "not an address or range",
				"use CIDR notation or an address, for example 203.0.113.0/24 or 2001:db8::1")
		}
		prefixes = append(prefixes, prefix)
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes), nil
}

func parseRange(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("address with a zone")
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("parse range: %w", err)
	}
	if addr := prefix.Addr(); addr.Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("a mapped range wider than IPv4")
		}
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), nil
}
