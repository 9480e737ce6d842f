package client_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
)

func TestKeyQueryParameters(t *testing.T) {
	var asked url.Values
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query()
		writeJSON(t, w, http.StatusOK, client.KeyPage{Count: &client.KeyCount{Keys: 7, AtLeast: true}})
	})
	at := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	q := client.KeyQuery{
		Account: "acme", Environment: "live", Status: "active", Scope: "invoices:read", Text: "a b", CreatedBy: "key_a",
		CreatedAfter: at, CreatedBefore: at, ExpiringAfter: at, ExpiringBefore: at, UsedAfter: at, UsedBefore: at, UnusedSince: at,
		Sort: "-name", At: at, Seq: 9, Count: true, PageSize: 5, PageToken: "token",
	}
	if _, err := c.ListKeys(t.Context(), q, client.WithMinSeq(3)); err != nil {
		t.Fatal(err)
	}
	instant := []string{"2030-01-02T02:04:05.000006Z"}
	want := url.Values{
		"account": {"acme"}, "environment": {"live"}, "status": {"active"}, "scope": {"invoices:read"}, "q": {"a b"}, "created_by": {"key_a"},
		"created_after": instant, "created_before": instant, "expiring_after": instant, "expiring_before": instant,
		"used_after": instant, "used_before": instant, "unused_since": instant, "sort": {"-name"}, "at": instant, "seq": {"9"},
		"count": {"true"}, "page_size": {"5"}, "page_token": {"token"}, "min_seq": {"3"},
	}
	if asked.Encode() != want.Encode() {
		t.Errorf("asked with\n%s\nwant\n%s", asked.Encode(), want.Encode())
	}
	if n, err := c.CountKeys(t.Context(), q); err != nil || n != (client.KeyCount{Keys: 7, AtLeast: true}) {
		t.Errorf("count %+v, %v", n, err)
	}
	if asked.Get("page_token") != "" || asked.Get("page_size") != "1" {
		t.Errorf("counted with %s", asked.Encode())
	}
}

func TestCountOfAnOldServer(t *testing.T) {
	c := mustClient(t, func(w http.ResponseWriter, _ *http.Request) { writeJSON(t, w, http.StatusOK, client.KeyPage{}) })
	if _, err := c.CountKeys(t.Context(), client.KeyQuery{}); err == nil {
		t.Error("no count is no error")
	}
}

func TestKeyOfThePast(t *testing.T) {
	var asked []string
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		writeJSON(t, w, http.StatusOK, client.KeyResult{})
	})
	for _, opt := range []client.CallOption{client.WithAt(time.Unix(0, 0)), client.WithSeq(0)} {
		if _, err := c.Key(t.Context(), "key_a", opt); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"at=1970-01-01T00%3A00%3A00Z", "seq=0"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

func TestAuditEntriesOverPages(t *testing.T) {
	var asked []string
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		page := client.AuditPage{Entries: []client.AuditEntry{{Seq: 9}}, NextPageToken: "second"}
		switch r.URL.Query().Get("page_token") {
		case "second": // a search that found nothing yet
			page = client.AuditPage{NextPageToken: "third", SearchedToSeq: 5}
		case "third":
			page = client.AuditPage{Entries: []client.AuditEntry{{Seq: 2}}}
		}
		writeJSON(t, w, http.StatusOK, page)
	})
	var got []uint64
	for e, err := range c.AuditEntries(t.Context(), client.AuditQuery{KeyID: "key_a", OldestFirst: true, FromSeq: 2, ToSeq: 9}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Seq)
	}
	const base = "from_seq=2&key_id=key_a&order=oldest"
	if want := []string{base + "&to_seq=9", base + "&page_token=second&to_seq=9", base + "&page_token=third&to_seq=9"}; !slices.Equal(got, []uint64{9, 2}) || !slices.Equal(asked, want) {
		t.Errorf("got %v; asked %q", got, asked)
	}
}

// exported is what a server sends of an export, and where it breaks off.
type exported struct {
	rows    []uint64
	broken  string // the beginning of a row that the connection cuts off
	trailer string // "": the right one; "-": none
}

func row(format client.ExportFormat, seq uint64) string {
	if format == client.ExportCSV {
		return fmt.Sprintf("%d,\"a\n\"\"b\"\"\",c\n", seq)
	}
	return fmt.Sprintf(`{"seq":%d,"reason":"a\n\"b\""}`+"\n", seq)
}

