package verify_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/verify"
)

// TestUses: what is a use and what is not, and when it was.
func TestUses(t *testing.T) {
	f := newReady(t, nil)
	a, tokenA := f.create(t, nil)
	b, tokenB := f.create(t, nil)
	m, management := f.create(t, managementSpec)
	revoked, tokenRevoked := f.create(t, nil)
	f.apply(t, revoked, domain.KeyRevoked{RevokedAt: start})
	take := func(what string, want ...verify.Use) {
		t.Helper()
		slices.SortFunc(want, func(a, b verify.Use) int { return cmpKeys(a.Key, b.Key) })
		if got := f.TakeUses(); !slices.Equal(got, want) {
			t.Errorf("%s: took %+v, want %+v", what, got, want)
		}
	}
	take("before anything")

	f.Verify(tokenRevoked, verify.Requirement{})
	f.Verify(tokenA, verify.Requirement{Environment: domain.EnvironmentTest})
	f.Verify(tokenA, verify.Requirement{Bound: "another"})
	f.Verify(management, verify.Requirement{})
	f.Authenticate(tokenA)
	f.Identify(tokenA)
	f.Find(a)
	f.Active(m)
	take("of what did not pass, or was no check")

	f.Verify(tokenA, verify.Requirement{})
	f.advance(time.Second)
	f.Tick()
	f.Verify(tokenB, verify.Requirement{})
	f.Verify(tokenB, verify.Requirement{})
	f.advance(time.Second)
	f.Tick()
	f.Authenticate(management)
	f.advance(300 * time.Millisecond)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	take("by ticks", verify.Use{Key: a, Last: at(time.Second), Count: 1}, verify.Use{Key: b, Last: at(2 * time.Second), Count: 2},
		verify.Use{Key: m, Last: at(2300 * time.Millisecond), Count: 1})
	take("at once again")

	f.Verify(tokenA, verify.Requirement{})
	f.advance(time.Minute)
	take("without ticks", verify.Use{Key: a, Last: f.now(), Count: 1})

	f.Verify(tokenA, verify.Requirement{})
	f.advance(time.Second)
	f.Tick()
	f.advance(-time.Hour)
	take("of a clock that was set back", verify.Use{Key: a, Last: f.now(), Count: 1})

	f.Verify(tokenA, verify.Requirement{})
	for range 10_000 { // more than are told apart
		f.advance(time.Second)
		f.Tick()
	}
	uses := f.TakeUses()
	if len(uses) != 1 || uses[0].Count != 1 || uses[0].Last.After(f.now()) {
		t.Errorf("after many ticks: %+v", uses)
	}
}

// TestStaleIsNoUse: a check that fails closed lets nobody pass.
func TestStaleIsNoUse(t *testing.T) {
	f := newFixture(t, nil)
	_, token := f.create(t, nil)
	expect(t, f.Verify(token, verify.Requirement{}), verify.CodeStale)
	if uses := f.TakeUses(); len(uses) > 0 {
		t.Errorf("took %+v", uses)
	}
}

// TestEveryUseIsTakenOnce checks keys from many goroutines while uses are taken, and
// while keys are added so that the table moves: in the end every valid check was taken,
// once.
func TestEveryUseIsTakenOnce(t *testing.T) {
	const users, rounds, before, added = 8, 4000, 40, 4000
	f := newReady(t, nil)
	tokens, ids := make([]string, before), make([]domain.KeyID, before)
	for i := range tokens {
		ids[i], tokens[i] = f.create(t, nil)
	}
	var checks [before]atomic.Uint64
	var using, taking sync.WaitGroup
	for u := range users {
		using.Go(func() {
			for i := range rounds {
				n := (i*7 + u*i) % before
				if i%3 == 0 {
					n = 0 // one is in everybody's hands
				}
				if f.Verify(tokens[n], verify.Requirement{}).Valid() {
					checks[n].Add(1)
				}
			}
		})
	}
	var done atomic.Bool
	taken := map[domain.KeyID]uint64{}
	taking.Go(func() {
		for !done.Load() {
			for _, u := range f.TakeUses() {
				taken[u.Key] += u.Count
			}
			f.Tick()
		}
	})
	for range added {
		f.create(t, nil)
	}
	using.Wait()
	done.Store(true)
	taking.Wait()
	for _, u := range f.TakeUses() {
		taken[u.Key] += u.Count
	}
	for i, id := range ids {
		if want := checks[i].Load(); taken[id] != want || want == 0 {
			t.Errorf("key %d: %d uses were taken of %d checks", i, taken[id], want)
		}
		delete(taken, id)
	}
	if len(taken) > 0 {
		t.Errorf("uses of keys that nobody used: %v", taken)
	}
}

// TestUsesModel does anything in any order: what is taken is what a map would have
// counted, whatever became of the table meanwhile.
func TestUsesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newReady(t, nil)
		type key struct {
			id    domain.KeyID
			token string
		}
		var keys []key
		model := map[domain.KeyID]verify.Use{}
		late := map[domain.KeyID]bool{} // last used in the tick that has not ended
		tick := func() {
			for id := range late {
				u := model[id]
				u.Last = f.now()
				model[id] = u
			}
			clear(late)
		}
		create := func(rt *rapid.T) {
			var batch []eventstore.Event
			for range rapid.IntRange(1, 3000).Draw(rt, "keys") {
				s, token := f.spec(t, nil)
				batch = append(batch, f.event(s.ID, domain.KeyCreated{KeySpec: s, CreatedAt: start}))
				if len(keys) < 50 || rapid.IntRange(0, 100).Draw(rt, "keep") == 0 {
					keys = append(keys, key{s.ID, token})
				}
			}
			f.Apply(t.Context(), batch)
		}
		create(rt) // there is always a key to use
		rt.Repeat(map[string]func(*rapid.T){
			"create": create,
			"use": func(rt *rapid.T) {
				k := rapid.SampledFrom(keys).Draw(rt, "key")
				for range rapid.IntRange(1, 3).Draw(rt, "times") {
					expect(t, f.Verify(k.token, verify.Requirement{}), verify.CodeValid)
					u := model[k.id]
					model[k.id] = verify.Use{Key: k.id, Count: u.Count + 1, Last: u.Last}
					late[k.id] = true
				}
			},
			"tick": func(rt *rapid.T) {
				f.advance(time.Duration(rapid.IntRange(0, 1500).Draw(rt, "ms")) * time.Millisecond)
				tick()
				f.Tick()
			},
			"take": func(rt *rapid.T) {
				tick()
				got := map[domain.KeyID]verify.Use{}
				for _, u := range f.TakeUses() {
					got[u.Key] = u
				}
				if fmt.Sprint(got) != fmt.Sprint(model) {
					rt.Fatalf("took %v, want %v", got, model)
				}
				clear(model)
			},
		})
	})
}

func cmpKeys(a, b domain.KeyID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}
