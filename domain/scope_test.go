package domain

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDefaultCatalogueIsThePagesTwelve(t *testing.T) {
	c := DefaultCatalogue()
	if c.Len() != 12 {
		t.Errorf("%d scopes, want the page's 12", c.Len())
	}
	if _, err := NewCatalogue(c.All()); err != nil {
		t.Errorf("the default would not pass as a file: %v", err)
	}
	if first := c.All()[0]; first != (ScopeInfo{"invoices:read", "View invoices"}) {
		t.Errorf("first %+v", first)
	}
}

func TestNewCatalogueRefuses(t *testing.T) {
	for name, scopes := range map[string][]ScopeInfo{
		"nothing":      nil,
		"no action":    {{Scope: "invoices"}},
		"empty action": {{Scope: "invoices:"}},
		"wildcard":     {{Scope: "invoices:*"}},
		"full access":  {{Scope: "*"}},
		"two colons":   {{Scope: "a:b:c"}},
		"upper case":   {{Scope: "Invoices:read"}},
		"reserved":     {{Scope: "keyledger.keys:read"}},
		"repeated":     {{Scope: "a:b"}, {Scope: "a:b"}},
		"too long":     {{Scope: Scope(strings.Repeat("a", 99) + ":b")}},
	} {
		if _, err := NewCatalogue(scopes); KindOf(err) != KindInvalid {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

func TestResolve(t *testing.T) {
	many := make([]Scope, 65)
	for i := range many {
		many[i] = "invoices:read"
	}
	for name, tc := range map[string]struct {
		catalogue *Catalogue
		asked     []Scope
		want      Scopes
		code      string
	}{
		"sorted, once":        {DefaultCatalogue(), []Scope{"payouts:read", "invoices:read", "payouts:read"}, Scopes{"invoices:read", "payouts:read"}, ""},
		"resource wildcard":   {DefaultCatalogue(), []Scope{"invoices:*"}, Scopes{"invoices:*"}, ""},
		"full swallows":       {DefaultCatalogue(), []Scope{"invoices:read", "*"}, Scopes{"*"}, ""},
		"unknown":             {DefaultCatalogue(), []Scope{"invoices:delete"}, nil, CodeUnknownScope},
		"unknown resource":    {DefaultCatalogue(), []Scope{"rockets:*"}, nil, CodeUnknownScope},
		"case matters":        {DefaultCatalogue(), []Scope{"Invoices:read"}, nil, CodeUnknownScope},
		"management scope":    {DefaultCatalogue(), []Scope{ScopeKeysRead}, nil, CodeUnknownScope},
		"none":                {DefaultCatalogue(), nil, nil, CodeValidation},
		"too many":            {DefaultCatalogue(), many, nil, CodeValidation},
		"management":          {ManagementCatalogue(), []Scope{ScopeVerify, ScopeKeysRead}, Scopes{ScopeKeysRead, ScopeVerify}, ""},
		"no management star":  {ManagementCatalogue(), []Scope{"*"}, nil, CodeUnknownScope},
		"no management any":   {ManagementCatalogue(), []Scope{"keyledger.keys:*"}, nil, CodeUnknownScope},
		"ordinary in control": {ManagementCatalogue(), []Scope{"invoices:read"}, nil, CodeUnknownScope},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.catalogue.Resolve("/scopes", tc.asked)
			if CodeOf(err) != tc.code || !slices.Equal(got, tc.want) {
				t.Errorf("got %v, %v; want %v, %q", got, err, tc.want, tc.code)
			}
		})
	}
}

func TestCover(t *testing.T) {
	for _, tc := range []struct {
		have Scopes
		s    Scope
		want bool
	}{
		{Scopes{"invoices:read"}, "invoices:read", true},
		{Scopes{"invoices:write"}, "invoices:read", false}, // write does not imply read
		{Scopes{"invoices:*"}, "invoices:write", true},
		{Scopes{"invoices:*"}, "payouts:read", false},
		{Scopes{"invoices:*"}, "invoices:*", true},
		{Scopes{"invoices:read", "invoices:write"}, "invoices:*", false}, // it would grow
		{Scopes{"invoices:*"}, "*", false},
		{Scopes{"*"}, "invoices:*", true},
		{Scopes{"*"}, "*", true},
		{Scopes{"*"}, ScopeKeysRead, false}, // never by a star
		{Scopes{"keyledger.keys:*"}, ScopeKeysRead, false},
		{Scopes{ScopeKeysRead}, ScopeKeysRead, true},
		{Scopes{ScopeKeysWrite}, ScopeKeysRead, false},
		{nil, "invoices:read", false},
	} {
		if got := tc.have.Cover(tc.s); got != tc.want {
			t.Errorf("%v covers %s: %v, want %v", tc.have, tc.s, got, tc.want)
		}
	}
}

func TestAuthorityCeiling(t *testing.T) {
	clerk := Authority{
		Actor: "key_clerk", Account: "acme", Scopes: Scopes{ScopeKeysWrite, ScopeOperate}, ExpiresAt: nextYear,
		Grants: Grants{Environments: []Environment{EnvironmentTest}, Scopes: Scopes{"invoices:*", "payouts:read"}},
	}
	fitting := func(s *KeySpec) { s.Environment, s.ExpiresAt = EnvironmentTest, nextYear }
	management := func(s *KeySpec) {
		fitting(s)
		s.Type, s.Environment, s.Scopes = KeyTypeManagement, "", Scopes{ScopeKeysWrite}
	}
	for name, tc := range map[string]struct {
		change  func(*KeySpec)
		pointer string // "" means allowed
	}{
		"within":                  {fitting, ""},
		"whole resource":          {func(s *KeySpec) { fitting(s); s.Scopes = Scopes{"invoices:*"} }, ""},
		"another account":         {func(s *KeySpec) { fitting(s); s.Account = "other" }, "/account"},
		"other environment":       {func(s *KeySpec) { fitting(s); s.Environment = EnvironmentLive }, "/environment"},
		"other scope":             {func(s *KeySpec) { fitting(s); s.Scopes = Scopes{"payouts:write"} }, "/scopes"},
		"wider scope":             {func(s *KeySpec) { fitting(s); s.Scopes = Scopes{"payouts:*"} }, "/scopes"},
		"full access":             {func(s *KeySpec) { fitting(s); s.Scopes = Scopes{"*"} }, "/scopes"},
		"a longer life":           {func(s *KeySpec) { fitting(s); s.ExpiresAt = nextYear.Add(1) }, "/expires_at"},
		"an endless life":         {func(s *KeySpec) { fitting(s); s.ExpiresAt = time.Time{} }, "/expires_at"},
		"management within":       {management, ""},
		"management, more powers": {func(s *KeySpec) { management(s); s.Scopes = Scopes{ScopeAuditRead} }, "/scopes"},
		"management, more grants": {func(s *KeySpec) { management(s); s.Grants = &Grants{Scopes: Scopes{"*"}} }, "/grants/scopes"},
		"management, other env":   {func(s *KeySpec) { management(s); s.Grants = &Grants{Environments: []Environment{EnvironmentLive}} }, "/grants/environments"},
	} {
		t.Run(name, func(t *testing.T) {
			err := clerk.CheckSpec(spec(tc.change))
			if tc.pointer == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			e, ok := err.(*Error) //nolint:errorlint // the error itself, not its chain
			if !ok || e.Kind != KindForbidden || e.Fields[0].Pointer != tc.pointer {
				t.Errorf("error %v, want a ceiling at %s", err, tc.pointer)
			}
		})
	}
}

func TestAuthorityCeilingOnUpdates(t *testing.T) {
	clerk := Authority{Account: "acme", ExpiresAt: nextYear, Grants: Grants{Environments: []Environment{EnvironmentLive}, Scopes: Scopes{"payouts:read"}}}
	later := nextYear.Add(time.Hour)
	granted := fold([]KeyEvent{created(func(s *KeySpec) { s.Scopes, s.ExpiresAt = Scopes{"payouts:read"}, tomorrow })})
	office, vpn := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16")
	bound := fold([]KeyEvent{created(func(s *KeySpec) { s.Scopes, s.AllowedIPs = Scopes{"invoices:*"}, []netip.Prefix{office} })})
	key := fold([]KeyEvent{created(func(s *KeySpec) { s.Scopes = Scopes{"clients:read", "invoices:*"} })})
	testKey := fold([]KeyEvent{created(expiring(tomorrow), func(s *KeySpec) { s.Environment, s.Scopes = EnvironmentTest, Scopes{"invoices:*"} })})
	longLived := fold([]KeyEvent{created(expiring(later.Add(time.Hour)))})
	for name, tc := range map[string]struct {
		key    Key
		change UpdateKey
		ok     bool
	}{
		"a name":                      {key, UpdateKey{Name: new("x")}, true},
		"fewer scopes":                {key, UpdateKey{Scopes: &Scopes{"invoices:read"}}, true},
		"more, of a key beyond it":    {key, UpdateKey{Scopes: &Scopes{"invoices:*", "payouts:read"}}, false},
		"a life it may give":          {granted, UpdateKey{Expiry: &Expiry{At: nextYear}}, true},
		"a life beyond its own":       {granted, UpdateKey{Expiry: &Expiry{At: later}}, false},
		"any address":                 {bound, UpdateKey{AllowedIPs: &[]netip.Prefix{}}, false},
		"another range":               {bound, UpdateKey{AllowedIPs: &[]netip.Prefix{office, netip.MustParsePrefix("192.0.2.0/24")}}, false},
		"a narrower range":            {bound, UpdateKey{AllowedIPs: &[]netip.Prefix{vpn}}, true},
		"a first range":               {key, UpdateKey{AllowedIPs: &[]netip.Prefix{vpn}}, true},
		"an ungranted scope more":     {key, UpdateKey{Scopes: &Scopes{"invoices:*", "payouts:write"}}, false},
		"full access":                 {key, UpdateKey{Scopes: &Scopes{"*"}}, false},
		"an end to an endless life":   {key, UpdateKey{Expiry: &Expiry{At: later}}, true},
		"a shorter life":              {longLived, UpdateKey{Expiry: &Expiry{At: later}}, true},
		"wider, another environment":  {testKey, UpdateKey{Scopes: &Scopes{"invoices:*", "payouts:read"}}, false},
		"longer, another environment": {testKey, UpdateKey{Expiry: &Expiry{At: nextYear}}, false},
		"fewer, another environment":  {testKey, UpdateKey{Scopes: &Scopes{"invoices:read"}, Name: new("x")}, true},
		"an endless life":             {longLived, UpdateKey{Expiry: &Expiry{}}, false},
	} {
		if err := clerk.CheckUpdate(tc.key, tc.change); (err == nil) != tc.ok {
			t.Errorf("%s: %v, want allowed %v", name, err, tc.ok)
		}
	}
}

func TestResolveAccount(t *testing.T) {
	for _, tc := range []struct {
		own, named, want AccountID
		ok               bool
	}{
		{RootAccount, "", DefaultAccount, true},
		{RootAccount, "acme", "acme", true},
		{RootAccount, RootAccount, RootAccount, true},
		{"acme", "", "acme", true},
		{"acme", "acme", "acme", true},
		{"acme", "other", "", false},
		{"acme", RootAccount, "", false},
	} {
		got, err := Authority{Account: tc.own}.ResolveAccount(tc.named)
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("%s naming %q: %q, %v", tc.own, tc.named, got, err)
		}
	}
}

