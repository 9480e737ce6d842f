package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
)

// TestWalk goes the way of the product's page on the command line: create, shown
// once, verify with each cause, list, update, rotate, revoke.
func TestWalk(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	var seen strings.Builder // everything that is printed but the tokens themselves

	created := w.cli(t, "", "keys", "create", "--name", "Production Server", "--environment", "live",
		"--scopes", "invoices:read,payouts:read", "--description", "the shop", "--metadata", "team=a,b", "--metadata", "tier=1")
	token := strings.TrimSpace(created.stdout)
	if created.code != exitOK || created.stdout != token+"\n" || !strings.HasPrefix(token, "sk_live_") {
		t.Fatalf("create: %+v", created)
	}
	if !strings.Contains(created.stderr, "Copy the key immediately: it won't be shown again.") {
		t.Errorf("no warning: %s", created.stderr)
	}
	id := "key_" + token[8:24]
	seen.WriteString(created.stderr)

	check := func(want string, code int, key string, args ...string) {
		t.Helper()
		r := w.cli(t, key, append([]string{"verify"}, args...)...)
		first, _, _ := strings.Cut(r.stdout, "\n")
		if r.code != code || first != want || r.stderr != "" {
			t.Errorf("verify %v: %s, exit code %d, want %s, %d\n%s", args, first, r.code, want, code, r.stderr)
		}
		if want != "VALID" && (!strings.Contains(r.stdout, "cause") || !strings.Contains(r.stdout, "solution")) {
			t.Errorf("%s without cause and solution: %s", want, r.stdout)
		}
		seen.WriteString(r.stdout + r.stderr)
	}
	check("VALID", exitOK, token+"\n", "--scopes", "invoices:read", "--environment", "live", "--account", "default")
	check("MISSING", exitFailed, "")
	check("MALFORMED", exitFailed, "sk_live_nonsense")
	check("UNKNOWN", exitFailed, w.operatorToken(t)) // a management key is nobody here
	check("WRONG_ENVIRONMENT", exitFailed, token, "--environment", "test")
	check("RESOURCE_NOT_ACCESSIBLE", exitFailed, token, "--account", "acme")
	check("INSUFFICIENT_SCOPE", exitFailed, token, "--scopes", "invoices:read,payouts:write")

	list := w.must(t, "keys", "list")
	heading, row, _ := strings.Cut(list, "\n")
	if got := strings.Fields(heading); strings.Join(got, " ") != "NAME ENVIRONMENT CREATED (UTC) LAST USED (UTC) SCOPES STATUS ID" {
		t.Errorf("columns %q", got)
	}
	for _, cell := range []string{"Production Server", "live", "invoices:read, payouts:read", "active", id} {
		if !strings.Contains(row, cell) {
			t.Errorf("no %q in %s", cell, row)
		}
	}
	seen.WriteString(list)

	seen.WriteString(w.must(t, "keys", "update", id, "--name", "Production", "--scopes", "invoices:read", "--expires-at", "2099-01-01T00:00:00Z"))
	shown := w.must(t, "keys", "show", id)
	for _, line := range []string{"name          Production\n", "description   the shop\n", "metadata      team=a,b\n", "metadata      tier=1\n", "expires       2099-01-01T00:00:00Z\n", "token         sk_live_" + id[4:12] + "…\n"} {
		if !strings.Contains(shown, line) {
			t.Errorf("no %q in\n%s", line, shown)
		}
	}
	seen.WriteString(shown)

	rotated := w.cli(t, "", "keys", "rotate", id, "--overlap", "1h")
	next := strings.TrimSpace(rotated.stdout)
	if rotated.code != exitOK || !strings.HasPrefix(next, "sk_live_") || next == token {
		t.Fatalf("rotate: %+v", rotated)
	}
	seen.WriteString(rotated.stderr)
	check("VALID", exitOK, token)
	check("VALID", exitOK, next)
	if both := w.must(t, "keys", "list"); !strings.Contains(both, "active, rotated, ends ") {
		t.Errorf("the list does not say that the old key ends:\n%s", both)
	}

	seen.WriteString(w.must(t, "keys", "revoke", id, "--yes", "--reason", "laptop lost"))
	check("REVOKED", exitFailed, token)
	check("VALID", exitOK, next)
	seen.WriteString(w.must(t, "events", "replay", "--output", "json"))
	history := w.must(t, "events", "replay", "--key", id)
	for _, word := range []string{"key.created.v1", "key.updated.v1", "key.rotated.v1", "key.revoked.v1", "laptop lost"} {
		if !strings.Contains(history, word) {
			t.Errorf("no %q in\n%s", word, history)
		}
	}
	w.server.stop()
	w.server.wait(t)
	seen.WriteString(w.server.stderr.String())
	for _, secret := range []string{token[24:56], next[24:56]} {
		if strings.Contains(seen.String(), secret) {
			t.Errorf("a secret was printed again")
		}
		mustNotHold(t, w.dataDir, secret)
	}
}

