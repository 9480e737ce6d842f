package verify_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/verify"
)

// A fault makes a check of an otherwise good key end in its code.
type fault struct {
	code verify.Code
	spec func(*domain.KeySpec)
	// event is fed after the key's creation.
	event domain.Event
	req   func(*verify.Requirement)
	stale bool
}

func faults() []fault {
	return []fault{
		{code: verify.CodeUnknown, req: func(r *verify.Requirement) { r.Bound = "other" }},
		{code: verify.CodeRevoked, event: domain.KeyRevoked{RevokedAt: start}},
		{code: verify.CodeExpired, spec: func(s *domain.KeySpec) { s.ExpiresAt = start }},
		{code: verify.CodeWrongEnvironment, req: func(r *verify.Requirement) { r.Environment = domain.EnvironmentTest }},
		{code: verify.CodeResourceNotAccessible, req: func(r *verify.Requirement) { r.Owner = "other" }},
		{code: verify.CodeIPNotAllowed, spec: func(s *domain.KeySpec) {
			s.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		}},
		{code: verify.CodeInsufficientScope, req: func(r *verify.Requirement) { r.Scopes = append(r.Scopes, "payouts:write") }},
		{code: verify.CodeStale, stale: true},
	}
}

// TestOrderOfCodes tries every combination of faults: the answer is the first of
// them in the order of Codes.
func TestOrderOfCodes(t *testing.T) {
	all := faults()
	for set := range 1 << len(all) {
		want, stale := verify.CodeValid, false
		req := verify.Requirement{
			Scopes: []domain.Scope{"invoices:read"}, Environment: domain.EnvironmentLive, Owner: domain.DefaultAccount,
			Bound: domain.DefaultAccount, IP: netip.MustParseAddr("203.0.113.7"),
		}
		var events []domain.Event
		f := newFixture(t, nil)
		spec, token := f.spec(t, func(s *domain.KeySpec) {
			for i, fault := range all {
				if set>>i&1 == 0 {
					continue
				}
				if slices.Index(verify.Codes(), fault.code) < slices.Index(verify.Codes(), want) {
					want = fault.code
				}
				if fault.spec != nil {
					fault.spec(s)
				}
				if fault.req != nil {
					fault.req(&req)
				}
				if fault.event != nil {
					events = append(events, fault.event)
				}
				stale = stale || fault.stale
			}
		})
		f.apply(t, spec.ID, append([]domain.Event{domain.KeyCreated{KeySpec: spec}}, events...)...)
		if !stale {
			MustCatchUp(t, f.Verifier)
		}
		got := f.Verify(token, req)
		if got.Code != want {
			t.Errorf("faults %08b: code %s, want %s", set, got.Code, want)
		}
		checkShown(t, got, spec)
	}
}

// checkShown holds what an answer may say about a key.
func checkShown(t *testing.T, got verify.Result, spec domain.KeySpec) {
	t.Helper()
	if got.Code == verify.CodeUnknown {
		if got.KeyID != "" || got.Account != "" || got.Scopes != nil || got.Environment != "" || !got.ExpiresAt.IsZero() {
			t.Errorf("UNKNOWN tells something about a key: %+v", got)
		}
		return
	}
	if got.KeyID != spec.ID || got.Account != spec.Account || got.Environment != spec.Environment ||
		!slices.Equal(got.Scopes, spec.Scopes) || !got.ExpiresAt.Equal(spec.ExpiresAt) {
		t.Errorf("the answer %+v is not about %s", got, spec.ID)
	}
	if (got.Code == verify.CodeInsufficientScope) != (got.Missing != "") {
		t.Errorf("%s names the missing scope %q", got.Code, got.Missing)
	}
	if got.Valid() != (got.Code == verify.CodeValid) {
		t.Errorf("%s: Valid() is %v", got.Code, got.Valid())
	}
}

