package verify_test

import (
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/verify"
)

func TestActive(t *testing.T) {
	for name, c := range map[string]struct {
		spec   func(*domain.KeySpec)
		events []domain.Event
		after  time.Duration
		want   bool
	}{
		"good":                  {want: true},
		"before it expires":     {spec: expiresIn(time.Hour), after: time.Hour - time.Nanosecond, want: true},
		"expired":               {spec: expiresIn(time.Hour), after: time.Hour},
		"revoked":               {events: []domain.Event{domain.KeyRevoked{RevokedAt: start}}},
		"replaced, overlapping": {events: []domain.Event{domain.KeyRotated{EndsAt: start.Add(time.Hour)}}, after: time.Minute, want: true},
		"replaced":              {events: []domain.Event{domain.KeyRotated{EndsAt: start.Add(time.Hour)}}, after: time.Hour},
		"expiry brought forward": {
			events: []domain.Event{domain.KeyUpdated{Expiry: &domain.Expiry{At: start.Add(time.Minute)}}}, after: time.Minute,
		},
		"a customer's": {spec: func(s *domain.KeySpec) { s.Type, s.Environment = domain.KeyTypeAPI, domain.EnvironmentLive }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newReady(t, nil)
			id, token := f.create(t, func(s *domain.KeySpec) {
				managementSpec(s)
				if c.spec != nil {
					c.spec(s)
				}
			})
			f.apply(t, id, c.events...)
			f.advance(c.after)
			authority, ok := f.Active(id)
			if ok != c.want || ok != (authority.Actor == domain.ActorID(id)) {
				t.Errorf("active %v, with the authority of %q", ok, authority.Actor)
			}
			if _, result := f.Authenticate(token); result.Valid() != ok {
				t.Errorf("active %v, and authenticating gives %s", ok, result.Code)
			}
		})
	}
}

func expiresIn(d time.Duration) func(*domain.KeySpec) {
	return func(s *domain.KeySpec) { s.ExpiresAt = start.Add(d) }
}

func TestActiveFollowsTheScopes(t *testing.T) {
	f := newReady(t, nil)
	id, _ := f.create(t, managementSpec)
	f.apply(t, id, domain.KeyUpdated{Scopes: &domain.Scopes{domain.ScopeKeysRead}})
	if authority, ok := f.Active(id); !ok || authority.May(domain.ScopeKeysWrite) == nil || authority.May(domain.ScopeKeysRead) != nil {
		t.Errorf("active %v, with %v", ok, authority.Scopes)
	}
	if _, ok := f.Active("key_unknown"); ok {
		t.Error("a key that never was is active")
	}
}

func TestNobodyIsActiveBeforeTheHistoryIsRead(t *testing.T) {
	f := newFixture(t, func(*verify.Config) {})
	id, _ := f.create(t, managementSpec)
	if _, ok := f.Active(id); ok {
		t.Error("active by a table that is not fresh")
	}
}
