package server_test

import (
	"bufio"
	"context"
	"iter"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// watchedHistory counts what is asked of a history, and can make it endless.
type watchedHistory struct {
	server.History

	reads, heads atomic.Int64
	endless      atomic.Bool // replays begin anew until their context ends
}

func (h *watchedHistory) Head(ctx context.Context) (uint64, error) {
	h.heads.Add(1)
	return h.History.Head(ctx)
}

func (h *watchedHistory) Follow(ctx context.Context, f eventstore.Filter) iter.Seq2[eventstore.Event, error] {
	h.reads.Add(1)
	return h.History.Follow(ctx, f)
}

func (h *watchedHistory) Replay(ctx context.Context, f eventstore.Filter) iter.Seq2[eventstore.Event, error] {
	h.reads.Add(1)
	if !h.endless.Load() {
		return h.History.Replay(ctx, f)
	}
	return func(yield func(eventstore.Event, error) bool) {
		for ctx.Err() == nil {
			for e, err := range h.History.Replay(ctx, f) {
				if !yield(e, err) {
					return
				}
			}
		}
	}
}

// mustWatch starts a stack on a watched history.
func mustWatch(t *testing.T, adjust func(*server.Config)) (*servertest.Stack, *watchedHistory) {
	t.Helper()
	h := &watchedHistory{}
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
		h.History = c.History
		c.History = h
		if adjust != nil {
			adjust(c)
		}
	}})
	return s, h
}

// TestExportEndsWithItsCredential revokes the key that an export was asked with. It
// must break off, and not end as if it were complete.
func TestExportEndsWithItsCredential(t *testing.T) {
	s, h := mustWatch(t, func(c *server.Config) { c.Heartbeat = 50 * time.Millisecond })
	h.endless.Store(true)
	auditor := s.MustManagementKey(t, "acme", domain.ScopeAuditRead)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := http.DefaultClient.Do(s.NewRequest(t, ctx, servertest.Request{
		Path: "/v1/events", Token: auditor.Token, Header: map[string]string{"Accept": client.MediaTypeNDJSON},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // a test's
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() {
		t.Fatalf("the export is empty: %v", lines.Err())
	}
	s.MustDo(t, 200, servertest.Request{Method: "POST", Path: "/v1/management-keys/" + auditor.Key.ID + "/revoke", Token: s.Operator}, nil)
	for lines.Scan() {
	}
	if ctx.Err() != nil {
		t.Fatal("the export went on after its credential had ended")
	}
	if lines.Err() == nil {
		t.Error("the export ended as if it were complete")
	}
}

// TestHeadReadsNothing asks for the headers of what would go on for long.
func TestHeadReadsNothing(t *testing.T) {
	s, h := mustWatch(t, nil)
	for _, form := range []string{client.MediaTypeEventStream, client.MediaTypeNDJSON} {
		a := s.MustDo(t, 200, servertest.Request{Method: http.MethodHead, Path: "/v1/events", Token: s.Operator, Header: map[string]string{"Accept": form}}, nil)
		if got := a.Header.Get("Content-Type"); got != form {
			t.Errorf("Content-Type %q, want %q", got, form)
		}
	}
	if n := h.reads.Load(); n != 0 {
		t.Errorf("HEAD read the log %d times", n)
	}
}
