package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/client"
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
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			var page client.KeyPage
			a := s.MustDo(t, 200, servertest.Request{Path: "/v1/keys?" + tt.query, Token: s.Operator}, &page)
			var got []string
			for _, k := range page.Keys {
				got = append(got, k.ID)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if tt.want == nil && !strings.Contains(string(a.Body), `"keys":[]`) {
				t.Errorf("an empty list is %s", a.Body)
			}
		})
	}
	var management client.KeyPage
	s.MustDo(t, 200, servertest.Request{Path: "/v1/management-keys", Token: s.Operator}, &management)
	if len(management.Keys) != 1 || management.Keys[0].KeyType != "management" || management.Keys[0].Grants == nil {
		t.Errorf("management keys: %+v", management)
	}
}
