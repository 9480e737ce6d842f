package domain

import (
	"bytes"
	"testing"
)

// A token is made of the characters of ids. As an account it would be kept in
// subjects and events for ever.
func TestIDsAreNoTokens(t *testing.T) {
	token, err := TokenFormat{}.NewToken(KeyTypeManagement, "", "key_AAAAAAAAAAAAAAAA", bytes.NewReader(make([]byte, 100)))
	if err != nil {
		t.Fatal(err)
	}
	if !ValidID(token.Reveal()) {
		t.Fatal("a token has not the form of an id any more; this test can go")
	}
	if _, err := ParseAccountID(token.Reveal()); err == nil {
		t.Error("a token was taken for an account")
	}
	if _, err := ParseKeyID(token.Reveal()); err == nil {
		t.Error("a token was taken for a key's id")
	}
}
