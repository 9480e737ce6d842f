package server_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// mustAudit reads one page of the audit log.
func mustAudit(t *testing.T, s *servertest.Stack, query string) client.AuditPage {
	t.Helper()
	var page client.AuditPage
	s.MustDo(t, 200, servertest.Request{Path: "/v1/audit?" + query, Token: s.Operator}, &page)
	return page
}

func seqsOf(entries []client.AuditEntry) (seqs []uint64) {
	for _, e := range entries {
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

func TestAudit(t *testing.T) {
	p := mustPast(t)
	id, all := p.created.Key.ID, []uint64{4, 3, 2, 1} // revoked, updated, created, the operator
	tests := []struct {
		query string
		want  []uint64
	}{
		{"", all},
		{"order=newest", all},
		{"order=oldest", []uint64{1, 2, 3, 4}},
		{"account=acme", all[:3]},
		{"account=nobody", nil},
		{"actor=" + mustOperatorID(t, p.Stack), all[:3]},
		{"action=key.updated", all[1:2]},
		{"action=key.leaked", nil},
		{"key_id=" + id, all[:3]},
		{"command=" + string(domain.CommandRevokeKey), all[:1]},
		{"from_seq=3", all[:2]},
		{"to_seq=2", all[2:]},
		{"from_seq=2&to_seq=3", all[1:3]},
		{"from_seq=4&to_seq=3", nil},
		{"from_time=" + p.start.Add(time.Hour).UTC().Format(time.RFC3339Nano), all[:2]},
		{"to_time=" + p.start.Add(time.Hour).UTC().Format(time.RFC3339Nano), all[2:]},
		{"key_id=" + id + "&action=key.revoked&account=acme", all[:1]},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			page := mustAudit(t, p.Stack, tt.query)
			if got := seqsOf(page.Entries); !slices.Equal(got, tt.want) || page.Entries == nil {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	newest := mustAudit(t, p.Stack, "").Entries
	revoked, updated := newest[0], newest[1]
	if revoked.Action != "key.revoked" || revoked.Account != "acme" || revoked.Subject != id || revoked.Reason != "laptop lost" ||
		revoked.Actor != mustOperatorID(t, p.Stack) || revoked.Command != string(domain.CommandRevokeKey) || revoked.Void != "" ||
		revoked.CommandID == "" || revoked.RequestID == "" || revoked.EventID == "" || !revoked.Time.Equal(p.start.Add(2*time.Hour).Truncate(time.Microsecond)) {
		t.Errorf("the revocation is %+v", revoked)
	}
	changes := map[string][2]string{}
	for _, c := range updated.Changes {
		changes[c.Field] = [2]string{string(c.Before), string(c.After)}
	}
	if changes["name"] != [2]string{`"first name"`, `"second name"`} || changes["scopes"] != [2]string{`["invoices:*"]`, `["payouts:read"]`} {
		t.Errorf("the update changed %v", changes)
	}
	for _, e := range newest {
		if text := mustJSON(t, e); strings.Contains(text, `"mac"`) || strings.Contains(text, "pepper") {
			t.Errorf("an entry shows what stays in the log: %s", text)
		}
	}
	// By the names that the command was given.
	for _, query := range []string{"command_id=" + url.QueryEscape(revoked.CommandID), "request_id=" + url.QueryEscape(revoked.RequestID)} {
		if got := seqsOf(mustAudit(t, p.Stack, query).Entries); !slices.Equal(got, []uint64{4}) {
			t.Errorf("%s: %v", query, got)
		}
	}
}

func TestAuditPages(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	for range 7 {
		s.MustCreateKey(t, client.CreateKeyRequest{})
	}
	for order, want := range map[string][]uint64{"newest": {8, 7, 6, 5, 4, 3, 2, 1}, "oldest": {1, 2, 3, 4, 5, 6, 7, 8}} {
		base := "page_size=3&order=" + order
		first := mustAudit(t, s, base)
		second := mustAudit(t, s, base+"&page_token="+url.QueryEscape(first.NextPageToken))
		third := mustAudit(t, s, base+"&page_token="+url.QueryEscape(second.NextPageToken))
		if got := slices.Concat(seqsOf(first.Entries), seqsOf(second.Entries), seqsOf(third.Entries)); !slices.Equal(got, want) || third.NextPageToken != "" || first.PrevPageToken != "" {
			t.Errorf("%s: pages of %v", order, got)
		}
		back := mustAudit(t, s, base+"&page_token="+url.QueryEscape(third.PrevPageToken))
		if !slices.Equal(seqsOf(back.Entries), seqsOf(second.Entries)) {
			t.Errorf("%s: the way back leads to %v", order, seqsOf(back.Entries))
		}
		mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/audit?" + base + "&action=key.created&page_token=" + url.QueryEscape(first.NextPageToken), Token: s.Operator}), 400, "invalid_page_token")
	}
}

func TestAuditRefusals(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) { c.AwaitTimeout = 100 * time.Millisecond }})
	tests := []struct {
		query, code, parameter string
		status                 int
	}{
		{"action=key.eaten", "validation_failed", "action", 400},
		{"order=random", "validation_failed", "order", 400},
		{"format=xml", "validation_failed", "format", 400},
		{"from_time=now", "validation_failed", "from_time", 400},
		{"to_time=1960-01-01T00:00:00Z", "validation_failed", "to_time", 400},
		{"from_seq=x", "validation_failed", "from_seq", 400},
		{"to_seq=-1", "validation_failed", "to_seq", 400},
		{"page_size=x", "validation_failed", "page_size", 400},
		{"page_token=x", "invalid_page_token", "page_token", 400},
		{"account=a.b", "invalid_account", "account", 400},
		{"key_id=a&key_id=b", "repeated_parameter", "key_id", 400},
		{"subject=x", "unknown_parameter", "subject", 400},
		{"key=x", "credential_in_query", "", 400},
		{"actor=%00", "invalid_query", "", 400},
		{"actor=%ff", "invalid_query", "", 400},
		{"format=csv&page_size=5", "validation_failed", "page_size", 400},
		{"format=ndjson&page_token=x", "validation_failed", "page_token", 400},
		{"format=csv&order=newest", "validation_failed", "order", 400},
		{"min_seq=999", "not_caught_up", "", 503},
		{"format=csv&min_seq=999", "not_caught_up", "", 503},
	}
	for _, tt := range tests {
		p := mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/audit?" + tt.query, Token: s.Operator}), tt.status, tt.code)
		if tt.parameter != "" && (len(p.Errors) != 1 || p.Errors[0].Parameter != tt.parameter) {
			t.Errorf("%s: errors %+v", tt.query, p.Errors)
		}
	}
	reader := s.MustManagementKey(t, "acme", domain.ScopeKeysRead, domain.ScopeOperate)
	for _, path := range []string{"/v1/audit", "/v1/audit?format=csv"} {
		mustProblem(t, s.Do(t, servertest.Request{Path: path, Token: reader.Token}), 403, "insufficient_scope")
	}
}

// TestAuditIsOfOnesOwn reads with a key of one account what it may.
func TestAuditIsOfOnesOwn(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	_, theirs := mustHistory(t, s)
	auditor := s.MustManagementKey(t, "acme", domain.ScopeAuditRead)
	for _, query := range []string{"", "?account=acme", "?key_id=" + theirs.Key.ID, "?actor=" + mustOperatorID(t, s), "?format=ndjson", "?format=csv"} {
		a := s.MustDo(t, 200, servertest.Request{Path: "/v1/audit" + query, Token: auditor.Token}, nil)
		if text := string(a.Body); strings.Contains(text, theirs.Key.ID) && !strings.Contains(query, theirs.Key.ID) || strings.Contains(text, `"other"`) ||
			strings.Contains(text, ",other,") || strings.Contains(text, "_root") {
			t.Errorf("%s: %s", query, text)
		}
	}
	mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/audit?account=other", Token: auditor.Token}), 403, "ceiling_exceeded")
}

func TestAuditExport(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	ours, _ := mustHistory(t, s)
	entries := mustAudit(t, s, "order=oldest&account=acme").Entries
	for form, accept := range map[string]string{"ndjson": client.MediaTypeNDJSON, "csv": client.MediaTypeCSV} {
		named := s.MustDo(t, 200, servertest.Request{Path: "/v1/audit?account=acme&format=" + form, Token: s.Operator}, nil)
		export := s.MustDo(t, 200, servertest.Request{Path: "/v1/audit?account=acme", Token: s.Operator, Header: map[string]string{"Accept": accept}}, nil)
		if !bytes.Equal(named.Body, export.Body) {
			t.Errorf("format and Accept disagree:\n%s\n%s", named.Body, export.Body)
		}
		if got := export.Header.Get("Content-Disposition"); !strings.HasPrefix(got, `attachment; filename="keyledger-audit-`) || !strings.HasSuffix(got, "."+form+`"`) {
			t.Errorf("Content-Disposition %q", got)
		}
		if got := export.Header.Get(client.HeaderExportToSeq); got != "7" {
			t.Errorf("the export of 7 events goes up to %q", got)
		}
		if !strings.HasPrefix(export.Header.Get("Content-Type"), accept) {
			t.Errorf("Content-Type %q", export.Header.Get("Content-Type"))
		}
		head := s.MustDo(t, 200, servertest.Request{Method: http.MethodHead, Path: "/v1/audit?format=" + form, Token: s.Operator}, nil)
		if len(head.Body) > 0 {
			t.Errorf("HEAD has a body")
		}
	}

	lines := s.MustDo(t, 200, servertest.Request{Path: "/v1/audit?account=acme&format=ndjson", Token: s.Operator}, nil).Body
	var got []string
	for line := range bytes.Lines(lines) {
		var e client.AuditEntry
		if err := json.Unmarshal(line, &e); err != nil || !bytes.HasPrefix(line, fmt.Appendf(nil, `{"seq":%d,`, e.Seq)) {
			t.Fatalf("%s: %v", line, err)
		}
		got = append(got, mustJSON(t, e))
	}
	var want []string
	for _, e := range entries {
		want = append(want, mustJSON(t, e))
	}
	if !slices.Equal(got, want) || len(want) != 4 {
		t.Errorf("exported\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	rows := mustRows(t, s.MustDo(t, 200, servertest.Request{Path: "/v1/audit?key_id=" + ours.Key.ID + "&format=csv&from_seq=3&to_seq=6", Token: s.Operator}, nil).Body)
	if len(rows) != 4 || rows[1][0] != "4" || rows[1][4] != "key.updated" || !strings.Contains(rows[2][7], `{"field":"name","before":"one","after":"two"}`) {
		t.Errorf("rows %q", rows)
	}
	none := mustRows(t, s.MustDo(t, 200, servertest.Request{Path: "/v1/audit?action=key.leaked&format=csv", Token: s.Operator}, nil).Body)
	if len(none) != 1 || none[0][0] != "seq" || none[0][12] != "event_id" {
		t.Errorf("an empty export is %q", none)
	}
}

func mustRows(t *testing.T, body []byte) [][]string {
	t.Helper()
	rows, err := csv.NewReader(bytes.NewReader(body)).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return rows
}

// TestAuditCSVIsSafe puts what a spreadsheet would run where people choose the text.
func TestAuditCSVIsSafe(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	evil := []string{"=1+1", "+1", "-1", "@SUM(1)", "=cmd|' /C calc'!A0", `","=1+1`, "harmless", "a\nb", "\t=1", `"=1`}
	want := []string{"'=1+1", "'+1", "'-1", "'@SUM(1)", "'=cmd|' /C calc'!A0", `","=1+1`, "harmless", "a\nb", "", `"=1`}
	for i, reason := range evil {
		k := s.MustCreateKey(t, client.CreateKeyRequest{})
		a := s.Do(t, servertest.Request{Path: "/v1/keys/" + k.Key.ID + "/revoke", Token: s.Operator, Body: client.RevokeKeyRequest{Reason: reason},
			Header: map[string]string{"Idempotency-Key": "=evil" + strconv.Itoa(i)}})
		if a.Status != http.StatusOK {
			t.Logf("the reason %q is not accepted: %d", reason, a.Status)
			want[i] = ""
		}
	}
	rows := mustRows(t, s.MustDo(t, 200, servertest.Request{Path: "/v1/audit?format=csv&action=key.revoked", Token: s.Operator}, nil).Body)
	var reasons []string
	for _, row := range rows[1:] {
		reasons = append(reasons, row[8])
		if !strings.HasPrefix(row[10], "'=evil") {
			t.Errorf("the command id is %q", row[10])
		}
		for _, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
				t.Errorf("a cell begins like a formula: %q", cell)
			}
		}
	}
	if want = slices.DeleteFunc(want, func(s string) bool { return s == "" }); len(reasons) < 7 {
		t.Fatalf("reasons %q", reasons)
	}
	for i := range want {
		if !slices.Contains(reasons, want[i]) {
			t.Errorf("reasons %q, want %q among them", reasons, want[i])
		}
	}
}