// mustNotHold searches every file below a directory.
func mustNotHold(t *testing.T, dir, secret string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(secret)) {
			t.Errorf("the secret of a token is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestJSONOutput(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	var made client.Outcome
	w.mustDecode(t, &made, "keys", "create", "--name", "a", "--environment", "test", "--full-access", "--expires-on", "2099-12-31", "--idempotency-key", "one")
	if made.Token == "" || !made.Key.FullAccess || made.Key.ExpiresAt == nil || !made.Key.ExpiresAt.Equal(time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("created %+v", made.Key)
	}
	var again client.Outcome
	w.mustDecode(t, &again, "keys", "create", "--name", "a", "--environment", "test", "--full-access", "--expires-on", "2099-12-31", "--idempotency-key", "one")
	if again.Key.ID != made.Key.ID || again.Token != "" || !again.Replayed {
		t.Errorf("the same command again: %s, token %t, replayed %t", again.Key.ID, again.Token != "", again.Replayed)
	}
	id := made.Key.ID

	var list struct {
		Keys []client.Key `json:"keys"`
	}
	w.mustDecode(t, &list, "keys", "list", "--environment", "test")
	if len(list.Keys) != 1 || list.Keys[0].ID != id {
		t.Errorf("list %+v", list)
	}
	w.mustDecode(t, &list, "keys", "list", "--environment", "live")
	if len(list.Keys) != 0 {
		t.Errorf("list of the other environment %+v", list)
	}
	var updated client.Outcome
	w.mustDecode(t, &updated, "keys", "update", id, "--never-expires", "--allowed-ips", "10.0.0.0/8", "--metadata", "a=b")
	if updated.Key.ExpiresAt != nil || len(updated.Key.AllowedIPs) != 1 || updated.Key.Metadata["a"] != "b" {
		t.Errorf("updated %+v", updated.Key)
	}
	var cleared client.Outcome
	w.mustDecode(t, &cleared, "keys", "update", id, "--from-anywhere", "--no-metadata")
	if len(cleared.Key.AllowedIPs)+len(cleared.Key.Metadata) != 0 {
		t.Errorf("cleared %+v", cleared.Key)
	}
	var rotated client.Outcome
	w.mustDecode(t, &rotated, "keys", "rotate", id, "--yes")
	if rotated.Token == "" || rotated.Key.RotatedFrom != id {
		t.Errorf("rotated %+v", rotated.Key)
	}
	var revoked client.Outcome
	w.mustDecode(t, &revoked, "keys", "revoke", rotated.Key.ID, "--yes")
	if revoked.Key.Status != "revoked" {
		t.Errorf("revoked %+v", revoked.Key)
	}
	var key client.Key
	w.mustDecode(t, &key, "keys", "show", id)
	if key.ID != id || key.Status != "revoked" {
		t.Errorf("shown %+v", key)
	}
	refused := w.cli(t, "", "keys", "show", "key_nobody", "--output", "json")
	if want := `"code":"key_not_found","status":404`; refused.code != exitFailed || refused.stdout != "" || !strings.Contains(refused.stderr, want) {
		t.Errorf("refusal %+v, want %s", refused, want)
	}
	var info buildInfo
	w.mustDecode(t, &info, "version")
	if info.Version == "" || info.Go == "" {
		t.Errorf("version %+v", info)
	}
}

func TestManagementKeys(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	token, id := w.mustCreate(t, "--management", "--name", "billing", "--account", "acme",
		"--scopes", "keyledger.keys:read,keyledger.keys:write", "--grant-environments", "live", "--grant-scopes", "invoices:*")
	if list := w.must(t, "keys", "list", "--management"); !strings.Contains(list, "billing") || !strings.Contains(list, "operator") {
		t.Errorf("list:\n%s", list)
	}
	if shown := w.must(t, "keys", "show", "--management", id); !strings.Contains(shown, "may grant   invoices:* in live") {
		t.Errorf("shown:\n%s", shown)
	}

	as := &testWorld{dataDir: w.dataDir, env: map[string]string{"KEYLEDGER_DATA_DIR": w.dataDir, "KEYLEDGER_TOKEN": token}}
	as.mustCreate(t, "--name", "shop", "--environment", "live", "--scopes", "invoices:read")
	for name, args := range map[string][]string{
		"a scope it may not give":        {"keys", "create", "--name", "x", "--environment", "live", "--scopes", "payouts:read"},
		"an environment it may not give": {"keys", "create", "--name", "x", "--environment", "test", "--scopes", "invoices:read"},
		"another account":                {"keys", "create", "--name", "x", "--environment", "live", "--scopes", "invoices:read", "--account", "other"},
		"the event log":                  {"events", "replay"},
	} {
		if r := as.cli(t, "", args...); r.code != exitFailed || !strings.Contains(r.stderr, "(403 ") || !strings.Contains(r.stderr, "to do: ") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	w.must(t, "keys", "revoke", "--management", id, "--yes")
	if r := as.cli(t, "", "keys", "list"); r.code != exitFailed || !strings.Contains(r.stderr, "(401 ") {
		t.Errorf("a revoked management key: %+v", r)
	}
}
