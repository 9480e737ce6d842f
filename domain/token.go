package domain

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// A token is <prefix> <id 16> <secret 32> <checksum 6>, with prefix
// sk_live_, sk_test_ (after an optional brand, acme_sk_live_) or kl_admin_.
// The id is public, the secret holds 190 bits, and the checksum is the CRC-32
// (IEEE) of everything before it, so that a typo is told from a wrong key
// without a lookup.
const (
	base62Alphabet  = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	secretChars     = 32
	checksumChars   = 6
	tokenBodyLength = tokenIDChars + secretChars + checksumChars

	prefixLive       = "sk_live_"
	prefixTest       = "sk_test_"
	prefixManagement = "kl_admin_"

	displayIDChars = 8
	maxBrandLength = 16
)

// ErrTokenForm says that a string is not a token: wrong prefix, length, alphabet
// or checksum.
var ErrTokenForm = errors.New("not the form of a token")

// TokenFormat knows the prefixes of an installation. The zero value has no brand.
type TokenFormat struct{ brand string }

// NewTokenFormat makes a format with a brand in front of ordinary keys' prefixes:
// scanners take a plain sk_live_ for another company's keys. "" means no brand.
func NewTokenFormat(brand string) (TokenFormat, error) {
	if brand == "" {
		return TokenFormat{}, nil
	}
	ok := len(brand) <= maxBrandLength && brand[0] >= 'a' && brand[0] <= 'z'
	for i := range len(brand) {
		c := brand[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9')
	}
	if !ok {
		return TokenFormat{}, Invalid("invalid_brand", "/brand", "not the form of a brand",
			"use 1 to 16 lower-case letters and digits, beginning with a letter")
	}
	return TokenFormat{brand: brand + "_"}, nil
}

// Prefix returns what the tokens of such keys begin with.
func (f TokenFormat) Prefix(t KeyType, env Environment) string {
	switch {
	case t == KeyTypeManagement:
		return prefixManagement
	case env == EnvironmentLive:
		return f.brand + prefixLive
	default:
		return f.brand + prefixTest
	}
}

// Display returns what pages and lists show of a key's token: its prefix and the
// first 8 characters of its id, never a character of the secret.
func (f TokenFormat) Display(t KeyType, env Environment, id KeyID) string {
	shown := strings.TrimPrefix(string(id), keyIDPrefix)
	return f.Prefix(t, env) + shown[:min(displayIDChars, len(shown))] + "…"
}

// NewToken makes the token of a key. The secret's 32 characters are drawn from
// entropy, which must be crypto/rand outside tests. id must carry a token id.
func (f TokenFormat) NewToken(t KeyType, env Environment, id KeyID, entropy io.Reader) (Secret, error) {
	tokenID := id.TokenID()
	if tokenID == "" {
		return Secret{}, fmt.Errorf("make token: key id %q carries no token id", id)
	}
	secret, err := RandomBase62(entropy, secretChars)
	if err != nil {
		return Secret{}, fmt.Errorf("make token: %w", err)
	}
	body := f.Prefix(t, env) + tokenID + secret
	return NewSecret(body + checksum(body)), nil
}

// ParsedToken is what a token says about itself; none of it is secret.
type ParsedToken struct {
	Type        KeyType
	Environment Environment // "" for management keys
	KeyID       KeyID
}

// ParseToken reads the public parts of a token of this format and checks its
// checksum. It returns [ErrTokenForm] for anything else, whatever else it may be
// (an imported key of another form, for example). It does not allocate on failure.
func (f TokenFormat) ParseToken(token string) (ParsedToken, error) {
	typ, env, tokenID, ok := f.split(token)
	if !ok {
		return ParsedToken{}, ErrTokenForm
	}
	return ParsedToken{Type: typ, Environment: env, KeyID: NewKeyID(tokenID)}, nil
}

// Matches reports whether [TokenFormat.ParseToken] would succeed. It never allocates.
func (f TokenFormat) Matches(token string) bool {
	_, _, _, ok := f.split(token)
	return ok
}

func (f TokenFormat) split(token string) (typ KeyType, env Environment, tokenID string, ok bool) {
	for _, p := range [...]struct {
		brand, prefix string
		typ           KeyType
		env           Environment
	}{
		{f.brand, prefixLive, KeyTypeAPI, EnvironmentLive},
		{f.brand, prefixTest, KeyTypeAPI, EnvironmentTest},
		{"", prefixManagement, KeyTypeManagement, ""},
	} {
		rest, found := strings.CutPrefix(token, p.brand)
		if !found {
			continue
		}
		if rest, found = strings.CutPrefix(rest, p.prefix); !found {
			continue
		}
		if !validTokenBody(token, rest) {
			return "", "", "", false
		}
		return p.typ, p.env, rest[:tokenIDChars], true
	}
	return "", "", "", false
}

// validTokenBody checks body, the last characters of token, and its checksum.
func validTokenBody(token, body string) bool {
	if len(body) != tokenBodyLength || !isBase62(body) {
		return false
	}
	cut := len(token) - checksumChars
	var want [checksumChars]byte
	putChecksum(&want, token[:cut])
	return token[cut:] == string(want[:])
}

// suspectChars is how many characters behind a prefix make a string look like a
// key: more than its public id, so that some of its secret is there.
const suspectChars = tokenIDChars + 4

// ContainsToken reports whether text holds what looks like a key, whole or in part,
// with a right checksum or not, of any brand: a prefix and enough characters behind
// it. It guards free text, where a pasted key would be kept for ever, and ids and
// names that are logged.
func ContainsToken(text string) bool {
	for _, prefix := range [...]string{prefixLive, prefixTest, prefixManagement} {
		rest := text
		for {
			var found bool
			if _, rest, found = strings.Cut(rest, prefix); !found {
				break
			}
			if len(rest) >= suspectChars && isBase62(rest[:suspectChars]) {
				return true
			}
		}
	}
	return false
}

func checksum(s string) string {
	var out [checksumChars]byte
	putChecksum(&out, s)
	return string(out[:])
}

// putChecksum writes the CRC-32 (IEEE) of s in base62, big-endian, left-padded
// with '0'. 62^6 is larger than 2^32, so six characters always suffice.
func putChecksum(out *[checksumChars]byte, s string) {
	crc := ^uint32(0) // byte by byte: crc32.Update takes a slice that escapes, and the caller may not allocate
	for i := range len(s) {
		crc = crc32.IEEETable[(crc^uint32(s[i]))&0xff] ^ crc>>8
	}
	crc = ^crc
	for i := checksumChars - 1; i >= 0; i-- {
		out[i] = base62Alphabet[crc%62]
		crc /= 62
	}
}

// RandomBase62 draws n characters from entropy without modulo bias: bytes from
// 248 on are rejected, 248 being the largest multiple of 62 that a byte holds.
func RandomBase62(entropy io.Reader, n int) (string, error) {
	out := make([]byte, 0, n)
	buf := make([]byte, n+n/8+1)
	for len(out) < n {
		if _, err := io.ReadFull(entropy, buf); err != nil {
			return "", fmt.Errorf("read entropy: %w", err)
		}
		for _, b := range buf {
			if b < 248 && len(out) < n {
				out = append(out, base62Alphabet[b%62])
			}
		}
	}
	return string(out), nil
}
