package verify_test

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/verify"
)

// TestSameAsTheFold feeds random histories, also ones that no command would make,
// and asks at random times: status, scopes and networks are those of the fold by
// domain.Evolve.
func TestSameAsTheFold(t *testing.T) {
	catalogue := domain.DefaultCatalogue().All()
	f := newReady(t, nil)
	rapid.Check(t, func(rt *rapid.T) {
		spec, token := f.spec(t, nil)
		spec.Scopes, spec.AllowedIPs, spec.ExpiresAt = drawScopes(rt), drawNetworks(rt), drawTime(rt)
		var created domain.KeyEvent = domain.KeyCreated{KeySpec: spec, CreatedAt: start}
		if rapid.Bool().Draw(rt, "imported") {
			created = domain.KeyImported{KeySpec: spec, ImportedAt: start}
		}
		key := domain.Evolve(domain.Key{}, created)
		batch := []eventstore.Event{f.event(spec.ID, created)}
		for range rapid.IntRange(0, 6).Draw(rt, "events") {
			e := drawEvent(rt)
			key = domain.Evolve(key, e)
			batch = append(batch, f.event(spec.ID, e))
		}
		f.Apply(t.Context(), batch)

		for _, at := range append(around(key), drawTime(rt)) {
			f.offset.Store(int64(at.Sub(start)))
			ip := rapid.SampledFrom([]string{"192.0.2.1", "198.51.100.1", "2001:db8::1"}).Draw(rt, "ip")
			want := verify.CodeValid
			switch key.Status(f.now()) {
			case domain.StatusRevoked:
				want = verify.CodeRevoked
			case domain.StatusExpired:
				want = verify.CodeExpired
			case domain.StatusActive:
				if !admitted(key, netip.MustParseAddr(ip)) {
					want = verify.CodeIPNotAllowed
				}
			}
			req := verify.Requirement{IP: netip.MustParseAddr(ip)}
			if got := f.Verify(token, req); got.Code != want || !got.ExpiresAt.Equal(key.ExpiresAt) {
				rt.Fatalf("at %s: %s (expires %s), want %s of %+v", f.now(), got.Code, got.ExpiresAt, want, key)
			}
			for _, info := range catalogue {
				held := want
				if want == verify.CodeValid && !key.Scopes.Cover(info.Scope) {
					held = verify.CodeInsufficientScope
				}
				req.Scopes = []domain.Scope{info.Scope}
				if got := f.Verify(token, req); got.Code != held {
					rt.Fatalf("%s at %s: %s, want %s of %+v", info.Scope, f.now(), got.Code, held, key)
				}
			}
		}
	})
}

func admitted(k domain.Key, ip netip.Addr) bool {
	for _, p := range k.AllowedIPs {
		if p.Contains(ip) {
			return true
		}
	}
	return len(k.AllowedIPs) == 0
}

// around returns the instants at which the key's status may change, and those just
// before and after.
func around(k domain.Key) []time.Time {
	var times []time.Time
	for _, at := range []time.Time{k.ExpiresAt, k.EndsAt, k.RevokedAt, k.ExpiredAt} {
		if !at.IsZero() {
			times = append(times, at.Add(-1), at, at.Add(1))
		}
	}
	return times
}

func drawEvent(rt *rapid.T) domain.KeyEvent {
	switch rapid.IntRange(0, 6).Draw(rt, "event") {
	case 0:
		return domain.KeyRotated{ReplacedBy: "key_next", EndsAt: drawTime(rt), RotatedAt: start}
	case 1:
		return domain.KeyRevoked{RevokedAt: drawTime(rt)}
	case 2:
		return domain.KeyExpired{ExpiresAt: drawTime(rt)}
	case 3:
		return domain.KeyExpiring{ExpiresAt: drawTime(rt), LeadSeconds: 1}
	case 4:
		return domain.KeyLeaked{LeakedAt: drawTime(rt)}
	default:
		var u domain.KeyUpdated
		if rapid.Bool().Draw(rt, "update scopes") {
			s := drawScopes(rt)
			u.Scopes = &s
		}
		if rapid.Bool().Draw(rt, "update networks") {
			n := drawNetworks(rt)
			u.AllowedIPs = &n
		}
		if rapid.Bool().Draw(rt, "update expiry") {
			u.Expiry = &domain.Expiry{At: drawTime(rt)}
		}
		return u
	}
}

// drawTime draws one of few instants, so that they meet, or none.
func drawTime(rt *rapid.T) time.Time {
	n := rapid.IntRange(-3, 6).Draw(rt, "time")
	if n == -3 {
		return time.Time{}
	}
	return start.Add(time.Duration(n) * 700 * time.Millisecond)
}

func drawScopes(rt *rapid.T) domain.Scopes {
	return rapid.SliceOfDistinct(rapid.SampledFrom([]domain.Scope{
		"*", "invoices:*", "payouts:*", "invoices:read", "clients:write", "webhooks:read", "gone:read", "gone:*",
	}), rapid.ID[domain.Scope]).Draw(rt, "scopes")
}

func drawNetworks(rt *rapid.T) []netip.Prefix {
	return rapid.SliceOfN(rapid.SampledFrom([]netip.Prefix{
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.1/32"), netip.MustParsePrefix("2001:db8::/32"),
	}), 0, 2).Draw(rt, "networks")
}
