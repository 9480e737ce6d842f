package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mustWrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestIntoFile(t *testing.T) {
	writes := func(text string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}
	}
	broken := func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return errors.New("cut")
	}
	t.Run("new", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "out.csv")
		err := intoFile(path, false, writes("whole"))
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || mustRead(t, path) != "whole" || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", err, info)
		}
		if left := mustList(t, filepath.Dir(path)); left != "out.csv" {
			t.Errorf("it left %s", left)
		}
	})
	t.Run("broken", func(t *testing.T) {
		dir := t.TempDir()
		if err := intoFile(filepath.Join(dir, "out.csv"), false, broken); err == nil || err.Error() != "cut" {
			t.Errorf("%v", err)
		}
		if left := mustList(t, dir); left != "" {
			t.Errorf("it left %s", left)
		}
	})
	t.Run("there already", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "out.csv")
		mustWrite(t, path, "old")
		called := false
		err := intoFile(path, false, func(io.Writer) error { called = true; return nil })
		if err == nil || !strings.Contains(err.Error(), "exists already") || called || mustRead(t, path) != "old" {
			t.Errorf("%v, asked %t", err, called)
		}
		if err := intoFile(path, true, broken); err == nil || mustRead(t, path) != "old" {
			t.Errorf("a broken one took the place of a whole one: %v", err)
		}
		if err := intoFile(path, true, writes("new")); err != nil || mustRead(t, path) != "new" {
			t.Errorf("by force: %v", err)
		}
	})
	t.Run("there meanwhile", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "out.csv")
		err := intoFile(path, false, func(io.Writer) error { mustWrite(t, path, "theirs"); return nil })
		if err == nil || !strings.Contains(err.Error(), "exists already") || mustRead(t, path) != "theirs" {
			t.Errorf("%v", err)
		}
		if left := mustList(t, filepath.Dir(path)); left != "out.csv" {
			t.Errorf("it left %s", left)
		}
	})
	t.Run("not a file", func(t *testing.T) {
		dir := t.TempDir()
		link := filepath.Join(dir, "link")
		if err := os.Symlink("/dev/null", link); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{dir, "/dev/null", link} {
			if err := intoFile(path, true, writes("x")); err == nil || !strings.Contains(err.Error(), "not a plain file") {
				t.Errorf("%s: %v", path, err)
			}
		}
		if err := intoFile(filepath.Join(dir, "nowhere", "x"), false, writes("x")); err == nil || explain(err).do == "" {
			t.Errorf("a directory that is not: %v", err)
		}
	})
}

func TestIntoFileOfALongName(t *testing.T) {
	dir := t.TempDir()
	writes := func(w io.Writer) error { _, err := io.WriteString(w, "x"); return err }
	const longest = 255 // NAME_MAX of Linux, macOS and the BSDs
	if err := intoFile(filepath.Join(dir, strings.Repeat("n", longest)), false, writes); err != nil {
		t.Error(err)
	}
	if err := intoFile(filepath.Join(dir, strings.Repeat("n", longest+1)), false, writes); err == nil || !strings.Contains(explain(err).do, "shorter") {
		t.Errorf("too long: %v", err)
	}
}

func TestExportFormat(t *testing.T) {
	for _, tc := range []struct{ format, file, want string }{
		{"", "", "ndjson"}, {"", "a", "ndjson"}, {"", "a.csv", "csv"}, {"", "A.CSV", "csv"}, {"", "a.jsonl", "ndjson"}, {"", "a.ndjson", "ndjson"},
		{"csv", "", "csv"}, {"csv", "a.txt", "csv"}, {"csv", "a.csv", "csv"}, {"ndjson", "a.jsonl", "ndjson"},
		{"csv", "a.ndjson", ""}, {"ndjson", "a.csv", ""}, {"xml", "", ""},
	} {
		got, err := auditExport{Format: tc.format, OutputFile: tc.file}.format()
		if string(got) != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("--format %q in %q: %q, %v", tc.format, tc.file, got, err)
		}
	}
}

// exports answers with rows, and then does what it is told.
func exports(rows int, then func(http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("Export-To-Seq", "100000")
		for seq := range rows {
			_, _ = fmt.Fprintf(w, `{"seq":%d,"action":"key.created"}`+"\n", seq+1)
		}
		_ = http.NewResponseController(w).Flush()
		then(w, r)
	}
}

// TestInterruptedExportLeavesNothing ends an export as Ctrl-C does, half way.
func TestInterruptedExportLeavesNothing(t *testing.T) {
	w := scripted(t, exports(50_000, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.ndjson")
	e := begin(t, w.env, nil, "audit", "export", "--output-file", path)
	eventually(t, "some of it was written", func() bool {
		found, err := filepath.Glob(filepath.Join(dir, ".keyledger-*.partial"))
		if err != nil || len(found) != 1 {
			return false
		}
		info, err := os.Stat(found[0])
		return err == nil && info.Size() > 0
	})
	if _, err := os.Stat(path); err == nil {
		t.Error("a file that is not complete has its name")
	}
	e.stop()
	if code := e.wait(t); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if left := mustList(t, dir); left != "" {
		t.Errorf("it left %s", left)
	}
}

// TestCutExportSaysSo has the server refuse to go on after the first rows.
func TestCutExportSaysSo(t *testing.T) {
	first := true
	w := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			exports(3, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })(w, r)
			return
		}
		if got := r.URL.Query().Get("from_seq"); got != "4" {
			t.Errorf("it goes on from seq %s", got)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"status":403,"code":"forbidden","detail":"not any more","fix":"ask for it"}`)
	})
	dir := t.TempDir()
	r := w.cli(t, "", "audit", "export", "--output-file", filepath.Join(dir, "audit.ndjson"))
	if r.code != exitFailed || !strings.Contains(r.stderr, "cut off after seq 3 of 100000 (3 entries): not any more (403 forbidden)") || !strings.Contains(r.stderr, "to do: ask for it") {
		t.Errorf("%+v", r)
	}
	if left := mustList(t, dir); left != "" {
		t.Errorf("it left %s", left)
	}
	first = true
	r = w.cli(t, "", "audit", "export")
	if r.code != exitFailed || strings.Count(r.stdout, "\n") != 3 || !strings.Contains(r.stderr, "cut off after seq 3") {
		t.Errorf("to standard output: %+v", r)
	}
}
