package verify_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/verify"
)

func TestTheLowestSeqOwns(t *testing.T) {
	var logged bytes.Buffer
	f := newReady(t, func(c *verify.Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	first, token := f.spec(t, nil)
	f.apply(t, first.ID, domain.KeyCreated{KeySpec: first})

	thief, thiefToken := f.spec(t, func(s *domain.KeySpec) { s.Account = "thief" })
	tests := []struct {
		name string
		// key is what the data say, subject where they are.
		key     func(*domain.KeySpec)
		subject eventstore.Aggregate
		reason  string
	}{
		{"another's mac", func(s *domain.KeySpec) { s.Mac = first.Mac }, eventstore.KeyAggregate("thief", thief.ID), "the mac is owned"},
		{"again, with its own mac", nil, eventstore.KeyAggregate("thief", thief.ID), "an earlier event of this key was void"},
		{"another's key id", func(s *domain.KeySpec) { s.ID = first.ID }, eventstore.KeyAggregate("thief", first.ID), "the key id is owned"},
		{"the same key again", func(s *domain.KeySpec) { s.ID, s.Account = first.ID, first.Account }, eventstore.KeyAggregate(first.Account, first.ID), "the key id is owned"},
		{"another account in the subject", func(s *domain.KeySpec) { s.ID = "key_x" }, eventstore.KeyAggregate("elsewhere", "key_x"), "another key than the subject"},
		{"another key in the subject", nil, eventstore.KeyAggregate("thief", "key_y"), "another key than the subject"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			logged.Reset()
			spec := thief
			if tt.key != nil {
				tt.key(&spec)
			}
			e := f.event("", domain.KeyImported{KeySpec: spec})
			e.Aggregate = tt.subject
			f.Apply(t.Context(), []eventstore.Event{e})
			if got := f.Stats(); got != (verify.Stats{Keys: 1, Void: i + 1}) {
				t.Errorf("stats %+v", got)
			}
			for _, want := range []string{"level=ERROR", tt.reason, "seq=", "key_id=" + tt.subject.ID, "owner_key_id="} {
				if !strings.Contains(logged.String(), want) {
					t.Errorf("the alarm %q lacks %q", logged.String(), want)
				}
			}
		})
	}

	logged.Reset()
	f.Apply(t.Context(), []eventstore.Event{
		f.eventOf("thief", thief.ID, domain.KeyUpdated{Scopes: &domain.Scopes{"*"}}),
		f.eventOf("thief", first.ID, domain.KeyRevoked{RevokedAt: start}),
	})
	if f.Stats().Void != len(tests) || logged.Len() != 0 {
		t.Errorf("later events of void keys: %+v, logged %q", f.Stats(), logged.String())
	}
	f.Apply(t.Context(), []eventstore.Event{f.event("key_never", domain.KeyRevoked{RevokedAt: start})})
	if f.Stats().Void != len(tests)+1 || !strings.Contains(logged.String(), "never created") {
		t.Errorf("an event of a key that never was: %+v, logged %q", f.Stats(), logged.String())
	}

	got := f.Verify(token, verify.Requirement{Bound: first.Account})
	if got.Code != verify.CodeValid || got.KeyID != first.ID {
		t.Errorf("the owner's token: %+v", got)
	}
	expect(t, f.Verify(thiefToken, verify.Requirement{}), verify.CodeUnknown)
	if id, ok := f.Owner(first.Mac); !ok || id != first.ID {
		t.Errorf("the mac's owner: %q, %v", id, ok)
	}
	if id, ok := f.Owner(thief.Mac); ok {
		t.Errorf("%q owns a void claim's mac", id)
	}
	f.apply(t, first.ID, domain.KeyRevoked{RevokedAt: start})
	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeRevoked)
}

func TestApplyTwice(t *testing.T) {
	f := newReady(t, nil)
	spec, token := f.spec(t, nil)
	events := []eventstore.Event{
		f.event(spec.ID, domain.KeyCreated{KeySpec: spec}),
		f.event(spec.ID, domain.KeyUpdated{Scopes: &domain.Scopes{"clients:read"}}),
		f.event(spec.ID, domain.KeyUpdated{Scopes: &domain.Scopes{"payouts:read"}}),
	}
	f.Apply(t.Context(), events)
	f.Apply(t.Context(), events)
	f.Apply(t.Context(), events[1:2])
	if f.AsOf() != 3 || f.Stats() != (verify.Stats{Keys: 1}) {
		t.Errorf("as of %d, %+v", f.AsOf(), f.Stats())
	}
	if got := f.Verify(token, verify.Requirement{}); !slices.Equal(got.Scopes, domain.Scopes{"payouts:read"}) {
		t.Errorf("scopes %q", got.Scopes)
	}
}

