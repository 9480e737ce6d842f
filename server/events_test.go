package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// mustStored reads the log itself, as the lines that the API must answer with.
func mustStored(t *testing.T, s *servertest.Stack, f eventstore.Filter) []string {
	t.Helper()
	var lines []string
	for e, err := range s.Log.Replay(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		subject, err := e.Aggregate.Subject()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(client.EventRecord{Seq: e.Seq, Subject: subject, Event: e.Raw}.Line()))
	}
	return lines
}

// mustHistory makes keys in two accounts and changes them.
func mustHistory(t *testing.T, s *servertest.Stack) (ours, theirs client.KeyResult) {
	t.Helper()
	ours = s.MustCreateKey(t, client.CreateKeyRequest{Account: "acme", Name: `quotes " and <angles> & ü`, Description: "line\nbreak\u2028", Metadata: map[string]string{"b": "1", "a": "2"}})
	theirs = s.MustCreateKey(t, client.CreateKeyRequest{Account: "other"})
	for _, name := range []string{"one", "two", "three"} {
		s.MustDo(t, 200, servertest.Request{Method: "PATCH", Path: "/v1/keys/" + ours.Key.ID, Token: s.Operator, Body: `{"name":"` + name + `"}`}, nil)
	}
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + theirs.Key.ID + "/revoke", Token: s.Operator, Body: `{"reason":"gone"}`}, nil)
	return ours, theirs
}

func TestEventPages(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	ours, theirs := mustHistory(t, s)
	all := mustStored(t, s, eventstore.Filter{})
	account := mustStored(t, s, eventstore.Filter{Account: "acme"})
	tests := []struct {
		path string
		want []string
	}{
		{"/v1/events?", all},
		{"/v1/events?account=acme", account},
		{"/v1/keys/" + ours.Key.ID + "/events?", account},
		{"/v1/keys/" + theirs.Key.ID + "/events?type=keyledger.key.revoked.v1", all[len(all)-1:]},
		{"/v1/events?type=keyledger.key.updated.v1&type=keyledger.key.revoked.v1", all[3:]},
		{"/v1/events?from_seq=" + strconv.Itoa(len(all)), all[len(all)-1:]},
		{"/v1/events?from_seq=10000", nil},
		{"/v1/events?from_time=1970-01-01T00:00:00Z", all},
		{"/v1/events?from_time=2099-01-01T00:00:00Z", nil},
		{"/v1/events?from_time=2020-01-01T00:00:00%2B02:00", all},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.path, ours.Key.ID, "ours"), func(t *testing.T) {
			var got []string
			for token, pages := "", 0; pages == 0 || token != ""; pages++ {
				path := tt.path + "&page_size=2&page_token=" + url.QueryEscape(token)
				if token == "" {
					path = tt.path + "&page_size=2"
				}
				a := s.MustDo(t, 200, servertest.Request{Path: path, Token: s.Operator}, nil)
				var page struct {
					Events []json.RawMessage `json:"events"`
					Next   string            `json:"next_page_token"`
				}
				if err := json.Unmarshal(a.Body, &page); err != nil {
					t.Fatalf("%s: %v", a.Body, err)
				}
				if len(page.Events) > 2 || page.Events == nil {
					t.Fatalf("a page of %d events: %s", len(page.Events), a.Body)
				}
				for _, e := range page.Events {
					got = append(got, string(e))
				}
				token = page.Next
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}

			export := s.MustDo(t, 200, servertest.Request{Path: tt.path, Token: s.Operator, Header: map[string]string{"Accept": client.MediaTypeNDJSON}}, nil)
			want := ""
			if len(tt.want) > 0 {
				want = strings.Join(tt.want, "\n") + "\n"
			}
			if string(export.Body) != want || export.Header.Get("Content-Type") != client.MediaTypeNDJSON {
				t.Errorf("exported as %s\n%s\nwant\n%s", export.Header.Get("Content-Type"), export.Body, want)
			}
		})
	}
	mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/events?page_size=2", Token: s.Operator, Header: map[string]string{"Accept": client.MediaTypeNDJSON}}), 400, "validation_failed")
}

