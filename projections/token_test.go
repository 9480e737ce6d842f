package projections

import (
	"testing"

	"github.com/keyledger/keyledger/domain"
)

// FuzzParseToken: no text but the token that was made for a query is accepted with
// it, and nothing panics.
func FuzzParseToken(f *testing.F) {
	const filter = "keys of someone"
	valid := makeToken(pageToken{Position: Position{Seq: 42}, Now: 1_700_000_000_000_000}, filter)
	for _, seed := range [...]string{"", valid, valid[:len(valid)-1], valid + "=", valid + "\n", "e30", "eyJzIjo0Mn0", "bnVsbA"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		p, err := parseToken(token, filter)
		if err != nil {
			if domain.KindOf(err) != domain.KindInvalid || domain.CodeOf(err) != CodeInvalidPageToken {
				t.Fatalf("error %v", err)
			}
			return
		}
		if makeToken(p, filter) != token {
			t.Fatalf("%q was accepted as %+v", token, p)
		}
		if _, err := parseToken(token, filter+" else"); err == nil {
			t.Fatalf("%q was accepted with another filter", token)
		}
	})
}

func TestTokensOfOneCharacterChanged(t *testing.T) {
	const filter = "keys of someone"
	valid := makeToken(pageToken{Position: Position{Seq: 42}, Now: 7}, filter)
	if p, err := parseToken(valid, filter); err != nil || p.Seq != 42 || p.Now != 7 {
		t.Fatalf("%+v, %v", p, err)
	}
	for i := range valid {
		mangled := []byte(valid)
		for c := range 256 {
			mangled[i] = byte(c)
			if _, err := parseToken(string(mangled), filter); err == nil && string(mangled) != valid {
				t.Fatalf("%q was accepted for %q", mangled, valid)
			}
		}
	}
}