func TestAuthenticate(t *testing.T) {
	f := newReady(t, nil)
	spec, token := f.spec(t, managementSpec)
	f.apply(t, spec.ID, domain.KeyCreated{KeySpec: spec})
	_, ordinary := f.create(t, func(s *domain.KeySpec) { s.Scopes = domain.Scopes{"*"} })

	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeUnknown)
	authority, got := f.Authenticate(ordinary)
	expect(t, got, verify.CodeUnknown)
	if authority.Actor != "" || got.KeyID != "" {
		t.Errorf("an ordinary key confers %+v, %+v", authority, got)
	}

	want := domain.AuthorityOf(domain.Key{KeySpec: spec})
	authority, got = f.Authenticate(token)
	expect(t, got, verify.CodeValid)
	if !sameAuthority(authority, want) || got.KeyID != spec.ID || got.Account != spec.Account {
		t.Errorf("authority %+v, want %+v; result %+v", authority, want, got)
	}

	deadline := start.Add(time.Hour)
	f.apply(t, spec.ID, domain.KeyUpdated{Scopes: &domain.Scopes{domain.ScopeAuditRead}, Expiry: &domain.Expiry{At: deadline}})
	want.Scopes, want.ExpiresAt = domain.Scopes{domain.ScopeAuditRead}, deadline
	if authority, got = f.Authenticate(token); !sameAuthority(authority, want) || !got.ExpiresAt.Equal(deadline) {
		t.Errorf("after the update: authority %+v, want %+v; result %+v", authority, want, got)
	}
	f.advance(time.Hour)
	authority, got = f.Authenticate(token)
	expect(t, got, verify.CodeExpired)
	if authority.Actor != "" {
		t.Errorf("an expired key confers %+v", authority)
	}
}

func sameAuthority(a, b domain.Authority) bool {
	return a.Actor == b.Actor && a.Account == b.Account && slices.Equal(a.Scopes, b.Scopes) && a.ExpiresAt.Equal(b.ExpiresAt) &&
		slices.Equal(a.Grants.Environments, b.Grants.Environments) && slices.Equal(a.Grants.Scopes, b.Grants.Scopes)
}

func TestATypeOfKeyThatIsNotKnownPassesForNothing(t *testing.T) {
	f := newReady(t, nil)
	spec, token := f.spec(t, nil)
	spec.Type = "robot"
	f.apply(t, spec.ID, domain.KeyCreated{KeySpec: spec})
	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeUnknown)
	_, got := f.Authenticate(token)
	expect(t, got, verify.CodeUnknown)
}

// TestMacsThatBeginAlike holds that the table compares whole macs: no accident will
// make two that begin alike, but whoever writes the log can.
func TestMacsThatBeginAlike(t *testing.T) {
	f := newReady(t, nil)
	spec, token := f.spec(t, nil)
	forged := func(i byte) domain.KeySpec {
		s, _ := f.spec(t, nil)
		s.Mac = spec.Mac
		s.Mac[31] ^= i
		return s
	}
	before, after := forged(1), forged(2)
	for _, s := range []domain.KeySpec{before, spec, after} {
		f.apply(t, s.ID, domain.KeyCreated{KeySpec: s})
	}
	for _, s := range []domain.KeySpec{before, spec, after} {
		if id, ok := f.Owner(s.Mac); !ok || id != s.ID {
			t.Errorf("the mac of %s is owned by %q, %v", s.ID, id, ok)
		}
	}
	absent := forged(4)
	if id, ok := f.Owner(absent.Mac); ok {
		t.Errorf("%s owns a mac that nobody claimed", id)
	}
	if got := f.Verify(token, verify.Requirement{}); got.KeyID != spec.ID || !got.Valid() {
		t.Errorf("%+v", got)
	}
}

func TestFindNamesTheOwnerOfAKeyDeadOrAlive(t *testing.T) {
	f := newReady(t, nil)
	spec, _ := f.spec(t, managementSpec)
	f.apply(t, spec.ID, domain.KeyCreated{KeySpec: spec})
	f.apply(t, spec.ID, domain.KeyRevoked{Reason: "x", RevokedAt: time.Now()})
	if account, typ, ok := f.Find(spec.ID); !ok || account != spec.Account || typ != domain.KeyTypeManagement {
		t.Errorf("found %q, %q, %v", account, typ, ok)
	}
	if account, _, ok := f.Find("key_nobody"); ok || account != "" {
		t.Errorf("found %q for a key that is not there", account)
	}
}
