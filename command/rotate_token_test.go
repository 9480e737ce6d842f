package command

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// A rotation takes the hash of a token that the caller made, like a creation does.
func TestRotationToATokenOfTheCallers(t *testing.T) {
	f := newFixture(t)
	created := f.mustCreate(t, "c1")
	f.claims[created.Key.Mac] = created.Key.ID
	sum := sha256.Sum256([]byte("the next token, which the caller keeps"))
	how := Rotation{Overlap: time.Hour, TokenSHA256: hex.EncodeToString(sum[:])}
	rotated, err := f.RotateKey(t.Context(), as("r1"), target(created), how)
	if err != nil || !rotated.Token.IsZero() || rotated.Replayed || rotated.Key.Mac != f.Handler.pepper.Mac(sum) {
		t.Fatalf("rotated %+v, %v", rotated, err)
	}
	f.claims[rotated.Key.Mac] = rotated.Key.ID
	repeat, err := f.RotateKey(t.Context(), as("r1"), target(created), how)
	if err != nil || !repeat.Replayed || repeat.Key.ID != rotated.Key.ID {
		t.Errorf("repeat %+v, %v", repeat, err)
	}
	other := how
	other.TokenSHA256 = strings.Repeat("0", 64)
	_, err = f.RotateKey(t.Context(), as("r1"), target(created), other)
	mustRefuse(t, err, domain.CodeIdempotencyConflict)
	_, err = f.RotateKey(t.Context(), as("r2"), target(rotated), Rotation{TokenSHA256: how.TokenSHA256})
	mustRefuse(t, err, domain.CodeTokenInUse)
	other.TokenSHA256 = "abc"
	_, err = f.RotateKey(t.Context(), as("r3"), target(rotated), other)
	mustRefuse(t, err, domain.CodeValidation)
}
