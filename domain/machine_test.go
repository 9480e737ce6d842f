package domain

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// plainKey is what a person would write on paper about a key: no events, just
// what is so now. The state machine holds Decide and Evolve against it.
type plainKey struct {
	exists   bool
	name     string
	scopes   Scopes
	expires  time.Time // zero: never
	ends     time.Time // of the overlap; zero: not rotated
	revoked  bool
	expired  bool // recorded
	notices  []time.Duration
	leaked   bool
	versions uint64
}

func (p *plainKey) status(now time.Time) Status {
	switch {
	case p.revoked:
		return StatusRevoked
	case p.expired:
		return StatusExpired
	case !p.ends.IsZero() && !now.Before(p.ends):
		return StatusRevoked
	case !p.expires.IsZero() && !now.Before(p.expires):
		return StatusExpired
	}
	return StatusActive
}

// keyMachine drives one key through random commands while the clock moves on.
type keyMachine struct {
	now   time.Time
	key   Key
	plain plainKey
}

func TestKeyStateMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &keyMachine{now: noon}
		t.Repeat(rapid.StateMachineActions(m))
	})
}

// do decides and evolves, and requires as many events as the plain model expects
// (-1: a refusal).
func (m *keyMachine) do(t *rapid.T, c KeyCommand, want int) {
	before := m.key
	events, err := Decide(m.key, c, m.now)
	if (err != nil) != (want < 0) || err == nil && len(events) != want {
		t.Fatalf("%s at %v on %+v: %d events, error %v; the model expects %d", c.Command(), m.now, m.plain, len(events), err, want)
	}
	for _, e := range events {
		m.key = Evolve(m.key, e)
	}
	m.plain.versions += uint64(len(events))
	if err != nil && !reflect.DeepEqual(before, m.key) {
		t.Fatalf("a refused command changed the key")
	}
}

func (m *keyMachine) Wait(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 72).Draw(t, "hours")) * time.Hour)
}

func (m *keyMachine) drawExpiry(t *rapid.T) time.Time {
	hours := rapid.IntRange(-24, 480).Draw(t, "expires in hours")
	if hours%7 == 0 {
		return time.Time{}
	}
	return m.now.Add(time.Duration(hours) * time.Hour)
}

func (m *keyMachine) Create(t *rapid.T) {
	expires := m.drawExpiry(t)
	want := 1
	if m.plain.exists || !expires.IsZero() && !expires.After(m.now) {
		want = -1
	}
	m.do(t, CreateKey{KeySpec: spec(expiring(expires))}, want)
	if want == 1 {
		m.plain.exists, m.plain.expires = true, expires
		m.plain.name, m.plain.scopes = spec().Name, spec().Scopes
	}
}

func (m *keyMachine) alive() bool { return m.plain.exists && m.plain.status(m.now) == StatusActive }

func (m *keyMachine) Rename(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "name")
	want := 1
	switch {
	case !m.alive() || name == "":
		want = -1
	case name == m.plain.name:
		want = 0
	}
	m.do(t, UpdateKey{Name: &name}, want)
	if want == 1 {
		m.plain.name = name
	}
}

func (m *keyMachine) Rescope(t *rapid.T) {
	scopes := Scopes(rapid.SliceOfNDistinct(rapid.SampledFrom([]Scope{"a:read", "b:read", "c:read"}), 0, 3, rapid.ID).Draw(t, "scopes"))
	slices.Sort(scopes)
	want := 1
	switch {
	case !m.alive() || len(scopes) == 0:
		want = -1
	case slices.Equal(scopes, m.plain.scopes):
		want = 0
	}
	m.do(t, UpdateKey{Scopes: &scopes}, want)
	if want == 1 {
		m.plain.scopes = scopes
	}
}

func (m *keyMachine) MoveExpiry(t *rapid.T) {
	expires := m.drawExpiry(t)
	same := expires.Equal(m.plain.expires)
	want := 1
	switch {
	case !m.alive(), !m.plain.ends.IsZero() && !same, !expires.IsZero() && !expires.After(m.now):
		want = -1
	case same:
		want = 0
	}
	m.do(t, UpdateKey{Expiry: &Expiry{At: expires}}, want)
	if want == 1 {
		m.plain.expires, m.plain.notices = expires, nil
	}
}

