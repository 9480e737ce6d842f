package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/server/servertest"
)

// past is a key with a history: made at start, renamed and restricted an hour later,
// revoked another hour later, all of which is three hours ago.
type past struct {
	*servertest.Stack
	clock   *clock
	start   time.Time
	created client.KeyResult
	renamed client.KeyResult
	revoked client.KeyResult
}

func mustPast(t *testing.T) *past {
	t.Helper()
	p := &past{clock: newClock()}
	p.Stack = servertest.MustStart(t, servertest.Config{Now: p.clock.now})
	p.clock.add(time.Minute)
	p.start = p.clock.now()
	p.created = p.MustCreateKey(t, client.CreateKeyRequest{Account: "acme", Name: "first name", Scopes: []string{"invoices:*"}})
	p.clock.add(time.Hour)
	p.MustDo(t, 200, servertest.Request{
		Method: http.MethodPatch, Path: "/v1/keys/" + p.created.Key.ID, Token: p.Operator, Body: `{"name":"second name","scopes":["payouts:read"]}`,
	}, &p.renamed)
	p.clock.add(time.Hour)
	p.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + p.created.Key.ID + "/revoke", Token: p.Operator, Body: `{"reason":"laptop lost"}`}, &p.revoked)
	p.clock.add(time.Hour)
	return p
}

// at is a parameter for a time after start.
func (p *past) at(d time.Duration) string {
	return "at=" + p.start.Add(d).UTC().Format(time.RFC3339Nano)
}

func TestKeyOfThePast(t *testing.T) {
	p := mustPast(t)
	tests := []struct {
		query   string
		name    string // "": 404
		status  string
		version uint64
		asOf    uint64
	}{
		{p.at(30 * time.Minute), "first name", "active", p.created.Seq, p.created.Seq},
		{p.at(0), "first name", "active", p.created.Seq, p.created.Seq},
		{p.at(time.Hour), "second name", "active", p.renamed.Seq, p.renamed.Seq},
		{p.at(90 * time.Minute), "second name", "active", p.renamed.Seq, p.renamed.Seq},
		{p.at(2 * time.Hour), "second name", "revoked", p.revoked.Seq, p.revoked.Seq},
		{p.at(3 * time.Hour), "second name", "revoked", p.revoked.Seq, p.revoked.Seq},
		{fmt.Sprint("seq=", p.renamed.Seq), "second name", "active", p.renamed.Seq, p.renamed.Seq},
		{fmt.Sprint("seq=", p.created.Seq), "first name", "active", p.created.Seq, p.created.Seq},
		{p.at(-time.Second), "", "", 0, 0},
		{"at=1971-01-01T00:00:00Z", "", "", 0, 0},
		{fmt.Sprint("seq=", p.created.Seq-1), "", "", 0, 0},
		{"seq=0", "", "", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			a := p.Do(t, servertest.Request{Path: "/v1/keys/" + p.created.Key.ID + "?" + tt.query, Token: p.Operator})
			if tt.name == "" {
				mustProblem(t, a, 404, "key_not_found")
				return
			}
			var got client.KeyResult
			p.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + p.created.Key.ID + "?" + tt.query, Token: p.Operator}, &got)
			if got.Key.Name != tt.name || got.Key.Status != tt.status || got.Key.Seq != tt.version || got.AsOfSeq == nil || *got.AsOfSeq != tt.asOf {
				t.Errorf("got %s", a.Body)
			}
			if want := fmt.Sprintf(`"%d"`, tt.version); a.Header.Get("ETag") != want {
				t.Errorf("ETag %s, want %s", a.Header.Get("ETag"), want)
			}
		})
	}
	var now client.KeyResult
	p.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + p.created.Key.ID, Token: p.Operator}, &now)
	if now.AsOfSeq != nil {
		t.Error("an answer about the present has as_of_seq")
	}

	theirs := p.MustManagementKey(t, "other", domain.ScopeKeysRead)
	mustProblem(t, p.Do(t, servertest.Request{Path: "/v1/keys/" + p.created.Key.ID + "?" + p.at(time.Hour), Token: theirs.Token}), 404, "key_not_found")
}

// TestPresentOfAnotherClock asks with a clock that is a little ahead of the server's.
func TestPresentOfAnotherClock(t *testing.T) {
	p := mustPast(t)
	ahead := p.clock.now().Add(5 * time.Second)
	var page client.KeyPage
	p.MustDo(t, 200, servertest.Request{Path: "/v1/keys?at=" + ahead.UTC().Format(time.RFC3339Nano), Token: p.Operator}, &page)
	if len(page.Keys) != 1 || page.AsOfSeq == nil || *page.AsOfSeq != p.revoked.Seq {
		t.Errorf("the keys of now: %+v", page)
	}
	var v client.VerifyResult
	p.MustDo(t, 200, servertest.Request{Path: "/v1/verify", Token: p.Operator, Body: client.VerifyRequest{Key: p.created.Token, At: &ahead}}, &v)
	if v.Code != "REVOKED" {
		t.Errorf("a check of now: %+v", v)
	}
	ahead = ahead.Add(time.Millisecond)
	mustProblem(t, p.Do(t, servertest.Request{Path: "/v1/keys?at=" + ahead.UTC().Format(time.RFC3339Nano), Token: p.Operator}), 400, "validation_failed")
	mustProblem(t, p.Do(t, servertest.Request{Path: "/v1/verify", Token: p.Operator, Body: client.VerifyRequest{Key: "x", At: &ahead}}), 400, "validation_failed")
}

