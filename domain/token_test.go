package domain

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
)

// zeros is an entropy source for tests: every byte is 0.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func mustToken(tb testing.TB, f TokenFormat, t KeyType, env Environment) (string, KeyID) {
	tb.Helper()
	id, err := RandomBase62(rand.Reader, 16)
	if err != nil {
		tb.Fatal(err)
	}
	token, err := f.NewToken(t, env, NewKeyID(id), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return token.Reveal(), NewKeyID(id)
}

func TestTokenRoundTrip(t *testing.T) {
	branded, err := NewTokenFormat("acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		format TokenFormat
		typ    KeyType
		env    Environment
		form   string
	}{
		{TokenFormat{}, KeyTypeAPI, EnvironmentLive, `^sk_live_[0-9A-Za-z]{54}$`},
		{TokenFormat{}, KeyTypeAPI, EnvironmentTest, `^sk_test_[0-9A-Za-z]{54}$`},
		{TokenFormat{}, KeyTypeManagement, "", `^kl_admin_[0-9A-Za-z]{54}$`},
		{branded, KeyTypeAPI, EnvironmentLive, `^acme_sk_live_[0-9A-Za-z]{54}$`},
		{branded, KeyTypeManagement, "", `^kl_admin_[0-9A-Za-z]{54}$`},
	} {
		token, id := mustToken(t, tc.format, tc.typ, tc.env)
		if !regexp.MustCompile(tc.form).MatchString(token) {
			t.Errorf("token does not match %s", tc.form)
		}
		parsed, err := tc.format.ParseToken(token)
		if want := (ParsedToken{tc.typ, tc.env, id}); err != nil || parsed != want {
			t.Errorf("ParseToken = %+v, %v; want %+v", parsed, err, want)
		}
		for _, text := range []string{"see " + token + ", please", token[:len(token)-1], token[:len(token)-30], token + "x"} {
			if !ContainsToken(text) {
				t.Errorf("%d characters of a %s token go unnoticed", len(text), tc.typ)
			}
		}
		if display := tc.format.Display(tc.typ, tc.env, id); ContainsToken(display + ", key of " + string(id)) {
			t.Errorf("%s passes for a token", display)
		}
	}
}

func TestParseTokenRefusesEveryTypo(t *testing.T) {
	token, _ := mustToken(t, TokenFormat{}, KeyTypeAPI, EnvironmentLive)
	for i := range len(token) {
		changed := []byte(token)
		changed[i] ^= 1
		if _, err := (TokenFormat{}).ParseToken(string(changed)); !errors.Is(err, ErrTokenForm) {
			t.Errorf("a change at %d goes unnoticed", i)
		}
	}
	for _, other := range []string{"", "sk_live_", token[1:], token[:len(token)-1], token + "0", " " + token, strings.Replace(token, "live", "test", 1), "acme_" + token} {
		if _, err := (TokenFormat{}).ParseToken(other); !errors.Is(err, ErrTokenForm) {
			t.Errorf("%d other characters pass for a token", len(other))
		}
	}
}

// TestChecksumIsTheDocumentedOne pins the format: anybody can compute it.
func TestChecksumIsTheDocumentedOne(t *testing.T) {
	// The check value that catalogues of CRCs give for CRC-32 (IEEE): 0xcbf43926.
	if got := checksum("123456789"); got != "3jZRME" || decode62(got) != 0xcbf43926 {
		t.Errorf("checksum %q decodes to %#x", got, decode62(got))
	}
	if got := checksum(""); got != "000000" {
		t.Errorf("checksum of nothing is %q, want it left-padded", got)
	}
}

func decode62(s string) (n uint64) {
	for i := range len(s) {
		n = n*62 + uint64(strings.IndexByte(base62Alphabet, s[i]))
	}
	return n
}

func TestRandomBase62RejectsRatherThanFolds(t *testing.T) {
	got, err := RandomBase62(bytes.NewReader([]byte{255, 0, 248, 61, 247, 62, 62, 62, 62, 62}), 4)
	if err != nil || got != "0zz0" {
		t.Errorf("got %q, %v; want the bytes 0, 61, 247, 62 modulo 62", got, err)
	}
	if _, err := RandomBase62(bytes.NewReader(nil), 4); err == nil {
		t.Error("a dry source goes unnoticed")
	}
}

