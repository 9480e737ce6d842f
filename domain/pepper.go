package domain

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Mac is what the log keeps of a token: HMAC-SHA256(pepper, SHA-256(token)). It
// stays in events and verifiers; it never leaves through a webhook, page or answer.
type Mac [sha256.Size]byte

// IsZero reports whether the mac is unset.
func (m Mac) IsZero() bool { return m == Mac{} }

// MarshalText renders the mac in hex.
func (m Mac) MarshalText() ([]byte, error) {
	return hex.AppendEncode(nil, m[:]), nil
}

// UnmarshalText reads hex.
func (m *Mac) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(m)) {
		return fmt.Errorf("a mac has %d hex characters, not %d", hex.EncodedLen(len(m)), len(text))
	}
	_, err := hex.Decode(m[:], text)
	return err
}

// PepperSize is the size of a pepper in bytes.
const PepperSize = 32

// Pepper is a secret that turns tokens into macs. It lives in a keyring file
// outside the log: whoever reads only the log cannot test candidate tokens, and
// whoever writes only the log cannot mint a key.
//
// It is safe for concurrent use, and computing a mac does not allocate.
type Pepper struct {
	id           string
	inner, outer [sha256.BlockSize]byte
}

// NewPepper makes a pepper from 32 bytes. The id is what events name it by.
func NewPepper(id string, key []byte) (Pepper, error) {
	if !ValidID(id) {
		return Pepper{}, fmt.Errorf("pepper id %q: use 1 to 64 letters, digits, '-' and '_'", id)
	}
	if len(key) != PepperSize {
		return Pepper{}, fmt.Errorf("pepper %s: %d bytes, want %d", id, len(key), PepperSize)
	}
	p := Pepper{id: id}
	copy(p.inner[:], key)
	copy(p.outer[:], key)
	for i := range p.inner {
		p.inner[i] ^= 0x36
		p.outer[i] ^= 0x5c
	}
	return p, nil
}

// ID returns the pepper's id.
func (p *Pepper) ID() string { return p.id }

// String hides the key, whatever the verb of the caller.
func (p Pepper) String() string { return "pepper " + p.id }

// GoString hides the key from %#v.
func (p Pepper) GoString() string { return p.String() }

// Mac computes the mac of a token by the SHA-256 of the token. Because it starts
// from the hash, keys that were hashed with plain SHA-256 elsewhere can be imported.
//
// The HMAC (RFC 2104) is spelled out over sha256.Sum256 because crypto/hmac
// allocates its state, and this runs once per verification; a test holds it
// against crypto/hmac.
func (p *Pepper) Mac(tokenSHA256 [sha256.Size]byte) Mac {
	var message [sha256.BlockSize + sha256.Size]byte
	copy(message[:], p.inner[:])
	copy(message[sha256.BlockSize:], tokenSHA256[:])
	digest := sha256.Sum256(message[:])
	copy(message[:], p.outer[:])
	copy(message[sha256.BlockSize:], digest[:])
	return sha256.Sum256(message[:])
}
