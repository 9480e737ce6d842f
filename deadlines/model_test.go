package deadlines

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
)

// naive says what must have been written, by looking at every key every hour.
type naive struct {
	leads   []time.Duration
	keys    map[domain.KeyID]*naiveKey
	written []string
}

type naiveKey struct {
	expires, ends time.Time
	changed       time.Time // by a clock that may have been set back since: a notice comes after it
	rotated, dead bool
	given         map[time.Duration]bool // notices for the present expiry
}

// look is what one who works does at a time.
func (n *naive) look(now time.Time) {
	for id, k := range n.keys {
		switch {
		case k.dead:
		case !k.ends.IsZero() && !now.Before(k.ends):
			n.write(now, id, "revoked rotated %s", clock(k.ends))
			k.dead = true
		case !k.expires.IsZero() && !now.Before(k.expires):
			n.write(now, id, "expired %s", clock(k.expires))
			k.dead = true
		case !k.expires.IsZero() && !k.rotated && !now.Before(k.changed):
			n.notify(now, id, k)
		}
	}
}

// notify gives the most urgent notice that has come, unless it or a more urgent one
// was given.
func (n *naive) notify(now time.Time, id domain.KeyID, k *naiveKey) {
	for _, lead := range n.leads {
		if k.given[lead] {
			return
		}
		if !now.Before(k.expires.Add(-lead)) {
			n.write(now, id, "expiring %s lead %v", clock(k.expires), lead)
			k.given[lead] = true
			return
		}
	}
}

func (n *naive) write(now time.Time, id domain.KeyID, format string, args ...any) {
	n.written = append(n.written, fmt.Sprintf("%s %s ", clock(now), id)+fmt.Sprintf(format, args...))
}

// TestAgreesWithANaiveModel draws histories: keys are made, moved, renamed, rotated
// and revoked, hours pass, the clock is set, workers start and end. What is written,
// and when, is what the model says.
func TestAgreesWithANaiveModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		notices := rapid.SampledFrom([][]time.Duration{{day}, {}, {time.Hour, day, 3 * day}, {2 * time.Hour, 5 * time.Hour}}).Draw(rt, "notices")
		batch := rapid.IntRange(1, 4).Draw(rt, "batch")
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 60, 200).Draw(rt, "steps")
		var got []string
		s := &story{model: &naive{leads: notices, keys: map[domain.KeyID]*naiveKey{}}}
		synctest.Test(t, func(t *testing.T) {
			s.w = newWorld(t, func(c *Config) { c.MaxWait, c.Notices, c.BatchSize = time.Hour, notices, batch })
			for _, step := range steps {
				s.take(step)
			}
			got = s.w.written()
			for name := range maps.Clone(s.w.stop) {
				s.w.end(name)
			}
		})
		slices.Sort(s.model.written)
		if !slices.Equal(got, s.model.written) {
			rt.Fatalf("written:\n%swant:\n%sof:\n%s", lines(got), lines(s.model.written), lines(s.told))
		}
	})
}

// step is one thing that happens, and numbers that say which and how much.
type step struct{ what, key, how, hours int }

func drawStep(rt *rapid.T) step {
	return step{
		what: rapid.IntRange(0, 11).Draw(rt, "what"), key: rapid.IntRange(0, 1000).Draw(rt, "key"),
		how: rapid.IntRange(0, 4).Draw(rt, "how"), hours: rapid.IntRange(0, 120).Draw(rt, "hours"),
	}
}

// story is one history.
type story struct {
	w     *world
	model *naive
	told  []string
}

func (s *story) take(step step) {
	switch step.what {
	case 0, 1:
		s.create(step)
	case 2:
		s.pass(step.hours)
	case 3, 4:
		s.worker([]string{"a", "b"}[step.key%2])
	case 5:
		by := step.hours - 60
		s.tell("the clock is set by %dh", by)
		s.w.set(time.Duration(by) * time.Hour)
		s.pass(1)
	case 6:
		s.pass(1)
	default:
		if n := len(s.model.keys); n > 0 {
			s.change(domain.KeyID(fmt.Sprintf("k%d", step.key%n)), step)
		}
	}
	s.look()
}

// look has the model do what a worker does, if there is one.
func (s *story) look() {
	if len(s.w.stop) > 0 {
		s.model.look(s.w.now())
	}
}

func (s *story) tell(format string, args ...any) {
	s.told = append(s.told, clock(s.w.now())+" "+fmt.Sprintf(format, args...))
}

func (s *story) pass(hours int) {
	for range hours {
		s.w.pass(time.Hour)
		s.look()
	}
}

func (s *story) worker(name string) {
	if s.w.stop[name] != nil {
		s.tell("worker %s ends", name)
		s.w.end(name)
		synctest.Wait()
		return
	}
	s.tell("worker %s begins", name)
	s.w.begin(name)
}

// expiry is some hours from now, or never.
func (s *story) expiry(hours int) time.Time {
	if hours == 0 {
		return time.Time{}
	}
	return s.w.now().Add(time.Duration(hours) * time.Hour).UTC()
}

func (s *story) create(step step) {
	id, expires := domain.KeyID(fmt.Sprintf("k%d", len(s.model.keys))), s.expiry(step.hours)
	s.tell("%s is made, expires %s", id, clock(expires))
	s.w.create(id, expires)
	s.model.keys[id] = &naiveKey{expires: expires, changed: s.w.now(), given: map[time.Duration]bool{}}
}

// change sends a command about a key. Whether it is refused the domain says; what it
// does to deadlines is said again here.
func (s *story) change(id domain.KeyID, step step) {
	k := s.model.keys[id]
	done := func(c domain.KeyCommand) bool {
		before := len(s.w.log.history())
		err := s.w.try(id, c)
		stored := len(s.w.log.history()) > before
		synctest.Wait()
		return err == nil && stored
	}
	switch step.how {
	case 0:
		if expires := s.expiry(step.hours); done(domain.UpdateKey{Expiry: &domain.Expiry{At: expires}}) {
			s.tell("%s now expires %s", id, clock(expires))
			k.expires, k.changed = expires, s.w.now()
			clear(k.given)
		}
	case 1:
		if done(domain.RevokeKey{Reason: "the test"}) {
			s.tell("%s is revoked", id)
			k.dead = true
		}
	case 2, 3:
		next := domain.KeyID(fmt.Sprintf("k%d", len(s.model.keys)))
		overlap := time.Duration(step.hours/2) * time.Hour
		if done(domain.RotateKey{NewID: next, NewMac: spec(next, time.Time{}).Mac, PepperID: "p", Display: "sk_live_…", Overlap: overlap}) {
			s.tell("%s is rotated to %s with %v", id, next, overlap)
			k.rotated, k.ends, k.dead = true, s.w.now().Add(overlap).UTC(), overlap == 0
			s.model.keys[next] = &naiveKey{expires: k.expires, changed: s.w.now(), given: map[time.Duration]bool{}}
		}
	default:
		name := fmt.Sprintf("name %d", step.hours)
		if done(domain.UpdateKey{Name: &name}) {
			s.tell("%s is renamed", id)
			k.changed = s.w.now()
		}
	}
}
