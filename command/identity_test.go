package command

import (
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// Hashes and derived ids are compared with those in the log for ever: a change here
// would make conflicts of repeats, and new keys of repeated creates.
func TestHashesAndIDsArePinned(t *testing.T) {
	d := identities{secret: []byte(strings.Repeat("i", 32))}
	at := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	full := NewKey{
		Account: "acme", Type: domain.KeyTypeManagement, Name: "n", Description: "d", Environment: domain.EnvironmentLive,
		Scopes: []domain.Scope{"invoices:read"}, FullAccess: true, Expiry: &NewExpiry{At: &at}, AllowedIPs: []string{"10.0.0.0/8"},
		Metadata: map[string]string{"a": "b"}, TokenSHA256: "00",
		Grants: &NewGrants{Environments: []domain.Environment{domain.EnvironmentTest}, Scopes: []domain.Scope{"*"}, FullAccess: true},
	}
	for name, tc := range map[string]struct {
		command domain.CommandName
		content any
		want    string
	}{
		"create":      {domain.CommandCreateKey, NewKey{Type: domain.KeyTypeAPI, Name: "n"}, "821989c73ae1ac33073419a584f293dc140513d66b424654428f851fd44b5063"},
		"create, all": {domain.CommandCreateKey, full, "b1a1cfd8f75a3042c5490ed760942752d452d6059166c57d9750548ffad949c2"},
		"update":      {domain.CommandUpdateKey, KeyChanges{Name: new("n"), Scopes: &[]domain.Scope{}, Expiry: &NewExpiry{Never: true}}, "a664c208f696fe58060a91c85dc1d7e4510a3cea2d4a67a9ffd191f949b3c13e"},
		"rotate":      {domain.CommandRotateKey, Rotation{Overlap: time.Hour}, "eaeb546c3ce3f380e4180ec27e1a41f55bc8b69767bd9c935eb41360a77bb076"},
		"revoke":      {domain.CommandRevokeKey, "lost", "1564907bd081aad017c7d111fdf47b59428e5bc9b1c0384ff5144ce2ead13ae6"},
	} {
		got, err := d.hash(tc.command, "acme", tc.content)
		if err != nil || got != tc.want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, tc.want)
		}
	}
	id, err := d.keyID("acme", identity{name: domain.CommandCreateKey, actor: "key_a", id: "c1"}, "")
	if err != nil || id != "key_FayTrkB6ryfQgIns" {
		t.Errorf("key id %s, %v", id, err)
	}
}