func TestRandomBase62IsEven(t *testing.T) {
	const n = 62 * 2000
	text, err := RandomBase62(rand.Reader, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range base62Alphabet {
		if got := strings.Count(text, string(c)); got < 1700 || got > 2300 { // 6.7 standard deviations
			t.Errorf("%c comes %d times in %d, want about 2000", c, got, n)
		}
	}
}

func TestNewTokenFormatRefusesBrands(t *testing.T) {
	for _, brand := range []string{"Acme", "1acme", "ac_me", "acme!", strings.Repeat("a", 17), "é"} {
		if _, err := NewTokenFormat(brand); KindOf(err) != KindInvalid {
			t.Errorf("brand %q: %v", brand, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	for _, env := range []Environment{EnvironmentLive, EnvironmentTest} {
		token, _ := mustToken(f, TokenFormat{}, KeyTypeAPI, env)
		f.Add("", token)
		f.Add("x", token+"x")
	}
	f.Add("acme", "acme_sk_live_")
	f.Add("", "kl_admin_é")
	f.Fuzz(func(t *testing.T, brand, text string) {
		format, err := NewTokenFormat(brand)
		if err != nil {
			return
		}
		parsed, err := format.ParseToken(text)
		if err != nil {
			if !errors.Is(err, ErrTokenForm) {
				t.Fatalf("unexpected error %v", err)
			}
			return
		}
		prefix := format.Prefix(parsed.Type, parsed.Environment)
		body := text[len(prefix):]
		if !strings.HasPrefix(text, prefix) || len(body) != 54 || parsed.KeyID.TokenID() != body[:16] || body[48:] != checksum(prefix+body[:48]) {
			t.Fatalf("%+v read from a string that it does not describe", parsed)
		}
		if !ContainsToken(text) {
			t.Fatal("ContainsToken misses what ParseToken accepts")
		}
	})
}

func FuzzContainsToken(f *testing.F) {
	token, _ := mustToken(f, TokenFormat{}, KeyTypeManagement, "")
	f.Add("before", "after")
	f.Add("sk_live_", "sk_test_")
	f.Fuzz(func(t *testing.T, before, after string) {
		if !ContainsToken(before + token + after) {
			t.Fatalf("a token between %q and %q goes unnoticed", before, after)
		}
	})
}

func TestMacIsHMACOverTheHash(t *testing.T) {
	key := make([]byte, PepperSize)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	pepper, err := NewPepper("p1", key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("any token"))
	want := hmac.New(sha256.New, key)
	want.Write(sum[:])
	if got := pepper.Mac(sum); !hmac.Equal(got[:], want.Sum(nil)) {
		t.Error("Mac differs from crypto/hmac")
	}
	if allocs := testing.AllocsPerRun(100, func() { pepper.Mac(sum) }); allocs != 0 {
		t.Errorf("%v allocations a mac, want 0", allocs)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, pepper); got != "pepper p1" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if _, err := NewPepper("p1", key[1:]); err == nil {
		t.Error("a short pepper is accepted")
	}
	if _, err := NewPepper("p.1", key); err == nil {
		t.Error("a pepper id with a dot is accepted")
	}
}

func TestMacText(t *testing.T) {
	mac := Mac{1, 2, 255}
	text, err := json.Marshal(mac)
	if err != nil {
		t.Fatal(err)
	}
	var back Mac
	if err := json.Unmarshal(text, &back); err != nil || back != mac {
		t.Errorf("%s reads back as %x, %v", text, back, err)
	}
	for _, bad := range []string{`""`, `"00"`, `"` + strings.Repeat("g", 64) + `"`, `"` + strings.Repeat("0", 66) + `"`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s is accepted as a mac", bad)
		}
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	const canary = "canary"
	secret := NewSecret(canary)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		fmt.Fprintf(&out, verb, secret)
		fmt.Fprintf(&out, verb, &secret)
		fmt.Fprintf(&out, verb, struct{ S Secret }{secret})
	}
	fmt.Fprint(&out, secret.String(), fmt.Errorf("wrap %v", secret))
	slog.New(slog.NewJSONHandler(&out, nil)).InfoContext(t.Context(), "x", slog.Any("secret", secret), slog.Any("struct", struct{ S Secret }{secret}))
	slog.New(slog.NewTextHandler(&out, nil)).InfoContext(t.Context(), "x", slog.Any("secret", secret), slog.Any("pointer", &secret))
	if err := json.NewEncoder(&out).Encode(map[string]any{"s": secret, "p": &secret}); err != nil {
		t.Fatal(err)
	}
	if printed := out.String(); strings.Contains(printed, canary) || strings.Contains(printed, fmt.Sprintf("%x", canary)) {
		t.Errorf("printed: %s", printed)
	}
	if secret.Reveal() != canary || secret.IsZero() || !(Secret{}).IsZero() {
		t.Error("Reveal or IsZero is wrong")
	}
}
