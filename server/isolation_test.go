package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// TestIsolation asks on every route that takes an id for what is not the caller's:
// another account's, the other collection's, nobody's. All are answered alike.
func TestIsolation(t *testing.T) {
	reader := &countingReader{}
	s, history := mustWatch(t, func(c *server.Config) {
		reader.KeyReader = c.Keys
		c.Keys = reader
	})
	all := []domain.Scope{domain.ScopeKeysRead, domain.ScopeKeysWrite, domain.ScopeAuditRead, domain.ScopeVerify, domain.ScopeOperate}
	acme := s.MustManagementKey(t, "acme", all...)
	other := s.MustManagementKey(t, "other", all...)
	theirs := s.MustCreateKey(t, client.CreateKeyRequest{Account: "other", Name: "theirs"})
	ours := s.MustCreateKey(t, client.CreateKeyRequest{Account: "acme", Name: "ours"})
	head, err := s.Log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	keys := map[string]string{
		"another account's key": theirs.Key.ID, "another account's management key": other.Key.ID,
		"a management key": acme.Key.ID, "nobody's": "key_AAAAAAAAAAAAAAAA",
	}
	managementKeys := map[string]string{
		"another account's management key": other.Key.ID, "another account's key": theirs.Key.ID,
		"an ordinary key": ours.Key.ID, "the operator": mustOperatorID(t, s), "nobody's": "key_AAAAAAAAAAAAAAAA",
	}
	routes := []struct {
		method, before, after, body string
		ids                         map[string]string
	}{
		{"GET", "/v1/keys/", "", "", keys},
		{"GET", "/v1/keys/", "?seq=1", "", keys},
		{"PATCH", "/v1/keys/", "", `{"name":"mine now"}`, keys},
		{"POST", "/v1/keys/", "/revoke", `{"reason":"mine now"}`, keys},
		{"POST", "/v1/keys/", "/rotate", `{}`, keys},
		{"GET", "/v1/keys/", "/events", "", keys},
		{"GET", "/v1/keys/", "/usage", "", keys},
		{"GET", "/v1/management-keys/", "", "", managementKeys},
		{"GET", "/v1/management-keys/", "/usage", "", managementKeys},
		{"GET", "/v1/management-keys/", "?at=2020-01-01T00:00:00Z", "", managementKeys},
		{"POST", "/v1/management-keys/", "/revoke", `{}`, managementKeys},
	}
	covered := map[string]bool{}
	for _, route := range routes {
		covered[route.method+" "+route.before+"{id}"+route.after] = true
		var first map[string]any
		for what, id := range route.ids {
			t.Run(fmt.Sprintf("%s %s…%s %s", route.method, route.before, route.after, what), func(t *testing.T) {
				r := servertest.Request{Method: route.method, Path: route.before + id + route.after, Token: acme.Token}
				if route.body != "" {
					r.Body = route.body
				}
				heads, rows := history.heads.Load(), reader.rows.Load()
				a := s.Do(t, r)
				mustProblem(t, a, 404, "key_not_found")
				// The time that an answer takes must not tell either.
				heads, rows = history.heads.Load()-heads, reader.rows.Load()-rows
				if heads != 1 || rows != 0 {
					t.Errorf("asked the log for its end %d times and the table %d times: want once and never, whatever the id", heads, rows)
				}
				var body map[string]any
				if err := json.Unmarshal(a.Body, &body); err != nil {
					t.Fatal(err)
				}
				delete(body, "instance")
				delete(body, "request_id")
				if first == nil {
					first = body
				}
				if !reflect.DeepEqual(body, first) {
					t.Errorf("answered %v here and %v elsewhere: the difference tells which ids exist", body, first)
				}
			})
		}
	}
	covered["GET /v1/commands/{id}"] = true // the id is the caller's own word: see TestGetCommand
	for route := range documentedRoutes(t, s) {
		if strings.Contains(route, "{id}") && !covered[route] {
			t.Errorf("%s takes an id and is not in this matrix", route)
		}
	}
	if after, err := s.Log.Head(t.Context()); err != nil || after != head {
		t.Errorf("the log grew from %d to %d (%v)", head, after, err)
	}

	t.Run("lists", func(t *testing.T) {
		for _, path := range []string{"/v1/keys", "/v1/keys?account=acme", "/v1/management-keys", "/v1/events", "/v1/audit", "/v1/audit?format=csv"} {
			a := s.MustDo(t, 200, servertest.Request{Path: path, Token: acme.Token}, nil)
			if text := string(a.Body); strings.Contains(text, theirs.Key.ID) || strings.Contains(text, other.Key.ID) || !strings.Contains(text, "acme") {
				t.Errorf("%s answers %s", path, text)
			}
		}
		for _, path := range []string{"/v1/keys?account=other", "/v1/management-keys?account=_root", "/v1/events?account=other", "/v1/audit?account=other", "/v1/audit?account=other&format=ndjson"} {
			mustProblem(t, s.Do(t, servertest.Request{Path: path, Token: acme.Token}), 403, "ceiling_exceeded")
		}
		a := s.MustDo(t, 200, servertest.Request{Path: "/v1/keys", Token: s.Operator}, nil)
		if text := string(a.Body); !strings.Contains(text, theirs.Key.ID) || !strings.Contains(text, ours.Key.ID) {
			t.Errorf("the operator does not see all accounts: %s", text)
		}
	})
	t.Run("verify", func(t *testing.T) {
		var v client.VerifyResult
		s.MustDo(t, 200, servertest.Request{Path: "/v1/verify", Token: acme.Token, Body: client.VerifyRequest{Key: theirs.Token}}, &v)
		if v.Code != "UNKNOWN" || v.KeyID != "" || v.Account != "" || v.Scopes != nil || v.ExpiresAt != nil {
			t.Errorf("another account's key: %+v", v)
		}
	})
}

// countingReader counts the reads of single keys.
type countingReader struct {
	server.KeyReader

	rows atomic.Int64
}

func (r *countingReader) Key(ctx context.Context, id domain.KeyID, at *projections.Moment) (projections.KeyRecord, error) {
	r.rows.Add(1)
	return r.KeyReader.Key(ctx, id, at)
}

func mustOperatorID(t *testing.T, s *servertest.Stack) string {
	t.Helper()
	parsed, err := domain.TokenFormat{}.ParseToken(s.Operator)
	if err != nil {
		t.Fatal(err)
	}
	return string(parsed.KeyID)
}

// documentedRoutes returns "METHOD /path" of everything in the OpenAPI document.
func documentedRoutes(t *testing.T, s *servertest.Stack) map[string]bool {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	s.MustDo(t, http.StatusOK, servertest.Request{Path: "/openapi.json"}, &doc)
	routes := map[string]bool{}
	for path, item := range doc.Paths {
		for method := range item {
			routes[strings.ToUpper(method)+" "+path] = true
		}
	}
	return routes
}
