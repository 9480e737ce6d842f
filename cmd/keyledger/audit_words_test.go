package main

import (
	"encoding/json"
	"testing"

	"github.com/keyledger/keyledger/client"
)

func TestAuditWhat(t *testing.T) {
	change := func(field, before, after string) client.AuditChange {
		return client.AuditChange{Field: field, Before: json.RawMessage(before), After: json.RawMessage(after)}
	}
	const at = `"2030-01-02T03:04:05Z"`
	for name, tc := range map[string]struct {
		entry client.AuditEntry
		want  string
	}{
		"created": {client.AuditEntry{Action: "key.created", Changes: []client.AuditChange{
			change("key_type", `null`, `"api"`), change("name", `null`, `"Production Server"`), change("environment", `null`, `"live"`),
			change("scopes", `null`, `["invoices:read","payouts:read"]`), change("display", `null`, `"sk_live_x…"`), change("expires_at", `null`, at),
			change("allowed_ips", `null`, `["10.0.0.0/8"]`), change("metadata", `null`, `{"team":"a","b":"c"}`),
		}}, `created "Production Server", live, invoices:read, payouts:read, expires 2030-01-02T03:04:05Z, from 10.0.0.0/8, metadata b="c", team="a"`},
		"a management key": {client.AuditEntry{Action: "key.created", Changes: []client.AuditChange{
			change("key_type", `null`, `"management"`), change("name", `null`, `"billing"`), change("scopes", `null`, `["keyledger.keys:read"]`),
			change("grants", `null`, `{"environments":["live"],"scopes":["*"]}`),
		}}, `created management key, "billing", keyledger.keys:read, may grant full access in live`},
		"in place of another": {client.AuditEntry{Action: "key.created", Changes: []client.AuditChange{
			change("name", `null`, `"a"`), change("rotated_from", `null`, `"key_a"`),
		}}, `created "a", in place of key_a`},
		"updated": {client.AuditEntry{Action: "key.updated", Changes: []client.AuditChange{
			change("name", `"a"`, `"b"`), change("scopes", `["invoices:read"]`, `["invoices:read","invoices:write"]`),
			change("expires_at", at, `null`), change("allowed_ips", `["10.0.0.0/8"]`, `null`), change("description", `null`, `"d"`),
		}}, `name: "a" → "b"; scopes: invoices:read → invoices:read, invoices:write; expires at: 2030-01-02T03:04:05Z → never; allowed ips: 10.0.0.0/8 → anywhere; description: none → "d"`},
		"to full access": {client.AuditEntry{Action: "key.updated", Changes: []client.AuditChange{change("scopes", `["a:read"]`, `["*"]`)}},
			`scopes: a:read → full access`},
		"without effect on anything": {client.AuditEntry{Action: "key.updated"}, `updated`},
		"rotated": {client.AuditEntry{Action: "key.rotated", Changes: []client.AuditChange{
			change("replaced_by", `null`, `"key_b"`), change("rotated_at", `null`, at), change("ends_at", `null`, at),
		}}, `rotated: replaced by key_b, ends 2030-01-02T03:04:05Z`},
		"revoked": {client.AuditEntry{Action: "key.revoked", Reason: "laptop lost", Changes: []client.AuditChange{
			change("revoked_at", `null`, at), change("revoke_reason", `null`, `"laptop lost"`),
		}}, `revoked: reason "laptop lost"`},
		"revoked for no reason": {client.AuditEntry{Action: "key.revoked"}, `revoked`},
		"expiring": {client.AuditEntry{Action: "key.expiring", Changes: []client.AuditChange{change("notice_lead_seconds", `null`, `604800`)}},
			`expiring: notice sent, 7d0h before the end`},
		"leaked": {client.AuditEntry{Action: "key.leaked", Changes: []client.AuditChange{
			change("leaked_at", `null`, at), change("leak_source", `null`, `"github"`), change("leak_location", `null`, `"https://example.com/x"`),
		}}, `leaked: found by github, at https://example.com/x`},
		"void": {client.AuditEntry{Action: "key.created", Void: "key_id_taken"}, `VOID, it had no effect: another account holds this key id (key.created)`},
		"a reason that would pass for a void entry": {client.AuditEntry{Action: "key.revoked", Reason: `x", VOID, it had no effect: "` + "\x1b"}, `revoked: reason "x\", VOID, it had no effect: \"\x1b"`},
		"a name that would pass for more": {client.AuditEntry{Action: "key.updated", Changes: []client.AuditChange{
			change("name", `"a"`, `"b\" → \"c\"; scopes: none → full access"`), change("metadata", `null`, `{"a, scopes":"x\", b=\"y"}`),
		}}, `name: "a" → "b\" → \"c\"; scopes: none → full access"; metadata: none → "a, scopes"="x\", b=\"y"`},
		"a place that would pass for more": {client.AuditEntry{Action: "key.leaked", Changes: []client.AuditChange{change("leak_location", `null`, `"x, ends never"`)}},
			`leaked: at "x, ends never"`},
		"of a newer release": {client.AuditEntry{Action: "key.frozen", Changes: []client.AuditChange{change("frozen", `false`, `{"a":1}`)}},
			`frozen: frozen: false → {"a":1}`},
		"of another form": {client.AuditEntry{Action: "key.updated", Changes: []client.AuditChange{change("scopes", ``, `7`)}}, `scopes: none → 7`},
	} {
		if got := auditWhat(tc.entry); got != tc.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, tc.want)
		}
	}
}
