package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
)

// entries is what audit list and keys history print for programs.
type entries struct {
	Entries []client.AuditEntry `json:"entries"`
}

func (e entries) seqs() string {
	var seqs []string
	for _, entry := range e.Entries {
		seqs = append(seqs, fmt.Sprint(entry.Seq))
	}
	return strings.Join(seqs, " ")
}

func TestHistoryIsReadable(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	actor := "key_" + w.operatorToken(t)[len("kl_admin_"):len("kl_admin_")+16]
	_, id := w.mustCreate(t, "--name", "Laptop", "--environment", "live", "--scopes", "invoices:read") // seq 2
	w.must(t, "keys", "update", id, "--scopes", "invoices:read,invoices:write", "--name", "Büro")      // seq 3
	w.must(t, "keys", "revoke", id, "--yes", "--reason", "laptop lost")                                // seq 4

	history := w.must(t, "keys", "history", id)
	lines := strings.Split(strings.TrimSuffix(history, "\n"), "\n")
	if len(lines) != 4 || strings.Join(strings.Fields(lines[0]), " ") != "SEQ TIME (UTC) BY WHAT" {
		t.Fatalf("history:\n%s", history)
	}
	for i, what := range []string{
		`created "Laptop", live, invoices:read`,
		`name: "Laptop" → "Büro"; scopes: invoices:read → invoices:read, invoices:write`,
		`revoked: reason "laptop lost"`,
	} {
		line := lines[i+1]
		if !strings.HasPrefix(line, fmt.Sprint(i+2)+" ") || !strings.HasSuffix(line, "   "+what) || !strings.Contains(line, actor) {
			t.Errorf("line %d is %q, want seq %d, %s and %q", i+1, line, i+2, actor, what)
		}
	}
	if wide := w.must(t, "keys", "history", id, "--wide"); !strings.Contains(wide, "revoke_key") || !strings.Contains(wide, "REQUEST ID") {
		t.Errorf("wide:\n%s", wide)
	}
	var all entries
	w.mustDecode(t, &all, "keys", "history", id)
	if all.seqs() != "2 3 4" || all.Entries[2].Reason != "laptop lost" || len(all.Entries[1].Changes) != 2 {
		t.Errorf("for programs: %+v", all)
	}
	if r := w.cli(t, "", "keys", "history", "key_nobody"); r.code != exitFailed || !strings.Contains(r.stderr, "there is no key key_nobody") || r.stdout != "" {
		t.Errorf("of nobody: %+v", r)
	}
	if r := w.cli(t, "", "keys", "history", "key_nobody", "--output", "json"); r.code != exitFailed || r.stdout != "" {
		t.Errorf("of nobody, for programs: %+v", r)
	}
}

func TestAuditList(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	_, first := w.mustCreate(t, "--name", "first", "--environment", "live", "--full-access")                        // seq 2
	_, second := w.mustCreate(t, "--name", "second", "--environment", "live", "--full-access", "--account", "acme") // seq 3
	w.must(t, "keys", "revoke", first, "--yes", "--reason", "gone", "--idempotency-key", "one")                     // seq 4
	var all entries
	w.mustDecode(t, &all, "audit", "list")
	if all.seqs() != "4 3 2 1" {
		t.Fatalf("everything: %s", all.seqs())
	}
	third := all.Entries[1].Time.Format(time.RFC3339Nano)
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"an account":       {[]string{"--account", "acme"}, "3"},
		"a key":            {[]string{"--key", first}, "4 2"},
		"an action":        {[]string{"--action", "key.created"}, "3 2 1"},
		"its short form":   {[]string{"--action", "created"}, "3 2 1"},
		"a command":        {[]string{"--command", all.Entries[0].Command}, "4"},
		"a command's id":   {[]string{"--command-id", "one"}, "4"},
		"a request":        {[]string{"--request-id", all.Entries[2].RequestID}, "2"},
		"an actor":         {[]string{"--actor", all.Entries[0].Actor}, "4 3 2"},
		"seqs":             {[]string{"--from-seq", "2", "--to-seq", "3"}, "3 2"},
		"the oldest first": {[]string{"--oldest-first", "--limit", "2"}, "1 2"},
		"the newest":       {[]string{"--limit", "1"}, "4"},
		"all":              {[]string{"--limit", "0"}, "4 3 2 1"},
		"an hour":          {[]string{"--from-time", "1h"}, "4 3 2 1"},
		"from tomorrow":    {[]string{"--from-time", "now+24h"}, ""},
		"from a time":      {[]string{"--from-time", third}, "4 3"},
		"up to a time":     {[]string{"--to-time", third}, "2 1"},
		"nothing":          {[]string{"--key", second, "--action", "key.revoked"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got entries
			w.mustDecode(t, &got, append([]string{"audit", "list"}, tc.args...)...)
			if got.seqs() != tc.want {
				t.Errorf("seqs %s, want %s", got.seqs(), tc.want)
			}
		})
	}
	table := w.must(t, "audit", "list")
	heading, rest, _ := strings.Cut(table, "\n")
	if got := strings.Join(strings.Fields(heading), " "); got != "SEQ TIME (UTC) ACCOUNT BY ACTION KEY WHAT" {
		t.Errorf("columns %s", got)
	}
	if row, _, _ := strings.Cut(rest, "\n"); !strings.Contains(row, "key.revoked") || !strings.HasSuffix(row, first+`   reason "gone"`) {
		t.Errorf("row %q", row)
	}
	if r := w.cli(t, "", "audit", "list", "--action", "revoke"); r.code != exitUsage || !strings.Contains(r.stderr, "created, imported, updated") {
		t.Errorf("no action: %+v", r)
	}
	if again := w.must(t, "audit", "list"); again != table {
		t.Errorf("the same question has another answer:\n%s\nbefore:\n%s", again, table)
	}
	if r := w.cli(t, "", "audit", "list", "--limit", "2"); !strings.Contains(r.stderr, "--limit 0 shows all") || strings.Count(r.stdout, "\n") != 3 {
		t.Errorf("the first two: %+v", r)
	}
	if r := w.cli(t, "", "audit", "list", "--limit", "4"); r.stderr != "" {
		t.Errorf("all four: %+v", r)
	}
	if r := w.cli(t, "", "audit", "list", "--key", "key_nobody"); r.code != exitOK || r.stderr != "No entries.\n" || r.stdout != "" {
		t.Errorf("none: %+v", r)
	}
}