func TestMay(t *testing.T) {
	a := Authority{Scopes: Scopes{ScopeKeysRead}}
	if err := a.May(ScopeKeysRead); err != nil {
		t.Error(err)
	}
	if err := a.May(ScopeKeysWrite); KindOf(err) != KindForbidden || CodeOf(err) != CodeMissingScope {
		t.Errorf("May: %v", err)
	}
}

func TestOnlyEqualsRevokeAManagementKey(t *testing.T) {
	strong := fold([]KeyEvent{created(func(s *KeySpec) {
		s.Type, s.Environment, s.Scopes = KeyTypeManagement, "", Scopes{ScopeKeysWrite, ScopeOperate}
		s.Grants = &Grants{Environments: []Environment{EnvironmentLive}, Scopes: Scopes{FullAccess}}
	})})
	if err := (Authority{Scopes: Scopes{ScopeOperate}}).CheckRevoke(strong); CodeOf(err) != CodeCeiling {
		t.Errorf("a weaker key: %v", err)
	}
	if err := AuthorityOf(strong).CheckRevoke(strong); err != nil {
		t.Errorf("an equal: %v", err)
	}
	if err := (Authority{}).CheckRevoke(fold([]KeyEvent{created()})); err != nil {
		t.Errorf("an ordinary key: %v", err)
	}
}
