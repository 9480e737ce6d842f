package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/client"
)

// diagnosis is what doctor says for programs.
type diagnosis struct {
	OK     bool      `json:"ok"`
	Checks []finding `json:"checks"`
}

func (w *testWorld) examine(t *testing.T, code int, args ...string) diagnosis {
	t.Helper()
	r := w.cli(t, "", append([]string{"doctor"}, args...)...)
	if r.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	var out diagnosis
	if code == exitOK {
		w.mustDecode(t, &out, append([]string{"doctor"}, args...)...)
		return out
	}
	for line := range strings.Lines(r.stdout) {
		if verdict, rest, _ := strings.Cut(line, " "); verdict != "" {
			out.Checks = append(out.Checks, finding{Verdict: verdict, Detail: strings.TrimSpace(rest)})
		}
	}
	return out
}

// find reports whether there is a finding with this verdict and these words.
func (d diagnosis) find(verdict, words string) bool {
	for _, f := range d.Checks {
		if f.Verdict == verdict && strings.Contains(f.Check+" "+f.Detail, words) {
			return true
		}
	}
	return false
}

func TestDoctorFindsNothing(t *testing.T) {
	w := newTestWorld(t)
	if d := w.examine(t, exitOK); !d.find(verdictWarn, "does not exist") {
		t.Errorf("before the first start: %+v", d)
	}
	w.mustStart(t)
	w.mustCreate(t, "--name", "n", "--environment", "live", "--full-access")
	d := w.examine(t, exitOK)
	for _, words := range []string{"data dir", "disk", "process", "keyring", "server ready", "clock", "management key", "peppers"} {
		if !d.find(verdictOK, words) {
			t.Errorf("with a server, no %q in %+v", words, d)
		}
	}
	server := w.address(t).URL
	token := filepath.Join(w.dataDir, operatorTokenFile)
	if d := w.examine(t, exitOK, "--server", server, "--token-file", token); !d.find(verdictOK, "server ready") || d.find(verdictOK, "data dir") {
		t.Errorf("of a server that was named: %+v", d)
	}
	w.mustStop(t)
	before := mustList(t, w.dataDir)
	d = w.examine(t, exitOK)
	for _, words := range []string{"stream configured as it must be, 2 events", "tables at seq 2 of 2", "peppers"} {
		if !d.find(verdictOK, words) {
			t.Errorf("without a server, no %q in %+v", words, d)
		}
	}
	if after := mustList(t, w.dataDir); after != before {
		t.Errorf("the doctor left something behind:\n%s\nbefore:\n%s", after, before)
	}
	w.mustStart(t) // and the data dir is as good as before
}

func mustList(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return strings.Join(names, "\n")
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	for name, harm := range harms {
		t.Run(name, func(t *testing.T) {
			w := used(t)
			harm.do(t, w)
			if d := w.examine(t, exitFailed); !d.find(verdictFail, harm.doctor) {
				t.Errorf("no %q in %+v", harm.doctor, d)
			}
		})
	}
	t.Run("a token that others can read", func(t *testing.T) {
		w := used(t)
		mustChmod(t, filepath.Join(w.dataDir, operatorTokenFile), 0o644)
		if d := w.examine(t, exitFailed); !d.find(verdictFail, "others can read") {
			t.Errorf("%+v", d)
		}
	})
	t.Run("a server that is not there", func(t *testing.T) {
		w := newTestWorld(t)
		w.env["KEYLEDGER_TOKEN"] = "t"
		if d := w.examine(t, exitFailed, "--server", "http://127.0.0.1:1"); !d.find(verdictFail, "cannot be reached") {
			t.Errorf("%+v", d)
		}
	})
	t.Run("a token that is not known", func(t *testing.T) {
		w := newTestWorld(t)
		w.mustStart(t)
		w.env["KEYLEDGER_TOKEN"] = "t"
		if d := w.examine(t, exitFailed); !d.find(verdictFail, "management key") {
			t.Errorf("%+v", d)
		}
	})
}

// TestDoctorJudgesPeppersByTheirKeys moves a data dir to a keyring with another
// pepper: the old one is missed as long as a key that works needs it.
func TestDoctorJudgesPeppersByTheirKeys(t *testing.T) {
	w := used(t)
	fresh := filepath.Join(t.TempDir(), "fresh.json")
	both := filepath.Join(t.TempDir(), "both.json")
	w.must(t, "keyring", "create", fresh)
	mustJoinKeyrings(t, fresh, filepath.Join(w.dataDir, keyringFile), both)
	w.mustStart(t, "--keyring", both)
	old := "key_" + w.operatorToken(t)[len("kl_admin_"):len("kl_admin_")+16]
	next, _ := w.mustCreate(t, "--management", "--name", "next", "--account", "_root", "--grant-environments", "live,test", "--grant-scopes", "*",
		"--scopes", "keyledger.keys:read,keyledger.keys:write,keyledger.audit:read,keyledger.webhooks:read,keyledger.webhooks:write,keyledger.verify,keyledger.commands,keyledger.operate")
	_, rotated := w.mustCreate(t, "--name", "rotated", "--environment", "live", "--full-access", "--account", "acme")
	w.must(t, "keys", "rotate", rotated, "--overlap", "1h")
	w.env["KEYLEDGER_TOKEN"] = next

	const needed, ended = "the keyring lacks the pepper", "have ended"
	look := func(code int, verdict, words string) {
		t.Helper()
		if d := w.examine(t, code, "--server", w.address(t).URL, "--keyring", fresh); !d.find(verdict, words) {
			t.Errorf("through the server: %+v, want %s %q", d, verdict, words)
		}
		w.mustStop(t)
		if d := w.examine(t, code, "--keyring", fresh); !d.find(verdict, words) {
			t.Errorf("from the log: %+v, want %s %q", d, verdict, words)
		}
		w.mustStart(t, "--keyring", both)
	}
	look(exitFailed, verdictFail, needed) // a key and the operator's
	var list struct {
		Keys []client.Key `json:"keys"`
	}
	w.mustDecode(t, &list, "keys", "list", "--search", "n", "--status", "active")
	for _, k := range list.Keys {
		if k.Name == "n" {
			w.must(t, "keys", "revoke", k.ID, "--yes")
		}
	}
	look(exitFailed, verdictFail, old) // the operator's alone
	w.must(t, "keys", "revoke", "--management", old, "--yes")
	look(exitOK, verdictOK, ended)
}

// mustJoinKeyrings writes a keyring with the peppers of two, the first one's
// primary, and the second one's id secret.
func mustJoinKeyrings(t *testing.T, first, second, path string) {
	t.Helper()
	var a, b map[string]json.RawMessage
	var peppers, more []json.RawMessage
	for _, step := range []struct {
		path    string
		into    *map[string]json.RawMessage
		peppers *[]json.RawMessage
	}{{first, &a, &peppers}, {second, &b, &more}} {
		data, err := os.ReadFile(step.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(json.Unmarshal(data, step.into), json.Unmarshal((*step.into)["peppers"], step.peppers)); err != nil {
			t.Fatal(err)
		}
	}
	joined, err := json.Marshal(map[string]any{
		"version": a["version"], "primary": a["primary"], "peppers": append(peppers, more...), "id_secret": b["id_secret"],
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, joined, 0o600); err != nil {
		t.Fatal(err)
	}
}
