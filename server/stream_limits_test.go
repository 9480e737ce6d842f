package server_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// TestStreamLimits opens streams that nobody reads until there are too many, for one
// key and for the node, and sees that a place is free again when one ends.
func TestStreamLimits(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) { c.MaxStreamsPerKey, c.MaxStreams = 2, 3 }})
	one := s.MustManagementKey(t, "acme", domain.ScopeAuditRead).Token
	two := s.MustManagementKey(t, "acme", domain.ScopeAuditRead).Token
	refused := func(token, form string) {
		t.Helper()
		a := s.Do(t, servertest.Request{Path: "/v1/events", Token: token, Header: map[string]string{"Accept": form}})
		mustProblem(t, a, http.StatusServiceUnavailable, "too_many_streams")
		if after := a.Header.Get("Retry-After"); after != "10" {
			t.Errorf("Retry-After %q", after)
		}
	}
	first := mustFollow(t, s, "/v1/events", one, nil)
	mustFollow(t, s, "/v1/events", one, nil)
	refused(one, client.MediaTypeEventStream)
	refused(one, client.MediaTypeNDJSON)
	mustFollow(t, s, "/v1/events", two, nil)
	refused(two, client.MediaTypeEventStream)
	refused(s.Operator, client.MediaTypeNDJSON)
	// Pages are no streams.
	s.MustDo(t, 200, servertest.Request{Path: "/v1/events", Token: one}, nil)

	first.cancel()
	for end := time.Now().Add(10 * time.Second); ; {
		a := s.Do(t, servertest.Request{Path: "/v1/events", Token: one, Header: map[string]string{"Accept": client.MediaTypeNDJSON}})
		if a.Status == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a stream has ended, and another is refused still: %s", a.Body)
		}
	}
	// An export that has ended has given its place back.
	s.MustDo(t, 200, servertest.Request{Path: "/v1/events", Token: two, Header: map[string]string{"Accept": client.MediaTypeNDJSON}}, nil)
}
