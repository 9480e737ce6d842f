package verify_test

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/verify"
)

func TestNoAllocations(t *testing.T) {
	f := newReady(t, nil)
	_, valid := f.create(t, func(s *domain.KeySpec) { s.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	id, revoked := f.create(t, nil)
	f.apply(t, id, domain.KeyRevoked{RevokedAt: start})
	_, expired := f.create(t, func(s *domain.KeySpec) { s.ExpiresAt = start })
	_, unknown := f.spec(t, nil)
	_, management := f.create(t, managementSpec)

	full := verify.Requirement{
		Scopes: []domain.Scope{"invoices:read"}, Environment: domain.EnvironmentLive, Owner: domain.DefaultAccount,
		Bound: domain.DefaultAccount, IP: netip.MustParseAddr("::ffff:192.0.2.1"),
	}
	lacking := full
	lacking.Scopes = []domain.Scope{"payouts:write"}
	for _, tt := range []struct {
		token string
		req   verify.Requirement
		want  verify.Code
	}{
		{valid, full, verify.CodeValid},
		{valid, lacking, verify.CodeInsufficientScope},
		{valid, verify.Requirement{}, verify.CodeIPNotAllowed},
		{valid, verify.Requirement{Bound: "other"}, verify.CodeUnknown},
		{revoked, full, verify.CodeRevoked},
		{expired, full, verify.CodeExpired},
		{unknown, full, verify.CodeUnknown},
		{unknown[:50], full, verify.CodeMalformed},
		{"", full, verify.CodeMissing},
	} {
		expect(t, f.Verify(tt.token, tt.req), tt.want)
		if n := testing.AllocsPerRun(1000, func() { f.Verify(tt.token, tt.req) }); n != 0 {
			t.Errorf("%s allocates %.0f times", tt.want, n)
		}
	}
	if n := testing.AllocsPerRun(1000, func() { f.Authenticate(management) }); n != 0 {
		t.Errorf("Authenticate allocates %.0f times", n)
	}
}

// TestRevocationIsSeenAtOnce checks while events are applied: after the revocation
// of a key was applied no check finds it valid.
func TestRevocationIsSeenAtOnce(t *testing.T) {
	const keys, readers = 300, 3
	f := newReady(t, nil)
	var (
		tokens  [keys]string
		ids     [keys]domain.KeyID
		revoked [keys]atomic.Bool
		done    atomic.Bool
		started sync.WaitGroup
		readAll sync.WaitGroup
	)
	for i := range keys {
		ids[i], tokens[i] = f.create(t, nil)
	}
	check := func(i int) {
		was := revoked[i].Load()
		got := f.Verify(tokens[i], verify.Requirement{}).Code
		if got != verify.CodeRevoked && (was || got != verify.CodeValid) {
			t.Errorf("key %d is %s; revoked before the check: %v", i, got, was)
		}
	}
	started.Add(readers)
	for range readers {
		readAll.Go(func() {
			check(0)
			started.Done()
			for i := 0; !done.Load(); i = (i + 1) % keys {
				check(i)
			}
		})
	}
	started.Wait()
	for i := range keys {
		f.apply(t, ids[i], domain.KeyUpdated{Scopes: &domain.Scopes{"*"}}, domain.KeyRevoked{RevokedAt: start})
		revoked[i].Store(true)
		check(i)
		f.create(t, nil) // maps grow meanwhile
	}
	done.Store(true)
	readAll.Wait()
}

func FuzzVerify(f *testing.F) {
	v := newReady(f, nil)
	_, token := v.create(f, nil)
	_, absent := v.spec(f, nil)
	for _, seed := range []string{"", "sk_live_", "kl_admin_", token, absent, token + "x", "\x00", absent[:61] + "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := v.Verify(s, verify.Requirement{})
		_, parseErr := domain.TokenFormat{}.ParseToken(s)
		want := verify.CodeMalformed
		switch {
		case s == "":
			want = verify.CodeMissing
		case s == token:
			want = verify.CodeValid
		case parseErr == nil:
			want = verify.CodeUnknown
		}
		if got.Code != want {
			t.Errorf("code %s, want %s", got.Code, want)
		}
		if _, res := v.Authenticate(s); res.Valid() {
			t.Error("authenticated")
		}
	})
}