func TestAuditExport(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	const name = `=HYPERLINK("http://example.com","x"), ünïcödé`
	_, id := w.mustCreate(t, "--name", name, "--environment", "live", "--full-access", "--description", "+1")
	w.must(t, "keys", "revoke", id, "--yes", "--reason", "@SUM(A1)")
	dir := t.TempDir()

	t.Run("ndjson", func(t *testing.T) {
		path := filepath.Join(dir, "audit.ndjson")
		if r := w.cli(t, "", "audit", "export", "--output-file", path); r.code != exitOK || r.stdout != "" || !strings.Contains(r.stderr, "3 entries up to seq 3 in "+path) {
			t.Errorf("%+v", r)
		}
		var got, want entries
		decoder := json.NewDecoder(strings.NewReader(mustRead(t, path)))
		for decoder.More() {
			var e client.AuditEntry
			if err := decoder.Decode(&e); err != nil {
				t.Fatal(err)
			}
			got.Entries = append(got.Entries, e)
		}
		w.mustDecode(t, &want, "audit", "list", "--oldest-first")
		gotText, wantText := mustMarshal(t, got), mustMarshal(t, want)
		if !bytes.Equal(gotText, wantText) {
			t.Errorf("the export has\n%s\nthe list\n%s", gotText, wantText)
		}
		if out := w.must(t, "audit", "export"); out != mustRead(t, path) {
			t.Errorf("on standard output\n%s", out)
		}
	})
	t.Run("csv", func(t *testing.T) {
		path := filepath.Join(dir, "audit.csv")
		var report struct {
			File        string  `json:"file"`
			Format      string  `json:"format"`
			Entries     int64   `json:"entries"`
			LastSeq     uint64  `json:"last_seq"`
			Bytes       int64   `json:"bytes"`
			TookSeconds float64 `json:"took_seconds"`
		}
		w.mustDecode(t, &report, "audit", "export", "--format", "csv", "--output-file", path)
		text := mustRead(t, path)
		if report.File != path || report.Format != "csv" || report.Entries != 3 || report.LastSeq != 3 || report.Bytes != int64(len(text)) {
			t.Errorf("%+v of %d bytes", report, len(text))
		}
		table, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil || len(table) != 4 {
			t.Fatalf("%v: %q", err, table)
		}
		column := map[string]int{}
		for i, heading := range table[0] {
			column[heading] = i
		}
		cell := func(row int, name string) string {
			i, ok := column[name]
			if !ok {
				t.Fatalf("no column %s in %q", name, table[0])
			}
			return table[row][i]
		}
		if got := cell(2, "subject") + " " + cell(2, "action") + " " + cell(3, "seq"); got != id+" key.created 3" {
			t.Errorf("got %s", got)
		}
		if got := cell(3, "reason"); got != "'@SUM(A1)" {
			t.Errorf("a spreadsheet would take the reason for a formula: %s", got)
		}
		if all := strings.Join(table[2], "|"); !strings.Contains(all, "ünïcödé") {
			t.Errorf("the name is not in %s", all)
		}
		for _, row := range table[1:] {
			for _, cell := range row {
				if strings.HasPrefix(cell, "=") || strings.HasPrefix(cell, "+") || strings.HasPrefix(cell, "@") || strings.HasPrefix(cell, "-") {
					t.Errorf("a spreadsheet would take %s for a formula", cell)
				}
			}
		}
		if again := w.must(t, "audit", "export", "--format", "csv"); again != text {
			t.Errorf("again it is\n%s", again)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		path := filepath.Join(dir, "none.csv")
		r := w.cli(t, "", "audit", "export", "--format", "csv", "--key", "key_nobody", "--output-file", path)
		if r.code != exitOK || !strings.Contains(r.stderr, "No entries in "+path) || strings.Count(mustRead(t, path), "\n") != 1 {
			t.Errorf("%+v: %s", r, mustRead(t, path))
		}
	})
	t.Run("there already", func(t *testing.T) {
		path := filepath.Join(dir, "old")
		mustWrite(t, path, "old")
		if r := w.cli(t, "", "audit", "export", "--output-file", path); r.code != exitFailed || !strings.Contains(r.stderr, "--force") || mustRead(t, path) != "old" {
			t.Errorf("%+v", r)
		}
		w.must(t, "audit", "export", "--output-file", path, "--force")
		if strings.Count(mustRead(t, path), "\n") != 3 {
			t.Errorf("by force: %s", mustRead(t, path))
		}
	})
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
