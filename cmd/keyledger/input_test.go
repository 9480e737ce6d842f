package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/internal/keyring"
)

// Whatever is wrong with the input, one line says what, one what to do, and the
// exit code whether it was the asking or the answer.
func TestBadInput(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	_, id := w.mustCreate(t, "--name", "Kiosk", "--environment", "live", "--full-access")
	before := w.must(t, "events", "replay", "--output", "json")
	create := func(more ...string) []string {
		return append([]string{"keys", "create", "--name", "n", "--environment", "live"}, more...)
	}
	tests := map[string]struct {
		args []string
		code int
		says string
	}{
		"no command":               {[]string{"keys"}, exitUsage, "expected one of"},
		"a misspelt command":       {[]string{"keys", "lst"}, exitUsage, `did you mean "list"`},
		"an unknown flag":          {create("--colour", "red"), exitUsage, "unknown flag --colour"},
		"no name":                  {[]string{"keys", "create"}, exitUsage, "--name"},
		"no environment":           {[]string{"keys", "create", "--name", "n", "--full-access"}, exitUsage, "a key belongs to an environment"},
		"another environment":      {[]string{"keys", "create", "--name", "n", "--environment", "prod", "--full-access"}, exitFailed, "(400 "},
		"no scopes":                {create(), exitFailed, "--scopes: "},
		"scopes and full access":   {create("--scopes", "invoices:read", "--full-access"), exitUsage, "can't be used together"},
		"an unknown scope":         {create("--scopes", "invoices:burn"), exitFailed, "unknown_scope"},
		"two expiries":             {create("--full-access", "--expires-on", "2099-01-01", "--expires-at", "2099-01-01T00:00:00Z"), exitUsage, "can't be used together"},
		"a past expiry":            {create("--full-access", "--expires-on", "2001-01-01"), exitFailed, "expiry_in_past"},
		"no time":                  {create("--full-access", "--expires-at", "tomorrow"), exitUsage, "--expires-at"},
		"a bad range":              {create("--full-access", "--allowed-ips", "10.0.0.0/99"), exitFailed, "--allowed-ips"},
		"grants of a key":          {create("--full-access", "--grant-scopes", "*"), exitUsage, "only management keys have grants"},
		"a long name":              {[]string{"keys", "create", "--environment", "live", "--full-access", "--name", strings.Repeat("x", 101)}, exitFailed, "--name: "},
		"a name of 70 KB":          {[]string{"keys", "create", "--environment", "live", "--full-access", "--name", strings.Repeat("x", 70_000)}, exitFailed, "(413 "},
		"control characters":       {[]string{"keys", "create", "--environment", "live", "--full-access", "--name", "a\x1b[31m"}, exitFailed, "--name: "},
		"an id with a wildcard":    {[]string{"keys", "show", "key_*"}, exitFailed, "invalid_id"},
		"an id with a dot":         {[]string{"keys", "show", "a.b"}, exitFailed, "invalid_id"},
		"an id with a slash":       {[]string{"keys", "revoke", "--yes", "a/b"}, exitFailed, "(4"},
		"an id that is two dots":   {[]string{"keys", "show", ".."}, exitFailed, "(4"},
		"nobody's id":              {[]string{"keys", "show", "key_nobody"}, exitFailed, "key_not_found"},
		"no change":                {[]string{"keys", "update", id}, exitUsage, "no change was given"},
		"an old seq":               {[]string{"keys", "update", id, "--name", "m", "--only-if-seq", "1"}, exitFailed, "(412 version_mismatch"},
		"a negative overlap":       {[]string{"keys", "rotate", id, "--overlap=-1h"}, exitUsage, "cannot be negative"},
		"an unknown type":          {[]string{"events", "replay", "--type", "keyledger.key.eaten.v1"}, exitFailed, "type"},
		"no time to begin at":      {[]string{"events", "replay", "--from-time", "soon"}, exitUsage, "--from-time"},
		"two ways to begin":        {[]string{"events", "follow", "--from-now", "--from-seq", "3"}, exitUsage, "--from-now"},
		"a seq and a time":         {[]string{"keys", "list", "--at", "1h", "--seq", "2"}, exitUsage, "can't be used together"},
		"a key's seq and time":     {[]string{"keys", "show", id, "--at", "1h", "--seq", "2"}, exitUsage, "can't be used together"},
		"seq 0":                    {[]string{"keys", "show", id, "--seq", "0"}, exitUsage, "--seq 0"},
		"a negative seq":           {[]string{"keys", "list", "--seq=-1"}, exitUsage, "--seq"},
		"no time to be at":         {[]string{"keys", "list", "--at", "yesterday"}, exitUsage, `--at "yesterday" is not a time`},
		"a negative duration":      {[]string{"keys", "list", "--unused-since=-90d"}, exitUsage, `--unused-since "-90d"`},
		"a duration either way":    {[]string{"keys", "list", "--expiring-before", "7d"}, exitUsage, "could be before or after now"},
		"a duration too long":      {[]string{"keys", "list", "--created-after", "999999999w"}, exitUsage, "--created-after"},
		"an unknown order":         {[]string{"keys", "list", "--sort", "colour"}, exitFailed, "sort"},
		"an order of the past":     {[]string{"keys", "list", "--sort", "name", "--at", "now"}, exitFailed, "order of creation"},
		"use in the past":          {[]string{"keys", "list", "--unused-since", "1h", "--at", "now"}, exitFailed, "use in the past"},
		"a negative limit":         {[]string{"keys", "list", "--limit=-1"}, exitUsage, "--limit"},
		"an empty id":              {[]string{"keys", "history", ""}, exitUsage, "the id is empty"},
		"an unknown action":        {[]string{"audit", "list", "--action", "key.eaten"}, exitFailed, "action"},
		"no time in the audit log": {[]string{"audit", "list", "--to-time", "soon"}, exitUsage, "--to-time"},
		"an end before the start":  {[]string{"audit", "list", "--from-time", "1h", "--to-time", "2h"}, exitUsage, "before the beginning"},
		"seqs turned round":        {[]string{"audit", "export", "--from-seq", "4", "--to-seq", "3"}, exitUsage, "before the beginning"},
		"another form of export":   {[]string{"audit", "export", "--format", "xlsx"}, exitUsage, "--format"},
		"force on nothing":         {[]string{"audit", "export", "--force"}, exitUsage, "--force"},
		"a file that cannot be":    {[]string{"audit", "export", "--output-file", "/nonexistent/audit.csv"}, exitFailed, "/nonexistent/audit.csv"},
		"a device as a file":       {[]string{"audit", "export", "--force", "--output-file", "/dev/null"}, exitFailed, "not a plain file"},
		"an id without a time":     {[]string{"verify", "--key-id", id}, exitUsage, "--at"},
		"an id and a file":         {[]string{"verify", "--at", "1h", "--key-id", id, "--key-file", "-"}, exitUsage, "--key-id and --key-file"},
		"no time to verify at":     {[]string{"verify", "--at", "03:12", "--key-id", id}, exitUsage, `--at "03:12"`},
		"another output":           {[]string{"keys", "list", "--output", "yaml"}, exitUsage, "--output"},
		"a file that is not":       {[]string{"verify", "--key-file", "/nonexistent"}, exitFailed, "read the key"},
		"a server in clear":        {[]string{"keys", "list", "--server", "http://keys.example.com"}, exitUsage, "no management key was given"},
		"another data dir":         {[]string{"keys", "list", "--data-dir", "/nonexistent"}, exitFailed, "no server runs on"},
		"an unreachable server":    {[]string{"keys", "list", "--server", "http://127.0.0.1:1", "--token-file", filepath.Join(w.dataDir, operatorTokenFile)}, exitFailed, "cannot be reached"},
		"a token file that is not": {[]string{"keys", "list", "--token-file", "/nonexistent"}, exitFailed, "read the management key"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := w.cli(t, "", tc.args...)
			if r.code != tc.code || !strings.Contains(r.stderr, tc.says) || r.stdout != "" {
				t.Errorf("%+v\nwant exit code %d and %q", r, tc.code, tc.says)
			}
			lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, "  to do: ") {
				t.Errorf("it does not say what to do: %s", r.stderr)
			}
		})
	}
	if after := w.must(t, "events", "replay", "--output", "json"); after != before {
		t.Errorf("something was appended:\n%s", strings.TrimPrefix(after, before))
	}
}

