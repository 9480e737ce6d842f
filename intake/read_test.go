package intake

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/domain"
)

// FuzzRead: whatever comes is read without a panic; what cannot be carried out says
// why, quotes nothing of a token, and what can be has an id that is one.
func FuzzRead(f *testing.F) {
	const subject = "keyledger.commands.default.key_AAAAAAAAAAAAAAAA."
	const head = `{"specversion":"1.0","id":"a","source":"s","type":"keyledger.command.`
	f.Add(subject+"create_key", "", []byte(head+`create_key.v1","data":{"name":"n","environment":"live","scopes":["invoices:read"]}}`))
	f.Add(subject+"update_key", "_INBOX_key_AAAAAAAAAAAAAAAA.x", []byte(head+`update_key.v1","data":{"key_id":"key_B","expires_on":null}}`))
	f.Add(subject+"rotate_key", "x", []byte(head+`rotate_key.v1","actor":"x","data":{"key_id":"key_B","overlap":"1h"}}`))
	f.Add(subject+"revoke_key", "", []byte(head+`revoke_key.v1","ext":[],"data":{"key_id":"key_B"}}`))
	f.Add("keyledger.commands.x", "", []byte(`null`))
	f.Add(subject+"create_key", "\n", []byte(`{"id":"\ud800"}`))
	f.Fuzz(func(t *testing.T, subject, reply string, body []byte) {
		headers := map[string]string{}
		if reply != "" {
			headers["Keyledger-Reply"] = reply
		}
		r, err := read(subject, headers, body)
		if r.id != "" && (!domain.ValidID(r.id) || domain.ContainsToken(r.id)) {
			t.Errorf("id %q", r.id)
		}
		if r.reply != "" && (strings.ContainsAny(r.reply, "*> \n") || !strings.HasPrefix(r.reply, "_INBOX_"+string(r.address.Producer)+".")) {
			t.Errorf("reply %q", r.reply)
		}
		if err == nil {
			if r.carry == nil || r.id == "" || r.address.Producer == "" {
				t.Errorf("%q on %q was accepted as %+v", body, subject, r)
			}
			return
		}
		e, ok := errors.AsType[*domain.Error](err)
		if !ok || e.Code == "" || e.Fix == "" || !lasting(err) || domain.ContainsToken(err.Error()) {
			t.Errorf("%q on %q is refused with %v", body, subject, err)
		}
	})
}

// FuzzRedact: what is kept of a dead letter holds no token, however it was written.
func FuzzRedact(f *testing.F) {
	token := "sk_live_" + strings.Repeat("a", 54)
	f.Add([]byte(`{"token":"` + token + `"}`))
	f.Add([]byte(`{"token":"sk\u005flive_` + strings.Repeat("a", 54) + `"}`))
	f.Add([]byte(token + "kl_admin_x" + token))
	f.Add([]byte(`\u`))
	f.Fuzz(func(t *testing.T, body []byte) {
		clean, redacted := redact(body)
		if domain.ContainsToken(string(clean)) {
			t.Errorf("%q became %q", body, clean)
		}
		if !redacted && string(clean) != string(body) {
			t.Errorf("%q was changed to %q", body, clean)
		}
	})
}

func TestRedact(t *testing.T) {
	token := strings.Repeat("a", 54)
	for _, body := range []string{
		`{"a":"sk_live_` + token + `"}`, `{"a":"sk\u005flive_` + token + `"}`, `acme_sk_test_` + token, `["\u0073k_live_` + token + `"]`, "kl_admin_" + token,
	} {
		if clean, redacted := redact([]byte(body)); !redacted || strings.Contains(string(clean), token) {
			t.Errorf("%s became %s", body, clean)
		}
	}
	const harmless = `{"a":"\n","b":"\u00e9"}`
	if clean, redacted := redact([]byte(harmless)); redacted || string(clean) != harmless {
		t.Errorf("%s became %s", harmless, clean)
	}
}
