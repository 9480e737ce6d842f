package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// away is tables that cannot be read, for a reason. Commands and checks must not ask
// them anything.
type away struct{ err error }

func (a away) WaitFor(context.Context, uint64) error { return a.err }

func (a away) Keys(context.Context, projections.KeyQuery) (projections.KeyPage, error) {
	return projections.KeyPage{}, a.err
}

func (a away) Key(context.Context, domain.KeyID, *projections.Moment) (projections.KeyRecord, error) {
	return projections.KeyRecord{}, a.err
}

func (a away) CountKeys(context.Context, projections.KeyQuery) (projections.Count, error) {
	return projections.Count{}, a.err
}

func (a away) Audit(context.Context, projections.AuditQuery) (projections.AuditPage, error) {
	return projections.AuditPage{}, a.err
}

func (a away) Moment(context.Context, projections.At) (projections.Moment, error) {
	return projections.Moment{}, a.err
}

func (a away) Info(context.Context) (projections.Info, error) { return projections.Info{}, a.err }

// reachable is a follower that is level with everything.
type reachable struct{}

func (reachable) WaitFor(context.Context, uint64) error { return nil }

func unavailable(code string) error {
	return fmt.Errorf("read /var/lib/keys.db: %w", &domain.Error{
		Kind: domain.KindUnavailable, Code: code, Message: "the database does not answer", Fix: "ask again shortly",
		Cause: errors.New("dial tcp 192.0.2.1:5432"),
	})
}

// TestTablesAway takes the tables away in every way they can be. Commands and checks
// go on, and reads are refused at once, with the reason and a time to come back.
func TestTablesAway(t *testing.T) {
	for _, code := range []string{
		projections.CodeUnavailable, projections.CodeTimeout, projections.CodeBuilding, projections.CodeStopped,
	} {
		for name, waits := range map[string]bool{"the reader says so": false, "the projector says so": true} {
			t.Run(code+", "+name, func(t *testing.T) {
				s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
					broken := away{unavailable(code)}
					c.Keys, c.Audit, c.Tables = broken, broken, reachable{}
					if waits {
						c.Tables = broken
					}
					c.AwaitTimeout = time.Minute
				}})
				testWithoutTables(t, s, code)
			})
		}
	}
}

func testWithoutTables(t *testing.T, s *servertest.Stack, code string) {
	t.Helper()
	k := s.MustCreateKey(t, client.CreateKeyRequest{})
	path := "/v1/keys/" + k.Key.ID
	s.MustDo(t, 200, servertest.Request{Method: http.MethodPatch, Path: path, Token: s.Operator, Body: `{"name":"n"}`}, nil)
	if v := mustVerify(t, s, client.VerifyRequest{Key: k.Token}); !v.Valid {
		t.Errorf("a check says %s", v.Code)
	}
	s.MustDo(t, 201, servertest.Request{Path: path + "/rotate", Token: s.Operator, Body: `{}`}, nil)
	s.MustDo(t, 200, servertest.Request{Path: path + "/revoke", Token: s.Operator, Body: `{}`}, nil)
	s.MustManagementKey(t, "acme", domain.ScopeAuditRead)
	s.MustDo(t, 200, servertest.Request{Path: path + "/events", Token: s.Operator}, nil)

	at := time.Now().UTC()
	for _, r := range []servertest.Request{
		{Path: "/v1/keys"}, {Path: "/v1/keys?count=true"}, {Path: "/v1/management-keys"}, {Path: path}, {Path: path + "?seq=1"}, {Path: "/v1/keys?seq=1"},
		{Path: "/v1/audit"}, {Path: "/v1/audit?format=csv"}, {Path: "/v1/verify", Body: client.VerifyRequest{KeyID: k.Key.ID, At: &at}},
	} {
		r.Token = s.Operator
		began := time.Now()
		a := s.Do(t, r)
		mustProblem(t, a, http.StatusServiceUnavailable, code)
		if strings.Contains(string(a.Body), "192.0.2.1") || strings.Contains(string(a.Body), "keys.db") {
			t.Errorf("%s: the answer tells of the inside: %s", r.Path, a.Body)
		}
		if a.Header.Get("Retry-After") != "2" {
			t.Errorf("%s: Retry-After %q", r.Path, a.Header.Get("Retry-After"))
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s took %s", r.Path, took)
		}
	}
}

// TestTablesDamaged reads a row that is not what was written: who asks is told what
// helps, and not where the file is.
func TestTablesDamaged(t *testing.T) {
	_, damaged := projections.ParseChanges([]byte("{"))
	if damaged == nil {
		t.Fatal("half an object was read")
	}
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
		c.Audit = away{fmt.Errorf("read the audit log in /var/lib/keys.db: %w", damaged)}
	}})
	a := s.Do(t, servertest.Request{Path: "/v1/audit", Token: s.Operator})
	p := mustProblem(t, a, http.StatusInternalServerError, projections.CodeCorrupt)
	if !strings.Contains(p.Fix, "keyledger projections check") || !strings.Contains(p.Fix, "rebuild") || strings.Contains(string(a.Body), "keys.db") {
		t.Errorf("the answer is %s", a.Body)
	}
}