func TestMisses(t *testing.T) {
	f := newFixture(t, nil)
	_, absent := f.spec(t, nil)
	_, absentManagement := f.spec(t, managementSpec)
	mangled := []byte(absent)
	mangled[20] ^= 1
	imported := "k-elsewhere-42"
	tests := []struct {
		name, token  string
		fresh, stale verify.Code
	}{
		{"nothing", "", verify.CodeMissing, verify.CodeMissing},
		{"well-formed", absent, verify.CodeUnknown, verify.CodeStale},
		{"well-formed management token", absentManagement, verify.CodeUnknown, verify.CodeStale},
		{"one character changed", string(mangled), verify.CodeMalformed, verify.CodeStale},
		{"cut short", absent[:60], verify.CodeMalformed, verify.CodeStale},
		{"with a space", absent + " ", verify.CodeMalformed, verify.CodeStale},
		{"another form", imported, verify.CodeMalformed, verify.CodeStale},
		{"too long", strings.Repeat("x", 513), verify.CodeMalformed, verify.CodeMalformed},
	}
	for _, tt := range tests {
		expectNamed(t, tt.name+", stale", f.Verify(tt.token, verify.Requirement{}), tt.stale)
		_, res := f.Authenticate(tt.token)
		expectNamed(t, tt.name+", stale, Authenticate", res, tt.stale)
	}
	MustCatchUp(t, f.Verifier)
	for _, tt := range tests {
		expectNamed(t, tt.name, f.Verify(tt.token, verify.Requirement{}), tt.fresh)
		_, res := f.Authenticate(tt.token)
		expectNamed(t, tt.name+", Authenticate", res, tt.fresh)
	}
}

func expectNamed(t *testing.T, name string, got verify.Result, want verify.Code) {
	t.Helper()
	if got.Code != want {
		t.Errorf("%s: code %s, want %s", name, got.Code, want)
	}
}

func TestImportedKeyOfAnotherForm(t *testing.T) {
	f := newReady(t, nil)
	token := "k-elsewhere-42"
	spec, _ := f.spec(t, nil)
	spec.Mac = f.pepper.Mac(sha256Of(token))
	f.apply(t, spec.ID, domain.KeyImported{KeySpec: spec})
	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeValid)
}

func TestAllowedIPs(t *testing.T) {
	tests := []struct {
		allowed, ip string
		want        verify.Code
	}{
		{"", "", verify.CodeValid},
		{"", "203.0.113.7", verify.CodeValid},
		{"203.0.113.0/24", "203.0.113.7", verify.CodeValid},
		{"203.0.113.0/24", "::ffff:203.0.113.7", verify.CodeValid},
		{"::ffff:203.0.113.0/120", "203.0.113.7", verify.CodeValid},
		{"::ffff:203.0.113.0/120", "203.0.114.7", verify.CodeIPNotAllowed},
		{"203.0.113.0/24", "203.0.114.7", verify.CodeIPNotAllowed},
		{"203.0.113.0/24", "", verify.CodeIPNotAllowed},
		{"203.0.113.0/24 2001:db8::/32", "2001:db8::1", verify.CodeValid},
		{"fe80::/10", "fe80::1%eth0", verify.CodeValid},
		{"2001:db8::/32", "203.0.113.7", verify.CodeIPNotAllowed},
		{"0.0.0.0/0", "2001:db8::1", verify.CodeIPNotAllowed},
	}
	f := newReady(t, nil)
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s from %s", tt.allowed, tt.ip), func(t *testing.T) {
			_, token := f.create(t, func(s *domain.KeySpec) {
				for p := range strings.FieldsSeq(tt.allowed) {
					s.AllowedIPs = append(s.AllowedIPs, netip.MustParsePrefix(p))
				}
			})
			var ip netip.Addr
			if tt.ip != "" {
				ip = netip.MustParseAddr(tt.ip)
			}
			expect(t, f.Verify(token, verify.Requirement{IP: ip}), tt.want)
		})
	}
}

func TestScopes(t *testing.T) {
	catalogue, err := domain.NewCatalogue(manyScopes())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		held     domain.Scopes
		shown    domain.Scopes
		required []domain.Scope
		missing  domain.Scope
	}{
		{"named", domain.Scopes{"r00:write"}, domain.Scopes{"r00:write"}, []domain.Scope{"r00:write"}, ""},
		{"write does not imply read", domain.Scopes{"r00:write"}, domain.Scopes{"r00:write"}, []domain.Scope{"r00:write", "r00:read"}, "r00:read"},
		{"past 64", domain.Scopes{"r70:read"}, domain.Scopes{"r70:read"}, []domain.Scope{"r70:read"}, ""},
		{"full access", domain.Scopes{"*"}, domain.Scopes{"*"}, []domain.Scope{"r00:read", "r99:write"}, ""},
		{"full access is not over what does not exist", domain.Scopes{"*"}, domain.Scopes{"*"}, []domain.Scope{"gone:read"}, "gone:read"},
		{"full access is not over management", domain.Scopes{"*"}, domain.Scopes{"*"}, []domain.Scope{domain.ScopeOperate}, domain.ScopeOperate},
		{"resource", domain.Scopes{"r50:*"}, domain.Scopes{"r50:*"}, []domain.Scope{"r50:read", "r50:write"}, ""},
		{"resource only", domain.Scopes{"r50:*"}, domain.Scopes{"r50:*"}, []domain.Scope{"r51:read"}, "r51:read"},
		{"no longer in the catalogue", domain.Scopes{"gone:*", "gone:read", "r00:read"}, domain.Scopes{"r00:read"}, []domain.Scope{"gone:read"}, "gone:read"},
		{"a wildcard is no requirement", domain.Scopes{"*"}, domain.Scopes{"*"}, []domain.Scope{"r00:*"}, "r00:*"},
		{"a management scope on an ordinary key", domain.Scopes{domain.ScopeOperate}, domain.Scopes{}, []domain.Scope{domain.ScopeOperate}, domain.ScopeOperate},
	}
	f := newReady(t, func(c *verify.Config) { c.Catalogue = catalogue })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, token := f.create(t, func(s *domain.KeySpec) { s.Scopes = tt.held })
			got := f.Verify(token, verify.Requirement{Scopes: tt.required})
			want := verify.CodeValid
			if tt.missing != "" {
				want = verify.CodeInsufficientScope
			}
			if got.Code != want || got.Missing != tt.missing || !slices.Equal(got.Scopes, tt.shown) || got.Scopes == nil {
				t.Errorf("code %s, missing %q, scopes %q; want %s, %q, %q", got.Code, got.Missing, got.Scopes, want, tt.missing, tt.shown)
			}
		})
	}
}