// mustExport exports from a server that answers like this, one after the other.
func mustExport(t *testing.T, format client.ExportFormat, answers ...exported) (text string, asked []string, last client.ExportProgress, err error) {
	t.Helper()
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		a := answers[len(asked)]
		asked = append(asked, r.URL.Query().Get("from_seq")+"-"+r.URL.Query().Get("to_seq"))
		w.Header().Set(client.HeaderExportToSeq, "9")
		w.Header().Set("Trailer", client.TrailerExportRows)
		if format == client.ExportCSV {
			_, _ = io.WriteString(w, "seq,reason,\"x\"\n")
		}
		for _, seq := range a.rows {
			_, _ = io.WriteString(w, row(format, seq))
		}
		_, _ = io.WriteString(w, a.broken)
		_ = http.NewResponseController(w).Flush()
		switch {
		case a.broken != "":
			panic(http.ErrAbortHandler)
		case a.trailer == "":
			w.Header().Set(client.TrailerExportRows, strconv.Itoa(len(a.rows)))
		case a.trailer != "-":
			w.Header().Set(client.TrailerExportRows, a.trailer)
		}
	})
	var b strings.Builder
	err = c.ExportAudit(t.Context(), client.AuditQuery{FromSeq: 2}, format, &b, client.WithProgress(func(p client.ExportProgress) { last = p }))
	return b.String(), asked, last, err
}

func TestExportResumes(t *testing.T) {
	for _, format := range []client.ExportFormat{client.ExportNDJSON, client.ExportCSV} {
		for name, answers := range map[string][]exported{
			"at once":                  {{rows: []uint64{3, 5, 8}}},
			"without a trailer":        {{rows: []uint64{3, 5, 8}, trailer: "-"}},
			"after a row that was cut": {{rows: []uint64{3, 5}, broken: row(format, 8)[:5]}, {rows: []uint64{8}}},
			"after the last row":       {{rows: []uint64{3, 5, 8}, broken: row(format, 9)[:1]}, {}},
			"that says it is less":     {{rows: []uint64{3, 5}, trailer: "3"}, {rows: []uint64{8}}},
			"over and over":            {{rows: []uint64{3}, broken: "5"}, {rows: []uint64{5}, broken: "8"}, {broken: "8"}, {rows: []uint64{8}}},
			"before the first of them": {{broken: "3"}, {rows: []uint64{3, 5, 8}}},
		} {
			t.Run(fmt.Sprintf("%s %s", format, name), func(t *testing.T) {
				text, asked, last, err := mustExport(t, format, answers...)
				want := row(format, 3) + row(format, 5) + row(format, 8)
				if format == client.ExportCSV {
					want = "seq,reason,\"x\"\n" + want
				}
				if err != nil || text != want {
					t.Errorf("wrote %q, %v, want %q", text, err, want)
				}
				if last != (client.ExportProgress{Rows: 3, Seq: 8, ToSeq: 9}) {
					t.Errorf("ended at %+v", last)
				}
				if len(asked) != len(answers) || asked[0] != "2-" || len(asked) > 1 && !strings.HasSuffix(asked[1], "-9") {
					t.Errorf("asked %q", asked)
				}
			})
		}
	}
}

func TestExportFails(t *testing.T) {
	cut := exported{broken: "3"}
	_, asked, _, err := mustExport(t, client.ExportNDJSON, cut, cut, cut, cut, cut)
	if err == nil || len(asked) != 4 {
		t.Errorf("after %d attempts: %v", len(asked), err)
	}
	c := mustClient(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>\n") })
	for _, format := range []client.ExportFormat{client.ExportNDJSON, client.ExportCSV, "xml"} {
		if err := c.ExportAudit(t.Context(), client.AuditQuery{}, format, io.Discard); err == nil {
			t.Errorf("%s: a page of something else is no error", format)
		}
	}
	refusing := mustClient(t, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(t, w, http.StatusForbidden, client.Problem{Status: http.StatusForbidden, Code: "insufficient_scope"})
	})
	err = refusing.ExportAudit(t.Context(), client.AuditQuery{}, client.ExportCSV, io.Discard)
	if refusal, ok := errors.AsType[*client.Error](err); !ok || refusal.Code != "insufficient_scope" {
		t.Errorf("a refusal is %v", err)
	}
}

func TestJobsOfTheTables(t *testing.T) {
	answers := map[string]string{
		"rebuild": `{"progress":{"kind":"rebuild","seq":1}}` + "\n" + `{"result":{"seq":9,"generation":2}}` + "\n",
		"check":   `{"difference":{"table":"keys"}}` + "\n" + `{"error":{"code":"read_store_timeout","message":"too long"}}` + "\n",
	}
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, answers[r.URL.Path[len("/v1/projections/"):]])
	})
	var progress []client.ProjectionsJob
	result, err := c.RebuildProjections(t.Context(), func(j client.ProjectionsJob) { progress = append(progress, j) })
	if err != nil || result.Generation != 2 || len(progress) != 1 || progress[0].Seq != 1 {
		t.Errorf("rebuilt: %+v, %v, after %+v", result, err, progress)
	}
	differences := 0
	_, err = c.CheckProjections(t.Context(), nil, func(client.ProjectionsDifference) { differences++ })
	if failure, ok := errors.AsType[*client.Error](err); !ok || failure.Error() != "too long (read_store_timeout)" || differences != 1 {
		t.Errorf("checked: %v, %d differences", err, differences)
	}
	answers["rebuild"] = `{"progress":{"kind":"rebuild"}}` + "\n"
	if _, err := c.RebuildProjections(t.Context(), nil); err == nil {
		t.Error("an answer that breaks off is no error")
	}
}
