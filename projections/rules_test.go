package projections

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
)

// TestCoveringScopes holds the list that stores search for against the rule.
func TestCoveringScopes(t *testing.T) {
	words := []domain.Scope{
		"a:read", "a:write", "a:*", "b:read", "b:*", "*", "a", "b", "", ":", "a:b:c", "a:b:*",
		"keyledger.keys:read", "keyledger.keys:*", "keyledger.keys:write", "keyledger.verify",
	}
	rapid.Check(t, func(t *rapid.T) {
		held := domain.Scopes(rapid.SliceOf(rapid.SampledFrom(words)).Draw(t, "held"))
		wanted := rapid.SampledFrom(words).Draw(t, "wanted")
		covering := CoveringScopes(wanted)
		found := slices.ContainsFunc(held, func(s domain.Scope) bool { return slices.Contains(covering, s) })
		if found != held.Cover(wanted) {
			t.Fatalf("%q is covered by %v: %t; one of %v: %t", wanted, held, held.Cover(wanted), covering, found)
		}
	})
}

func TestAppendText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]*`)).Draw(t, "text")
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendText(nil, s); string(got) != string(want) {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

func TestChangesSurviveStorage(t *testing.T) {
	before := domain.Key{KeySpec: domain.KeySpec{
		Name: `a "name"`, Scopes: domain.Scopes{"a:read"}, Metadata: map[string]string{"b": "2", "a": "<1>"},
		AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Grants: &domain.Grants{Scopes: domain.Scopes{"*"}},
		ExpiresAt: time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC),
	}, NoticeLead: time.Hour}
	after := domain.Key{KeySpec: domain.KeySpec{Name: "日本\n", Grants: &domain.Grants{Environments: []domain.Environment{"live"}}}}
	list := changes(&before, &after)
	text := AppendChanges(nil, list)
	want := `[{"field":"name","before":"a \"name\"","after":"日本\n"},` +
		`{"field":"scopes","before":["a:read"],"after":null},` +
		`{"field":"grants","before":{"environments":[],"scopes":["*"]},"after":{"environments":["live"],"scopes":[]}},` +
		`{"field":"expires_at","before":"2026-03-01T12:00:00.000001Z","after":null},` +
		`{"field":"allowed_ips","before":["10.0.0.0/8"],"after":null},` +
		`{"field":"metadata","before":{"a":"\u003c1\u003e","b":"2"},"after":null},` +
		`{"field":"notice_lead_seconds","before":3600,"after":null}]`
	if string(text) != want {
		t.Errorf("%s\nwant %s", text, want)
	}
	read, err := ParseChanges(text)
	if err != nil || !reflect.DeepEqual(read, list) {
		t.Errorf("%s, %v; want %s", read, err, list)
	}
	if list := changes(&before, &before); list != nil {
		t.Errorf("nothing changed: %s", list)
	}
	if _, err := ParseChanges([]byte("{")); domain.KindOf(err) != domain.KindInternal || domain.CodeOf(err) != CodeCorrupt {
		t.Errorf("half a list was read: %v", err)
	}
}

func TestNormalize(t *testing.T) {
	zone := time.FixedZone("", 3600)
	grants := &domain.Grants{Environments: []domain.Environment{}, Scopes: domain.Scopes{}}
	k := domain.Key{KeySpec: domain.KeySpec{
		Name: "n", Mac: domain.Mac{1}, PepperID: "p", ExpiresAt: time.Date(2026, 1, 1, 1, 0, 0, 1999, zone),
		Scopes: domain.Scopes{}, AllowedIPs: []netip.Prefix{}, Metadata: map[string]string{}, Grants: grants,
	}, NoticeLead: 1999}
	want := domain.Key{KeySpec: domain.KeySpec{
		Name: "n", ExpiresAt: time.Date(2026, 1, 1, 0, 0, 0, 1000, time.UTC), Grants: &domain.Grants{},
	}, NoticeLead: 1000}
	if got := Normalize(k); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if grants.Scopes == nil {
		t.Error("the event's own grants were written to")
	}
	if got := Normalize(want); !reflect.DeepEqual(got, want) {
		t.Errorf("again: %+v, want %+v", got, want)
	}
}

func TestSearchTextKeepsMembersApart(t *testing.T) {
	k := domain.Key{KeySpec: domain.KeySpec{Name: "ABC", Description: "Def", Metadata: map[string]string{"z": "Y", "a": "b"}}}
	if got, want := SearchText(k), strings.Join([]string{"abc", "def", "a", "b", "z", "y"}, searchSeparator); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
