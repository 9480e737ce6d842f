package verify

import (
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// Use says that a key passed checks.
type Use struct {
	Key domain.KeyID
	// Last is when it was last used, by the verifier's clock: not before that check
	// began, and after it by no more than the time between two ticks of the
	// [Reporter], or two calls of TakeUses where none runs. Never in the future.
	Last  time.Time
	Count uint64 // how many checks; at least 1
}

// TakeUses returns which keys passed checks since the last call, in the order of
// their ids, and forgets it. It may be called at any time, and costs what was used
// and a bit for each key. Every check that was answered VALID is in exactly one take:
// in this one, unless other checks of the key are under way; then it may be in the next.
func (v *Verifier) TakeUses() []Use {
	var taken []takenUse
	for i := range v.table.shards {
		taken = v.table.shards[i].takeUses(taken)
	}
	ends := v.uses.take() // after the last of them
	uses := make([]Use, len(taken))
	for i, t := range taken {
		uses[i] = Use{Key: t.key, Last: ends.of(t.tick), Count: t.count}
	}
	slices.SortFunc(uses, func(a, b Use) int { return cmp.Compare(a.Key, b.Key) })
	return uses
}

// takenUse is a [Use] before its time is known.
type takenUse struct {
	key         domain.KeyID
	count, tick uint64
}

// counter says how often a key was used since the last take, and in which tick of
// the clock it last was: tickBits and countBits of one word, so that both change
// together and without a lock. Zero is not used, moved that it is counted elsewhere.
type counter struct{ word atomic.Uint64 }

const (
	countBits = 34 // 17 thousand million between two takes; then it counts no more
	tickBits  = 64 - countBits
	maxCount  = 1<<countBits - 1
	maxTick   = 1<<tickBits - 2 // 34 years of seconds
	moved     = 1<<64 - 1       // no word of a use: its tick is beyond maxTick
)

// add counts n uses, the last of them in a tick. first says that there were none;
// ok is false, and nothing counted, if the counter was moved.
func (c *counter) add(n, tick uint64) (first, ok bool) {
	for {
		old := c.word.Load()
		if old == moved {
			return false, false
		}
		next := max(old>>countBits, tick)<<countBits | min(old&maxCount+n, maxCount)
		if c.word.CompareAndSwap(old, next) {
			return old == 0, true
		}
	}
}

// take sets the counter to zero and returns what it was; zero if it was moved.
func (c *counter) take() (n, tick uint64) {
	for {
		old := c.word.Load()
		if old == 0 || old == moved {
			return 0, 0
		}
		if c.word.CompareAndSwap(old, 0) {
			return old & maxCount, old >> countBits
		}
	}
}

// found is a record as a check copies it, and where a use of the key is counted.
type found struct {
	record
	use
}

// use points at the counter of a slot and at its mark.
type use struct {
	counter *counter
	mark    *atomic.Uint64
	bit     uint64
}

// markBits is how many slots share a word of marks.
const markBits = 64

func (s *slots) use(i int) use {
	return use{counter: &s.records[i].uses, mark: &s.marks[i/markBits], bit: 1 << (i % markBits)}
}

// add counts uses, and marks the slot for the next take at the first. The counter
// comes before the mark: a take that runs in between leaves both to the next.
func (u use) add(n, tick uint64) (ok bool) {
	first, ok := u.counter.add(n, tick)
	if first {
		u.mark.Or(u.bit)
	}
	return ok
}

// count counts a use of a key that was found. It needs no lock: where the shard has
// grown since, the key is looked for again.
func (t *table) count(f *found, tick uint64) {
	if !f.use.add(1, tick) {
		t.addUses(&f.mac, 1, tick)
	}
}

// addUses counts uses of the key that owns a mac, in the slots of the present.
func (t *table) addUses(mac *domain.Mac, n, tick uint64) {
	h := hashOf(mac)
	s := t.shard(h)
	s.RLock()
	defer s.RUnlock()
	if i := s.find(h, func(r *record) bool { return r.mac == *mac }); i >= 0 {
		s.use(i).add(n, tick) // no slot is moved while it is the shard's
	}
}

// moveUses brings what was counted in slots that a shard has left to where it is
// counted now. Readers may still be in them; after this they count nothing there.
func (t *table) moveUses(old *slots) {
	for i := range old.records {
		if old.tags[i] == freeSlot {
			continue
		}
		s := &old.records[i]
		if word := s.uses.word.Swap(moved); word != 0 {
			t.addUses(&s.mac, word&maxCount, word>>countBits)
		}
	}
}

// marksPerLock is how many words of marks are looked at under one hold of a shard's
// lock, so that the feed, and checks behind it, do not wait for the whole shard.
const marksPerLock = 8

// takeUses adds the uses of the shard's keys. Slots that were left meanwhile do not
// matter: what was counted there comes to those of the present, for this take or the next.
func (s *shard) takeUses(uses []takenUse) []takenUse {
	for from := 0; ; from += marksPerLock {
		s.RLock()
		if from >= len(s.marks) {
			s.RUnlock()
			return uses
		}
		for w := from; w < min(from+marksPerLock, len(s.marks)); w++ {
			if s.marks[w].Load() == 0 {
				continue
			}
			for marked := s.marks[w].Swap(0); marked != 0; marked &= marked - 1 {
				slot := &s.records[w*markBits+bits.TrailingZeros64(marked)]
				if n, tick := slot.uses.take(); n > 0 {
					uses = append(uses, takenUse{key: slot.id, count: n, tick: tick})
				}
			}
		}
		s.RUnlock()
	}
}

// useClock numbers the ticks in which keys are used, so that a check need not look
// at a clock. When a tick ended is what its uses are said to have been at.
type useClock struct {
	now  func() time.Time
	tick atomic.Uint64 // the present one

	mu   sync.Mutex
	ends tickEnds // of the ticks since the last take
}

// tickEnds are the ends of consecutive ticks.
type tickEnds struct {
	first uint64 // which tick times begin with
	times []time.Time
}

// maxTicks bounds the ticks that are told apart between two takes.
const maxTicks = 4096

func newUseClock(now func() time.Time) *useClock { return &useClock{now: now} }

// advance ends the present tick.
func (c *useClock) advance() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
}

func (c *useClock) end() {
	if len(c.ends.times) == maxTicks {
		c.ends.first += maxTicks / 2
		c.ends.times = append(c.ends.times[:0], c.ends.times[maxTicks/2:]...)
	}
	c.ends.times = append(c.ends.times, c.now())
	c.tick.Store(min(c.tick.Load()+1, maxTick))
}

// take ends the present tick and returns the ends of all since the last take.
func (c *useClock) take() tickEnds {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
	ends := c.ends
	c.ends = tickEnds{first: c.tick.Load()}
	return ends
}

// of returns when a tick ended. Of one from before the last take, in which a check
// began that took that long, it is the end of the first since. It is never after the
// last end, though the clock was set back.
func (e tickEnds) of(tick uint64) time.Time {
	last := len(e.times) - 1
	i := min(max(tick, e.first)-e.first, uint64(last)) //nolint:gosec // there is at least one
	if e.times[i].After(e.times[last]) {
		return e.times[last]
	}
	return e.times[i]
}