// TestLargePageEndsEarly asks for more than a page may hold.
func TestLargePageEndsEarly(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	metadata := map[string]string{}
	for i := range 16 {
		metadata["k"+strconv.Itoa(i)] = strings.Repeat("v", 500)
	}
	for range 130 { // 130 × 9 KB is over 1 MiB
		s.MustCreateKey(t, client.CreateKeyRequest{Metadata: metadata, Description: strings.Repeat("d", 500)})
	}
	var first, second client.EventPage
	s.MustDo(t, 200, servertest.Request{Path: "/v1/events?page_size=1000", Token: s.Operator}, &first)
	s.MustDo(t, 200, servertest.Request{Path: "/v1/events?page_size=1000&page_token=" + first.NextPageToken, Token: s.Operator}, &second)
	if len(first.Events)+len(second.Events) != 131 || second.NextPageToken != "" || len(second.Events) == 0 {
		t.Errorf("pages of %d and %d events", len(first.Events), len(second.Events))
	}
}

// TestPagesOfARareType walks over a log of which a page gets to see one event only.
func TestPagesOfARareType(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) { c.ScanTime = time.Nanosecond }})
	mustHistory(t, s)
	all := mustStored(t, s, eventstore.Filter{})
	for query, want := range map[string]uint64{
		"type=keyledger.key.revoked.v1":               uint64(len(all)),
		"type=keyledger.key.leaked.v1":                0,
		"from_seq=1&from_time=2099-01-01T00:00:00Z":   0,
		"account=other&type=keyledger.key.revoked.v1": uint64(len(all)),
	} {
		var found []uint64
		pages, empty := 0, 0
		for token := ""; pages == 0 || token != ""; pages++ {
			path := "/v1/events?" + query
			if token != "" {
				path += "&page_token=" + token
			}
			var page client.EventPage
			s.MustDo(t, 200, servertest.Request{Path: path, Token: s.Operator}, &page)
			for _, e := range page.Events {
				found = append(found, e.Seq)
			}
			if len(page.Events) == 0 && page.NextPageToken != "" {
				empty++
			}
			if token = page.NextPageToken; pages > len(all) {
				t.Fatalf("%s: the pages do not get on", query)
			}
		}
		if want == 0 && len(found) > 0 || want > 0 && !slices.Equal(found, []uint64{want}) {
			t.Errorf("%s: found %v, want %d", query, found, want)
		}
		if empty == 0 {
			t.Errorf("%s: none of %d pages was empty", query, pages)
		}
	}
}

// sse is a stream of server-sent events that a test reads.
type sse struct {
	t      *testing.T
	lines  *bufio.Scanner
	cancel context.CancelFunc
	resp   *http.Response
}

func mustFollow(t *testing.T, s *servertest.Stack, path, token string, header map[string]string) *sse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	headers := map[string]string{"Accept": client.MediaTypeEventStream}
	maps.Copy(headers, header)
	resp, err := http.DefaultClient.Do(s.NewRequest(t, ctx, servertest.Request{Path: path, Token: token, Header: headers}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != client.MediaTypeEventStream {
		t.Fatalf("status %d, Content-Type %q", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return &sse{t: t, lines: lines, cancel: cancel, resp: resp}
}

// next returns the next block of lines; ok is false at the end of the stream.
func (f *sse) next() (block []string, ok bool) {
	for f.lines.Scan() {
		if line := f.lines.Text(); line != "" {
			block = append(block, line)
		} else if len(block) > 0 {
			return block, true
		}
	}
	return block, false
}

// mustEvent returns the data of the next event, over any comments.
func (f *sse) mustEvent() (id, data string) {
	f.t.Helper()
	for {
		block, ok := f.next()
		if !ok {
			f.t.Fatalf("the stream ended: %v", f.lines.Err())
		}
		if strings.HasPrefix(block[0], ":") {
			continue
		}
		if len(block) != 3 || !strings.HasPrefix(block[1], "event: keyledger.key.") {
			f.t.Fatalf("not an event: %q", block)
		}
		return strings.TrimPrefix(block[0], "id: "), strings.TrimPrefix(block[2], "data: ")
	}
}

func TestFollow(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	ours, _ := mustHistory(t, s)
	stored := mustStored(t, s, eventstore.Filter{})
	f := mustFollow(t, s, "/v1/events", s.Operator, nil)
	for i, want := range stored {
		if id, data := f.mustEvent(); data != want || id != strconv.Itoa(i+1) {
			t.Fatalf("event %s is\n%s\nwant\n%s", id, data, want)
		}
	}
	// It goes on with what is new.
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + ours.Key.ID + "/revoke", Token: s.Operator, Body: `{}`}, nil)
	last := len(stored) + 1
	if id, data := f.mustEvent(); id != strconv.Itoa(last) || !strings.Contains(data, string(domain.TypeKeyRevoked)) {
		t.Fatalf("then came %s %s", id, data)
	}
	f.cancel()

	// A connection that broke resumes behind what it has seen.
	resumed := mustFollow(t, s, "/v1/keys/"+ours.Key.ID+"/events?from_seq=1", s.Operator, map[string]string{"Last-Event-ID": strconv.Itoa(last - 1)})
	if id, _ := resumed.mustEvent(); id != strconv.Itoa(last) {
		t.Errorf("resumed with %s, want %d", id, last)
	}
	for _, last := range []string{"x", "-1", "18446744073709551615", "18446744073709551616"} {
		mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/events", Token: s.Operator, Header: map[string]string{
			"Accept": client.MediaTypeEventStream, "Last-Event-ID": last,
		}}), 400, "validation_failed")
	}
}