func TestManagementKeyOfThePast(t *testing.T) {
	p := mustPast(t)
	m := p.MustManagementKey(t, "acme", domain.ScopeKeysRead)
	path := "/v1/management-keys/" + m.Key.ID
	mustProblem(t, p.Do(t, servertest.Request{Path: path + "?" + p.at(time.Hour), Token: p.Operator}), 404, "key_not_found")
	p.MustDo(t, 200, servertest.Request{Path: path + "?" + p.at(3*time.Hour), Token: p.Operator}, nil)
	var page client.KeyPage
	p.MustDo(t, 200, servertest.Request{Path: "/v1/management-keys?count=true&" + p.at(time.Hour), Token: p.Operator}, &page)
	if len(page.Keys) != 1 || page.Keys[0].ID != mustOperatorID(t, p.Stack) || page.Count == nil || page.Count.Keys != 1 {
		t.Errorf("the management keys of then: %+v", page)
	}
}

func TestKeysOfThePast(t *testing.T) {
	p := mustPast(t)
	later := p.MustCreateKey(t, client.CreateKeyRequest{Account: "acme", Name: "later"})
	tests := []struct {
		query string
		want  []string
		asOf  uint64
	}{
		{p.at(30 * time.Minute), []string{p.created.Key.ID}, p.created.Seq},
		{p.at(30*time.Minute) + "&status=active", []string{p.created.Key.ID}, p.created.Seq},
		{p.at(30*time.Minute) + "&q=second", nil, p.created.Seq},
		{p.at(time.Hour) + "&q=second&scope=payouts:read", []string{p.created.Key.ID}, p.renamed.Seq},
		{p.at(2*time.Hour) + "&status=active", nil, p.revoked.Seq},
		{p.at(2*time.Hour) + "&status=revoked", []string{p.created.Key.ID}, p.revoked.Seq},
		{p.at(3*time.Hour) + "&sort=created_at", []string{p.created.Key.ID, later.Key.ID}, later.Seq},
		{fmt.Sprint("seq=", p.renamed.Seq), []string{p.created.Key.ID}, p.renamed.Seq},
		{"at=1971-01-01T00:00:00Z", nil, 0},
		{"seq=0", nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			var page client.KeyPage
			a := p.MustDo(t, 200, servertest.Request{Path: "/v1/keys?count=true&" + tt.query, Token: p.Operator}, &page)
			if ids := idsOf(page.Keys); !slices.Equal(ids, tt.want) || page.AsOfSeq == nil || *page.AsOfSeq != tt.asOf || page.Count.Keys != len(tt.want) {
				t.Errorf("got %s", a.Body)
			}
		})
	}
}

func idsOf(keys []client.Key) (ids []string) {
	for _, k := range keys {
		ids = append(ids, k.ID)
	}
	return ids
}

func TestBadPast(t *testing.T) {
	p := mustPast(t)
	tests := []struct{ query, code, parameter string }{
		{p.at(4 * time.Hour), "validation_failed", "at"},
		{"at=yesterday", "validation_failed", "at"},
		{"at=1969-01-01T00:00:00Z", "validation_failed", "at"},
		{p.at(0) + "&seq=1", "validation_failed", "seq"},
		{"seq=-1", "validation_failed", "seq"},
		{"seq=9999", "beyond_history", "seq"},
	}
	for _, tt := range tests {
		for _, path := range []string{"/v1/keys", "/v1/keys/" + p.created.Key.ID, "/v1/management-keys"} {
			problem := mustProblem(t, p.Do(t, servertest.Request{Path: path + "?" + tt.query, Token: p.Operator}), 400, tt.code)
			if len(problem.Errors) != 1 || problem.Errors[0].Parameter != tt.parameter {
				t.Errorf("%s?%s: errors %+v, want one of %s", path, tt.query, problem.Errors, tt.parameter)
			}
		}
	}
	for query, parameter := range map[string]string{"sort=name": "sort", "unused_since=2026-01-01T00:00:00Z": "unused_since", "used_after=2026-01-01T00:00:00Z": "unused_since"} {
		problem := mustProblem(t, p.Do(t, servertest.Request{Path: "/v1/keys?" + p.at(0) + "&" + query, Token: p.Operator}), 400, "validation_failed")
		if len(problem.Errors) != 1 || problem.Errors[0].Parameter != parameter {
			t.Errorf("%s: errors %+v", query, problem.Errors)
		}
	}
}