func TestTheTokenStaysAtHome(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	w.env["KEYLEDGER_SERVER"] = "http://127.0.0.1:1"
	if r := w.cli(t, "", "keys", "list"); r.code != exitUsage || !strings.Contains(r.stderr, "no management key was given for http://127.0.0.1:1") {
		t.Errorf("the operator token of a data dir would go to a server that was named: %+v", r)
	}
	w.env["KEYLEDGER_TOKEN"] = "t"
	w.env["KEYLEDGER_SERVER"] = "http://keys.example.com"
	if r := w.cli(t, "", "keys", "list"); r.code != exitUsage || !strings.Contains(r.stderr, "--allow-plaintext") {
		t.Errorf("a token in clear: %+v", r)
	}
}

// TestWhichToken gives the management key in every way at once: each way in turn
// holds the good one, and those that count less hold a bad one.
func TestWhichToken(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("bad\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, token := filepath.Join(w.dataDir, operatorTokenFile), w.operatorToken(t)
	for name, tc := range map[string]struct{ flag, token, file string }{
		"the flag before all":            {file, "bad", bad},
		"the variable before the file's": {"", token, bad},
		"the file's at last":             {"", "", file},
	} {
		t.Run(name, func(t *testing.T) {
			as := &testWorld{env: map[string]string{"KEYLEDGER_SERVER": w.address(t).URL, "KEYLEDGER_TOKEN": tc.token, "KEYLEDGER_TOKEN_FILE": tc.file}}
			args := []string{"keys", "list"}
			if tc.flag != "" {
				args = append(args, "--token-file", tc.flag)
			}
			as.must(t, args...)
		})
	}
}

func TestKeysAreNoArguments(t *testing.T) {
	var format domain.TokenFormat
	entropy := strings.NewReader(strings.Repeat("not random at all, ", 100))
	token, err := format.NewToken(domain.KeyTypeAPI, domain.EnvironmentLive, "key_0123456789abcdef", entropy)
	if err != nil {
		t.Fatal(err)
	}
	w := newTestWorld(t)
	for _, args := range [][]string{{"verify", token.Reveal()}, {"keys", "list", "--search=" + token.Reveal()}} {
		r := w.cli(t, "", args...)
		if r.code != exitUsage || !strings.Contains(r.stderr, "a key was given as an argument") || strings.Contains(r.stderr+r.stdout, token.Reveal()[8:]) {
			t.Errorf("exit code %d: %s", r.code, strings.ReplaceAll(r.stderr, token.Reveal(), "[the key]"))
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain, ünïcödé 漢字 🙂":   "plain, ünïcödé 漢字 🙂",
		"\x1b[31mred\x07":       `\x1b[31mred\a`,
		"two\nlines\tand a tab": `two\nlines\tand a tab`,
		"right\u202eto left":    `right\u202eto left`,
		"bad \xff byte":         `bad \ufffd byte`,
		"c1 \u009b2J":           `c1 \u009b2J`,
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestKeyringCreate(t *testing.T) {
	w := newTestWorld(t)
	path := filepath.Join(t.TempDir(), "keyring.json")
	w.must(t, "keyring", "create", path)
	keys, err := keyring.Load(path)
	if err != nil || len(keys.Peppers()) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if r := w.cli(t, "", "keyring", "create", path); r.code != exitFailed || !strings.Contains(r.stderr, "exists already") {
		t.Errorf("again: %+v", r)
	}
	if second, err := os.ReadFile(path); err != nil || string(second) != string(first) {
		t.Errorf("the keyring was replaced: %v", err)
	}
}
