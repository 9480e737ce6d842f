package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
