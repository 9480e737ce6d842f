package client

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/keyledger/keyledger/domain"
)

// Token is the secret of a key. It prints, logs and marshals as "[redacted]";
// [domain.Secret.Reveal] is the one way to its text. The zero value holds none.
type Token struct{ domain.Secret }

// TokenOf wraps the text of a token, such as one that was kept.
func TokenOf(text string) Token { return Token{domain.NewSecret(text)} }

// SHA256 returns the hash that token_sha256 takes, in hex; "" of the zero value.
func (t Token) SHA256() string {
	if t.IsZero() {
		return ""
	}
	sum := sha256.Sum256([]byte(t.Reveal()))
	return hex.EncodeToString(sum[:])
}

// TokenSpec says what sort of token [NewToken] makes.
type TokenSpec struct {
	// Environment of the key: live or test. Required.
	Environment string
	// Brand stands before the prefix, as in acme_sk_live_…; it must be the server's.
	// "": none.
	Brand string
	// Entropy is where the secret is drawn from. nil: crypto/rand, and nothing else
	// outside tests.
	Entropy io.Reader
}

// NewToken makes a token here, so that only its hash needs to be sent: keep the
// token, then send [Token.SHA256] in a request's TokenSHA256. Whatever becomes of the
// answer, the key's token is known; and nothing on the way ever sees it.
//
// The token has the form that the server's have, checksum included. The id in it is
// drawn like the secret: the key's own id is in the answer.
func NewToken(spec TokenSpec) (Token, error) {
	env := domain.Environment(spec.Environment)
	if !env.Valid() {
		return Token{}, errors.New("make a token: the environment is live or test")
	}
	format, err := domain.NewTokenFormat(spec.Brand)
	if err != nil {
		return Token{}, err
	}
	entropy := spec.Entropy
	if entropy == nil {
		entropy = rand.Reader
	}
	id, err := domain.RandomBase62(entropy, tokenIDChars)
	if err != nil {
		return Token{}, fmt.Errorf("make a token: %w", err)
	}
	secret, err := format.NewToken(domain.KeyTypeAPI, env, domain.NewKeyID(id), entropy)
	return Token{secret}, err
}

// tokenIDChars is how long the id in a token is.
const tokenIDChars = 16

// NewCommandID returns a fresh id for a command, to be kept before the command is
// sent: whoever still has it can send the command again, or ask what became of it.
func NewCommandID() string { return uuid.NewString() }
