package server_test

import (
	"net/http"
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

func TestUsage(t *testing.T) {
	now := time.Date(2030, time.June, 15, 12, 0, 0, 0, time.UTC)
	s := servertest.MustStart(t, servertest.Config{Now: func() time.Time { return now }})
	id := s.MustCreateKey(t, client.CreateKeyRequest{Name: "used"}).Key.ID
	other := s.MustCreateKey(t, client.CreateKeyRequest{Name: "not used"}).Key.ID
	for ago, count := range map[int]uint64{0: 5, 1: 7, 29: 11, 30: 13, 399: 17} {
		if err := projectionstest.Use(t.Context(), s.Table, projections.KeyUse{Key: domain.KeyID(id), At: now.AddDate(0, 0, -ago), Count: count}); err != nil {
			t.Fatal(err)
		}
	}
	type days = []client.DayUsage
	for query, want := range map[string]client.KeyUsage{
		"":                               {From: "2030-05-17", To: "2030-06-15", Total: 23, Days: days{{Day: "2030-05-17", Count: 11}, {Day: "2030-06-14", Count: 7}, {Day: "2030-06-15", Count: 5}}},
		"?from=2030-06-15":               {From: "2030-06-15", To: "2030-06-15", Total: 5, Days: days{{Day: "2030-06-15", Count: 5}}},
		"?to=2030-06-14":                 {From: "2030-05-16", To: "2030-06-14", Total: 31, Days: days{{Day: "2030-05-16", Count: 13}, {Day: "2030-05-17", Count: 11}, {Day: "2030-06-14", Count: 7}}},
		"?from=2030-06-13&to=2030-06-13": {From: "2030-06-13", To: "2030-06-13", Days: days{}},
		"?from=2029-05-12&to=2030-06-15": {From: "2029-05-12", To: "2030-06-15", Total: 53, Days: days{{Day: "2029-05-12", Count: 17}, {Day: "2030-05-16", Count: 13}, {Day: "2030-05-17", Count: 11}, {Day: "2030-06-14", Count: 7}, {Day: "2030-06-15", Count: 5}}},
		"?from=2031-01-01&to=2031-01-02": {From: "2031-01-01", To: "2031-01-02", Days: days{}},
		"?to=1970-01-02":                 {From: "1970-01-01", To: "1970-01-02", Days: days{}},
		"?from=2030-06-15&to=2030-06-15&min_seq=2": {From: "2030-06-15", To: "2030-06-15", Total: 5, Days: days{{Day: "2030-06-15", Count: 5}}},
	} {
		var got client.KeyUsage
		a := s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + id + "/usage" + query, Token: s.Operator}, &got)
		if got.From != want.From || got.To != want.To || got.Total != want.Total || !slices.Equal(got.Days, want.Days) || got.KeyID != id ||
			got.LastUsedAt == nil || !got.LastUsedAt.Equal(now) || !strings.Contains(string(a.Body), `"days":[`) {
			t.Errorf("%s: %s", query, a.Body)
		}
	}
	for _, query := range []string{"from=2030-06-16", "from=2029-05-11", "from=yesterday", "to=2030-06-31", "to=1969-12-31", "from=2030-06-15T00:00:00Z", "days=3", "from=2030-06-01&from=2030-06-02"} {
		a := s.Do(t, servertest.Request{Path: "/v1/keys/" + id + "/usage?" + query, Token: s.Operator})
		if a.Status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, a.Status, a.Body)
		}
	}
	var none client.KeyUsage
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + other + "/usage", Token: s.Operator}, &none)
	if none.Total != 0 || none.LastUsedAt != nil {
		t.Errorf("a key that nobody used: %+v", none)
	}

	// Who may see it: as with the key.
	reader := s.MustManagementKey(t, "default", domain.ScopeKeysRead)
	stranger := s.MustManagementKey(t, "acme", domain.ScopeKeysRead)
	verifier := s.MustManagementKey(t, "default", domain.ScopeVerify)
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + id + "/usage", Token: reader.Token}, nil)
	s.MustDo(t, 404, servertest.Request{Path: "/v1/keys/" + id + "/usage", Token: stranger.Token}, nil)
	s.MustDo(t, 403, servertest.Request{Path: "/v1/keys/" + id + "/usage", Token: verifier.Token}, nil)
	s.MustDo(t, 404, servertest.Request{Path: "/v1/management-keys/" + id + "/usage", Token: s.Operator}, nil)
	s.MustDo(t, 404, servertest.Request{Path: "/v1/keys/" + reader.Key.ID + "/usage", Token: s.Operator}, nil)
	s.MustDo(t, 200, servertest.Request{Path: "/v1/management-keys/" + reader.Key.ID + "/usage", Token: s.Operator}, nil)

	c, err := client.New(client.Config{BaseURL: s.URL, Token: client.StaticToken(s.Operator)})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.KeyUsage(t.Context(), id, client.UsageQuery{From: now.AddDate(0, 0, -1), To: now})
	if err != nil || got.Total != 12 {
		t.Errorf("the client says %+v, %v", got, err)
	}
	if got, err := c.ManagementKeyUsage(t.Context(), reader.Key.ID, client.UsageQuery{}); err != nil || got.Total != 0 {
		t.Errorf("the client says %+v, %v", got, err)
	}
}