// TestFollowOutlivesTimeouts follows for longer than the server gives a request.
func TestFollowOutlivesTimeouts(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
		c.ReadTimeout, c.WriteTimeout, c.HandlerTimeout = 300*time.Millisecond, 300*time.Millisecond, 200*time.Millisecond
		c.Heartbeat = 100 * time.Millisecond
	}})
	f := mustFollow(t, s, "/v1/events?from_seq=2", s.Operator, nil)
	for range 8 { // 800 ms
		if block, ok := f.next(); !ok || block[0] != ": alive" {
			t.Fatalf("an idle stream says %q", block)
		}
	}
	s.MustCreateKey(t, client.CreateKeyRequest{})
	if id, _ := f.mustEvent(); id != "2" {
		t.Errorf("then came event %s", id)
	}
}

// TestFollowEndsWithItsCredential revokes the key that a stream was opened with.
func TestFollowEndsWithItsCredential(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) { c.Heartbeat = 100 * time.Millisecond }})
	auditor := s.MustManagementKey(t, "acme", domain.ScopeAuditRead)
	f := mustFollow(t, s, "/v1/events", auditor.Token, nil)
	f.mustEvent() // its own creation, in its own account
	s.MustDo(t, 200, servertest.Request{Method: "POST", Path: "/v1/management-keys/" + auditor.Key.ID + "/revoke", Token: s.Operator}, nil)
	s.MustCreateKey(t, client.CreateKeyRequest{Account: "acme"})
	for {
		block, ok := f.next()
		if !ok {
			break
		}
		if strings.Contains(strings.Join(block, ""), string(domain.TypeKeyCreated)) {
			t.Fatalf("after the revocation came %q", block)
		}
	}
	if err := f.lines.Err(); err != nil {
		t.Errorf("the stream broke: %v", err)
	}
}

// TestShutdownEndsStreams stops a server that is being followed and exported from.
func TestShutdownEndsStreams(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	f := mustFollow(t, s, "/v1/events", s.Operator, nil)
	f.mustEvent()
	start := time.Now()
	s.MustStop(t)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the shutdown waited %s for a stream", took)
	}
	for {
		if _, ok := f.next(); !ok {
			break
		}
	}
	if err := f.lines.Err(); err != nil {
		t.Errorf("the stream broke: %v", err)
	}
}

func TestEventLineIsTheExportLine(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	mustHistory(t, s)
	export := s.MustDo(t, 200, servertest.Request{Path: "/v1/events", Token: s.Operator, Header: map[string]string{"Accept": client.MediaTypeNDJSON}}, nil)
	for line := range bytes.Lines(export.Body) {
		var record client.EventRecord
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatal(err)
		}
		if got := append(record.Line(), '\n'); !bytes.Equal(got, line) {
			t.Errorf("the client would write\n%s\nand the server wrote\n%s", got, line)
		}
		stored, err := s.Log.At(t.Context(), record.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stored.Raw, record.Event) {
			t.Errorf("event %d is not the stored bytes", record.Seq)
		}
	}
}
