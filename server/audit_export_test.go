package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// pagedAudit is an audit log of which a test decides every page.
type pagedAudit struct {
	server.AuditReader

	page func(n int64, q projections.AuditQuery) (projections.AuditPage, error)
	n    atomic.Int64
}

func (a *pagedAudit) Audit(_ context.Context, q projections.AuditQuery) (projections.AuditPage, error) {
	return a.page(a.n.Add(1), q)
}

// endlessPage is a page of an export that never ends.
func endlessPage(n int64, _ projections.AuditQuery) (projections.AuditPage, error) {
	return projections.AuditPage{Entries: []projections.AuditEntry{{Seq: uint64(n), Time: time.Now()}}, Next: "next"}, nil
}

func mustPaged(t *testing.T, page func(int64, projections.AuditQuery) (projections.AuditPage, error), adjust func(*server.Config)) *servertest.Stack {
	t.Helper()
	return servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
		c.Audit = &pagedAudit{AuditReader: c.Audit, page: page}
		if adjust != nil {
			adjust(c)
		}
	}})
}

// mustOpen begins an export and reads its first line. rows is what its trailer says
// at the end.
func mustOpen(t *testing.T, s *servertest.Stack, path, token string) (lines *bufio.Scanner, rows func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	resp, err := http.DefaultClient.Do(s.NewRequest(t, ctx, servertest.Request{Path: path, Token: token}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	lines = bufio.NewScanner(resp.Body)
	if resp.StatusCode != http.StatusOK || !lines.Scan() {
		t.Fatalf("status %d, and the export is empty: %v", resp.StatusCode, lines.Err())
	}
	return lines, func() string { return resp.Trailer.Get(client.TrailerExportRows) }
}

// TestAuditExportEndsWithItsCredential revokes the key that an export was asked with.
func TestAuditExportEndsWithItsCredential(t *testing.T) {
	s := mustPaged(t, endlessPage, func(c *server.Config) { c.Heartbeat = 50 * time.Millisecond })
	auditor := s.MustManagementKey(t, "acme", domain.ScopeAuditRead)
	lines, rows := mustOpen(t, s, "/v1/audit?format=ndjson", auditor.Token)
	s.MustDo(t, 200, servertest.Request{Method: "POST", Path: "/v1/management-keys/" + auditor.Key.ID + "/revoke", Token: s.Operator}, nil)
	for lines.Scan() {
	}
	if lines.Err() == nil || rows() != "" {
		t.Errorf("the export ended as if it were complete: %v, %q", lines.Err(), rows())
	}
}

// TestAuditExportEndsWithTheServer stops a server that is being exported from.
func TestAuditExportEndsWithTheServer(t *testing.T) {
	s := mustPaged(t, endlessPage, nil)
	lines, _ := mustOpen(t, s, "/v1/audit?format=csv", s.Operator)
	drained := make(chan error)
	go func() {
		for lines.Scan() {
		}
		drained <- lines.Err()
	}()
	s.MustStop(t)
	if err := <-drained; err == nil {
		t.Error("the export ended as if it were complete")
	}
}

// TestAuditExportThatFails loses the tables before an export begins, and within it.
func TestAuditExportThatFails(t *testing.T) {
	var lost atomic.Int64
	s := mustPaged(t, func(n int64, q projections.AuditQuery) (projections.AuditPage, error) {
		if n > lost.Load() {
			return projections.AuditPage{}, unavailable(projections.CodeUnavailable)
		}
		return endlessPage(n, q)
	}, nil)
	mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/audit?format=csv", Token: s.Operator}), 503, projections.CodeUnavailable)
	lost.Store(3)
	lines, _ := mustOpen(t, s, "/v1/audit?format=csv", s.Operator)
	for lines.Scan() {
	}
	if lines.Err() == nil {
		t.Error("an export that lost its tables ended as if it were complete")
	}
}

func TestAuditExportsAreLimited(t *testing.T) {
	var release sync.Mutex
	release.Lock()
	s := mustPaged(t, func(n int64, q projections.AuditQuery) (projections.AuditPage, error) {
		page, err := endlessPage(n, q)
		if n == 2 {
			release.Lock() // until the test has seen the refusal
			page.Next = ""
		}
		return page, err
	}, func(c *server.Config) { c.MaxStreamsPerKey = 1 })
	lines, rows := mustOpen(t, s, "/v1/audit?format=ndjson", s.Operator)
	mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/audit?format=ndjson", Token: s.Operator}), 503, "too_many_streams")
	release.Unlock()
	for lines.Scan() {
	}
	if lines.Err() != nil || rows() != "2" {
		t.Errorf("the export ended with %v and the trailer %q", lines.Err(), rows())
	}
}

// TestAuditExportGoesThroughPages exports more than a page, with the client, while
// keys are being made.
func TestAuditExportGoesThroughPages(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	const keys = 1100 // and the operator
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range keys / 10 {
				s.MustCreateKey(t, client.CreateKeyRequest{Description: "two\nlines, \"quoted\""})
			}
		})
	}
	wg.Wait()
	c, err := client.New(client.Config{BaseURL: s.URL, Token: client.StaticToken(s.Operator)})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []client.ExportFormat{client.ExportNDJSON, client.ExportCSV} {
		var out bytes.Buffer
		var last client.ExportProgress
		if err := c.ExportAudit(t.Context(), client.AuditQuery{}, format, &out, client.WithProgress(func(p client.ExportProgress) { last = p })); err != nil {
			t.Fatal(err)
		}
		if want := (client.ExportProgress{Rows: keys + 1, Seq: keys + 1, ToSeq: keys + 1}); last != want {
			t.Errorf("%s: ended at %+v, want %+v", format, last, want)
		}
		if format == client.ExportCSV {
			for i, row := range mustRows(t, out.Bytes())[1:] {
				if row[0] != strconv.Itoa(i+1) {
					t.Fatalf("row %d is of %s", i, row[0])
				}
			}
		} else if n := bytes.Count(out.Bytes(), []byte("\n")); n != keys+1 {
			t.Errorf("%d lines", n)
		}
	}
	var listed []uint64
	for e, err := range c.AuditEntries(t.Context(), client.AuditQuery{PageSize: 500}) {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, e.Seq)
	}
	slices.Reverse(listed)
	if len(listed) != keys+1 || listed[0] != 1 || listed[keys] != keys+1 {
		t.Errorf("listed %d entries", len(listed))
	}
	failing := errors.New("the disk is full")
	if err := c.ExportAudit(t.Context(), client.AuditQuery{}, client.ExportCSV, failingWriter{failing}); !errors.Is(err, failing) {
		t.Errorf("a writer that fails: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

var _ io.Writer = failingWriter{}