// manyScopes makes 200 scopes, more than one word of bits holds.
func manyScopes() []domain.ScopeInfo {
	var scopes []domain.ScopeInfo
	for i := range 100 {
		for _, action := range []string{"read", "write"} {
			scopes = append(scopes, domain.ScopeInfo{Scope: domain.Scope(fmt.Sprintf("r%02d:%s", i, action))})
		}
	}
	return scopes
}

func TestClock(t *testing.T) {
	f := newReady(t, nil)
	id, expiring := f.create(t, func(s *domain.KeySpec) { s.ExpiresAt = start.Add(time.Hour) })
	rotated, overlapping := f.create(t, nil)
	f.apply(t, rotated, domain.KeyRotated{ReplacedBy: id, EndsAt: start.Add(time.Hour), RotatedAt: start})
	f.advance(time.Hour - 1)
	expect(t, f.Verify(expiring, verify.Requirement{}), verify.CodeValid)
	expect(t, f.Verify(overlapping, verify.Requirement{}), verify.CodeValid)
	f.advance(1)
	expect(t, f.Verify(expiring, verify.Requirement{}), verify.CodeExpired)
	expect(t, f.Verify(overlapping, verify.Requirement{}), verify.CodeRevoked)
}

func TestExplain(t *testing.T) {
	type row struct {
		status                 int
		oauth, cause, solution string
	}
	invalid := row{401, "invalid_token", "Invalid key", "Check for typos, verify key is correct"}
	// The product page's table of causes and solutions, word for word.
	want := map[verify.Code]row{
		verify.CodeMissing:               {401, "", "Missing header", "Add Authorization: Bearer <key>"},
		verify.CodeMalformed:             invalid,
		verify.CodeUnknown:               invalid,
		verify.CodeRevoked:               {401, "invalid_token", "Revoked key", "Create a new key"},
		verify.CodeExpired:               {401, "invalid_token", "Expired key", "Create a new key"},
		verify.CodeWrongEnvironment:      {401, "invalid_token", "Wrong environment", "Use sk_live_ for production, sk_test_ for sandbox"},
		verify.CodeResourceNotAccessible: {403, "", "Resource not accessible", "Verify you have access to the resource"},
		verify.CodeInsufficientScope:     {403, "insufficient_scope", "Insufficient scopes", "Create a new key with required scopes"},
	}
	for _, code := range append(verify.Codes(), "OTHER") {
		got := verify.Explain(code)
		if w, ok := want[code]; ok && (row{got.Status, got.OAuthError, got.Cause, got.Solution}) != w {
			t.Errorf("%s: %+v, want %+v", code, got, w)
		}
		if (got.Status == 200) != (code == verify.CodeValid) || (got.Status == 503) != (got.RetryAfter > 0) {
			t.Errorf("%s: %+v", code, got)
		}
		if code != verify.CodeValid && (got.Cause == "" || got.Solution == "") {
			t.Errorf("%s has no cause or solution", code)
		}
	}
}

// MustCatchUp tells a verifier that it has read the log to its end.
func MustCatchUp(t *testing.T, v *verify.Verifier) {
	t.Helper()
	if err := MustRun(t, v).send(eventstore.Batch{CaughtUp: true}); err != nil {
		t.Fatal(err)
	}
}
