package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
	"github.com/keyledger/keyledger/server/servertest"
)

func TestPaging(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	var made []string
	for i := range 23 {
		made = append(made, s.MustCreateKey(t, client.CreateKeyRequest{Name: fmt.Sprintf("key %d", i)}).Key.ID)
	}
	slices.Reverse(made)
	var seen []string
	path := "/v1/keys?page_size=10"
	pages := 0
	for token := ""; ; pages++ {
		var page client.KeyPage
		s.MustDo(t, 200, servertest.Request{Path: path + "&page_token=" + url.QueryEscape(token), Token: s.Operator}, &page)
		for _, k := range page.Keys {
			seen = append(seen, k.ID)
		}
		if token = page.NextPageToken; token == "" {
			break
		}
		if len(page.Keys) != 10 {
			t.Errorf("a page of %d", len(page.Keys))
		}
		s.MustCreateKey(t, client.CreateKeyRequest{Name: "made while reading"})
		// Another query does not take the token.
		mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/keys?status=revoked&page_token=" + url.QueryEscape(token), Token: s.Operator}), 400, "invalid_page_token")
	}
	if !slices.Equal(seen, made) || pages != 2 {
		t.Errorf("read %d keys on %d pages, want %d on 3, newest first", len(seen), pages+1, len(made))
	}
	// And back again, from the last page: the keys made since are before the first.
	var last, before client.KeyPage
	s.MustDo(t, 200, servertest.Request{Path: path + "&sort=created_at", Token: s.Operator}, &last)
	s.MustDo(t, 200, servertest.Request{Path: path + "&sort=created_at&page_token=" + url.QueryEscape(last.NextPageToken), Token: s.Operator}, &before)
	var again client.KeyPage
	s.MustDo(t, 200, servertest.Request{Path: path + "&sort=created_at&page_token=" + url.QueryEscape(before.PrevPageToken), Token: s.Operator}, &again)
	if !slices.Equal(idsOf(again.Keys), idsOf(last.Keys)) || last.PrevPageToken != "" || before.PrevPageToken == "" {
		t.Errorf("the way back leads to %v, want %v", idsOf(again.Keys), idsOf(last.Keys))
	}
	if last.Count != nil || last.AsOfSeq != nil {
		t.Errorf("the page has what nobody asked for: %+v", last)
	}
	for size, want := range map[string]int{"": 25, "0": 25, "1": 1, "1000": 25, "5000": 25, "99999999999": 25} {
		var page client.KeyPage
		s.MustDo(t, 200, servertest.Request{Path: "/v1/keys?page_size=" + size, Token: s.Operator}, &page)
		if len(page.Keys) != want {
			t.Errorf("page_size %q: %d keys, want %d", size, len(page.Keys), want)
		}
	}
}

func TestFilters(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	live := s.MustCreateKey(t, client.CreateKeyRequest{Name: "Production Server", Scopes: []string{"invoices:*"}, ExpiresOn: new("2090-01-01")}).Key.ID
	test := s.MustCreateKey(t, client.CreateKeyRequest{Name: "sandbox", Environment: "test", FullAccess: true, Metadata: map[string]string{"team": "Billing"}}).Key.ID
	acme := s.MustCreateKey(t, client.CreateKeyRequest{Name: "theirs", Account: "acme", Scopes: []string{"payouts:read"}}).Key.ID
	s.MustDo(t, 200, servertest.Request{Method: http.MethodPost, Path: "/v1/keys/" + acme + "/revoke", Token: s.Operator}, nil)
	used := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := projectionstest.Use(t.Context(), s.Table, projections.KeyUse{Key: domain.KeyID(test), At: used}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		query string
		want  []string
	}{
		{"", []string{acme, test, live}},
		{"account=acme", []string{acme}},
		{"account=default", []string{test, live}},
		{"account=nobody", nil},
		{"environment=test", []string{test}},
		{"status=active", []string{test, live}},
		{"status=revoked", []string{acme}},
		{"status=expired", nil},
		{"scope=invoices:read", []string{test, live}},
		{"scope=payouts:read", []string{acme, test}},
		{"q=SERVER", []string{live}},
		{"q=billing", []string{test}},
		{"expiring_before=2091-01-01T00:00:00Z", []string{live}},
		{"status=active&environment=live&q=production", []string{live}},
		{"expiring_after=2090-01-01T00:00:00Z", []string{live}},
		{"expiring_after=2090-01-01T00:00:01Z", nil},
		{"expiring_before=2090-01-01T00:00:00Z", nil},
		{"created_after=2020-01-01T00:00:00Z&created_before=2099-01-01T00:00:00Z", []string{acme, test, live}},
		{"created_before=2020-01-01T00:00:00Z", nil},
		{"created_by=" + mustOperatorID(t, s), []string{acme, test, live}},
		{"created_by=key_AAAAAAAAAAAAAAAA", nil},
		{"used_after=2029-01-01T00:00:00Z", []string{test}},
		{"used_before=2029-01-01T00:00:00Z", nil},
		{"used_after=2029-01-01T00:00:00Z&used_before=2031-01-01T00:00:00Z", []string{test}},
		{"unused_since=2029-01-01T00:00:00Z", []string{acme, live}},
		{"sort=created_at", []string{live, test, acme}},
		{"sort=-created_at", []string{acme, test, live}},
		{"sort=name", []string{live, test, acme}},
		{"sort=-name", []string{acme, test, live}},
		{"sort=expires_at", []string{live, test, acme}},
		{"sort=-last_used_at", []string{test, acme, live}},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			var page client.KeyPage
			a := s.MustDo(t, 200, servertest.Request{Path: "/v1/keys?count=true&" + tt.query, Token: s.Operator}, &page)
			if got := idsOf(page.Keys); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if page.Count == nil || *page.Count != (client.KeyCount{Keys: len(tt.want)}) {
				t.Errorf("count %+v, want %d", page.Count, len(tt.want))
			}
			if tt.want == nil && !strings.Contains(string(a.Body), `"keys":[]`) {
				t.Errorf("an empty list is %s", a.Body)
			}
		})
	}
	var result client.KeyResult
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + test, Token: s.Operator}, &result)
	if result.Key.LastUsedAt == nil || !result.Key.LastUsedAt.Equal(used) {
		t.Errorf("last_used_at is %v, want %s", result.Key.LastUsedAt, used)
	}
	var management client.KeyPage
	s.MustDo(t, 200, servertest.Request{Path: "/v1/management-keys", Token: s.Operator}, &management)
	if len(management.Keys) != 1 || management.Keys[0].KeyType != "management" || management.Keys[0].Grants == nil {
		t.Errorf("management keys: %+v", management)
	}
}
