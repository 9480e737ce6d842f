package verify_test

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/verify"
)

// TestJudgeIsVerify holds the judgement of a key as domain.Evolve makes it against
// that of the table: random keys, requirements and instants, the answers whole.
func TestJudgeIsVerify(t *testing.T) {
	f := newReady(t, nil)
	rapid.Check(t, func(rt *rapid.T) {
		spec, token := f.spec(t, nil)
		spec.Scopes, spec.AllowedIPs, spec.ExpiresAt = drawScopes(rt), drawNetworks(rt), drawTime(rt)
		spec.Account = rapid.SampledFrom([]domain.AccountID{"acme", "other"}).Draw(rt, "account")
		spec.Environment = rapid.SampledFrom([]domain.Environment{"live", "test"}).Draw(rt, "environment")
		if rapid.IntRange(0, 9).Draw(rt, "type") == 0 {
			spec.Type, spec.Environment = domain.KeyTypeManagement, ""
		}
		var created domain.KeyEvent = domain.KeyCreated{KeySpec: spec, CreatedAt: start}
		key := domain.Evolve(domain.Key{}, created)
		batch := []eventstore.Event{f.eventOf(spec.Account, spec.ID, created)}
		for range rapid.IntRange(0, 4).Draw(rt, "events") {
			e := drawEvent(rt)
			key = domain.Evolve(key, e)
			batch = append(batch, f.eventOf(spec.Account, spec.ID, e))
		}
		f.Apply(t.Context(), batch)
		if id, account, code := f.Identify(token); spec.Type == domain.KeyTypeAPI && (id != spec.ID || account != spec.Account || code != verify.CodeValid) ||
			spec.Type == domain.KeyTypeManagement && code != verify.CodeUnknown {
			rt.Fatalf("Identify: %s %s %s of %+v", id, account, code, spec)
		}
		for _, at := range append(around(key), drawTime(rt), start) {
			f.offset.Store(int64(at.Sub(start)))
			req := drawRequirement(rt)
			want := f.Verify(token, req)
			want.AsOfSeq = 0
			if got := verify.Judge(key, req, f.now(), nil); !reflect.DeepEqual(got, want) {
				rt.Fatalf("at %s, %+v:\njudged   %+v\nverified %+v\nof %+v", f.now(), req, got, want, key)
			}
		}
	})
}

func drawRequirement(rt *rapid.T) verify.Requirement {
	req := verify.Requirement{
		Environment: rapid.SampledFrom([]domain.Environment{"", "live", "test"}).Draw(rt, "required environment"),
		Owner:       rapid.SampledFrom([]domain.AccountID{"", "acme", "other"}).Draw(rt, "owner"),
		Bound:       rapid.SampledFrom([]domain.AccountID{"", "", "acme", "other"}).Draw(rt, "bound"),
	}
	if ip := rapid.SampledFrom([]string{"", "192.0.2.1", "::ffff:192.0.2.1", "198.51.100.1", "2001:db8::1"}).Draw(rt, "ip"); ip != "" {
		req.IP = netip.MustParseAddr(ip)
	}
	req.Scopes = rapid.SliceOfN(rapid.SampledFrom([]domain.Scope{
		"invoices:read", "invoices:write", "clients:write", "webhooks:read", "gone:read", "*",
	}), 0, 3).Draw(rt, "required scopes")
	return req
}

func TestJudgeOfNoKey(t *testing.T) {
	if got := verify.Judge(domain.Key{}, verify.Requirement{}, time.Time{}, nil); !reflect.DeepEqual(got, verify.Result{Code: verify.CodeUnknown}) {
		t.Errorf("a key that does not exist: %+v", got)
	}
}

func TestIdentifyCodes(t *testing.T) {
	f := newReady(t, nil)
	for token, want := range map[string]verify.Code{"": verify.CodeMissing, "nonsense": verify.CodeMalformed} {
		if _, _, code := f.Identify(token); code != want {
			t.Errorf("%q: %s, want %s", token, code, want)
		}
	}
	stale := newFixture(t, nil)
	if _, _, code := stale.Identify("nonsense"); code != verify.CodeStale {
		t.Errorf("a table that is not fresh: %s", code)
	}
}