// TestUsedSinceRotation: a rotated key says whether its token was used after that,
// and by which it was replaced; the new one, which it replaced.
func TestUsedSinceRotation(t *testing.T) {
	now := time.Date(2030, time.June, 15, 12, 0, 0, 0, time.UTC)
	s := servertest.MustStart(t, servertest.Config{Now: func() time.Time { return now }})
	old := s.MustCreateKey(t, client.CreateKeyRequest{Name: "old"}).Key.ID
	use := func(at time.Time) {
		t.Helper()
		if err := projectionstest.Use(t.Context(), s.Table, projections.KeyUse{Key: domain.KeyID(old), At: at, Count: 1}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(id string) client.Key {
		t.Helper()
		var out client.KeyResult
		a := s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + id, Token: s.Operator}, &out)
		if !strings.Contains(string(a.Body), `"last_used_since_rotation_at":`) {
			t.Errorf("the member is missing: %s", a.Body)
		}
		return out.Key
	}
	use(now)
	if k := get(old); k.LastUsedSinceRotationAt != nil {
		t.Errorf("a key that was not rotated: %+v", k)
	}
	var rotated client.KeyResult
	s.MustDo(t, 201, servertest.Request{Path: "/v1/keys/" + old + "/rotate", Token: s.Operator, Body: client.RotateKeyRequest{Overlap: "24h"}}, &rotated)
	k := get(old)
	if k.LastUsedSinceRotationAt != nil || k.LastUsedAt == nil || k.ReplacedBy != rotated.Key.ID || k.EndsAt == nil {
		t.Errorf("not used since: %+v", k)
	}
	if k := get(rotated.Key.ID); k.RotatedFrom != old || k.LastUsedSinceRotationAt != nil {
		t.Errorf("the new key: %+v", k)
	}
	later := now.Add(time.Microsecond)
	now = now.Add(time.Hour)
	use(later)
	if k := get(old); k.LastUsedSinceRotationAt == nil || !k.LastUsedSinceRotationAt.Equal(later) {
		t.Errorf("used since: %+v", k)
	}
	var page client.KeyPage
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys?q=old&sort=created_at", Token: s.Operator}, &page)
	if len(page.Keys) != 2 || page.Keys[0].LastUsedSinceRotationAt == nil || page.Keys[1].LastUsedSinceRotationAt != nil {
		t.Errorf("the list: %+v", page.Keys)
	}
	var past client.KeyResult
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + old + "?seq=3", Token: s.Operator}, &past)
	if past.Key.LastUsedSinceRotationAt != nil {
		t.Errorf("the past knows of use: %+v", past.Key)
	}
}
