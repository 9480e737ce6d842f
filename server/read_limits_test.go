package server_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// slowLists is tables whose lists and counts take until a test lets them go.
type slowLists struct {
	server.KeyReader

	began chan struct{} // gets one for every list and count that runs
	end   chan struct{}
}

func (s slowLists) wait(ctx context.Context) error {
	s.began <- struct{}{}
	select {
	case <-s.end:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s slowLists) Keys(ctx context.Context, q projections.KeyQuery) (projections.KeyPage, error) {
	if err := s.wait(ctx); err != nil {
		return projections.KeyPage{}, err
	}
	return s.KeyReader.Keys(ctx, q)
}

// TestReadLimits has lists that never end fill the places of a key and of the node.
func TestReadLimits(t *testing.T) {
	slow := slowLists{began: make(chan struct{}, 10), end: make(chan struct{})}
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
		slow.KeyReader = c.Keys
		c.Keys, c.MaxReadsPerKey, c.MaxReads, c.ReadPatience = slow, 2, 3, 50*time.Millisecond
	}})
	k := s.MustCreateKey(t, client.CreateKeyRequest{Account: "acme"})
	one := s.MustManagementKey(t, "acme", domain.ScopeKeysRead, domain.ScopeAuditRead).Token
	two := s.MustManagementKey(t, "acme", domain.ScopeKeysRead, domain.ScopeAuditRead).Token
	var lists sync.WaitGroup
	list := func(token, query string) {
		t.Helper()
		lists.Go(func() {
			if a := s.Do(t, servertest.Request{Path: "/v1/keys" + query, Token: token}); a.Status != http.StatusOK {
				t.Errorf("a list was answered with %d: %s", a.Status, a.Body)
			}
		})
		<-slow.began
	}
	refused := func(token, path string) {
		t.Helper()
		a := s.Do(t, servertest.Request{Path: path, Token: token})
		mustProblem(t, a, http.StatusTooManyRequests, "too_many_reads")
		if after := a.Header.Get("Retry-After"); after != "1" {
			t.Errorf("Retry-After %q", after)
		}
	}
	list(one, "?count=true")
	refused(one, "/v1/keys?count=true") // one count at a time
	list(one, "")
	refused(one, "/v1/keys")
	refused(one, "/v1/audit")
	s.MustDo(t, 200, servertest.Request{Path: "/v1/audit", Token: two}, nil) // others have places
	list(two, "")
	refused(s.Operator, "/v1/management-keys")
	for _, token := range []string{one, s.Operator} { // keys are read whatever is searched for
		s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + k.Key.ID, Token: token}, nil)
	}
	close(slow.end)
	lists.Wait()
	for range 5 { // all places are free again
		s.MustDo(t, 200, servertest.Request{Path: "/v1/keys?count=true", Token: one}, nil)
		<-slow.began
	}
}