func (m *keyMachine) Rotate(t *rapid.T) {
	overlap := time.Duration(rapid.IntRange(-1, 200).Draw(t, "overlap hours")) * time.Hour
	want := 1
	ends := m.now.Add(overlap)
	switch {
	case !m.alive(), !m.plain.ends.IsZero(), overlap < 0, !m.plain.expires.IsZero() && ends.After(m.plain.expires):
		want = -1
	case overlap == 0:
		want = 2
	}
	m.do(t, overlapping(overlap), want)
	if want > 0 {
		m.plain.ends, m.plain.revoked = ends, overlap == 0
	}
}

func (m *keyMachine) Revoke(t *rapid.T) {
	want := -1
	if m.plain.exists {
		want = map[Status]int{StatusActive: 1, StatusRevoked: 0, StatusExpired: -1}[m.plain.status(m.now)]
	}
	m.do(t, RevokeKey{Reason: "lost"}, want)
	m.plain.revoked = m.plain.revoked || want == 1
}

func (m *keyMachine) Leak(t *rapid.T) {
	revoke := rapid.Bool().Draw(t, "revoke")
	want := 0
	if m.plain.exists && !m.plain.leaked {
		want++
	}
	if revokes := revoke && m.alive(); revokes {
		want++
		defer func() { m.plain.revoked = true }()
	}
	if !m.plain.exists {
		want = -1
	}
	m.do(t, ReportLeak{Source: "github", Revoke: revoke}, want)
	m.plain.leaked = m.plain.exists
}

func (m *keyMachine) Notify(t *rapid.T) {
	lead := time.Duration(rapid.SampledFrom([]int{1, 7, 30}).Draw(t, "lead days")) * day
	deadline := m.plain.expires
	if rapid.Bool().Draw(t, "stale") {
		deadline = deadline.Add(time.Hour)
	}
	want := 0
	shorter := slices.ContainsFunc(m.plain.notices, func(given time.Duration) bool { return given <= lead })
	if m.alive() && m.plain.ends.IsZero() && !m.plain.expires.IsZero() && deadline.Equal(m.plain.expires) &&
		!m.now.Before(deadline.Add(-lead)) && !shorter {
		want = 1
	}
	if !m.plain.exists {
		want = -1
	}
	m.do(t, NotifyExpiry{Deadline: deadline, Lead: lead}, want)
	if want == 1 {
		m.plain.notices = append(m.plain.notices, lead)
	}
}

func (m *keyMachine) Expire(t *rapid.T) {
	want := 0
	if m.plain.status(m.now) == StatusExpired && !m.plain.expired {
		want = 1
	}
	if !m.plain.exists {
		want = -1
	}
	m.do(t, ExpireKey{Deadline: m.plain.expires}, want)
	m.plain.expired = m.plain.expired || want == 1
}

func (m *keyMachine) EndOverlap(t *rapid.T) {
	want := 0
	if !m.plain.ends.IsZero() && !m.now.Before(m.plain.ends) && !m.plain.revoked && !m.plain.expired {
		want = 1
	}
	if !m.plain.exists {
		want = -1
	}
	m.do(t, EndOverlap{}, want)
	m.plain.revoked = m.plain.revoked || want == 1
}

// Check runs after every step.
func (m *keyMachine) Check(t *rapid.T) {
	if m.key.Exists() != m.plain.exists || m.key.Version != m.plain.versions {
		t.Fatalf("exists %v version %d, model %v %d", m.key.Exists(), m.key.Version, m.plain.exists, m.plain.versions)
	}
	if !m.plain.exists {
		return
	}
	if got, want := m.key.Status(m.now), m.plain.status(m.now); got != want {
		t.Fatalf("status %s, model %s", got, want)
	}
	if m.key.Name != m.plain.name || !slices.Equal(m.key.Scopes, m.plain.scopes) || !m.key.ExpiresAt.Equal(m.plain.expires) || !m.key.EndsAt.Equal(m.plain.ends) {
		t.Fatalf("key %+v, model %+v", m.key, m.plain)
	}
}
