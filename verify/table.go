package verify

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/keyledger/keyledger/domain"
)

// shardCount spreads readers, so that they seldom meet each other or the feed at
// one lock.
const shardCount = 256

// table maps macs to records. Readers call get, at any time. The other methods are
// the feed's: they must not run at the same time as each other.
//
// It is an open-addressed hash table that never deletes, rather than a Go map of
// pointers, because a check in a table of a million keys is as slow as its reads of
// cold memory. Here there is one: the records lie in the slots, and which slot to read
// is known from the tags, which are few enough to stay in the processor's cache.
type table struct {
	shards [shardCount]shard
}

// shard has what a reader needs in its first 64 bytes, and a reader of another shard
// needs none of them: its size is two cache lines.
type shard struct {
	sync.RWMutex
	slots
	taken int
	_     [24]byte
}

// slots has one element of tags and records for each slot.
type slots struct {
	tags    []uint8 // freeSlot, or the tag of the record
	records []slot
	marks   []atomic.Uint64 // one bit for each slot: its key was used since the last take
}

// slot is a record and how often its key was used. It fills two cache lines: in a
// large slice none begins amid one, and a use is counted in a line that the check has
// read anyway. The record is guarded by the shard's lock, the counter is not.
type slot struct {
	record
	uses counter
}

const (
	freeSlot = 0
	minSlots = 8 // of a shard that is not empty
)

// hash is the beginning of a mac. A mac is the output of an HMAC: its bits are as
// good as those of any hash. From the top they choose the shard and the slot, from
// the bottom the tag.
type hash uint64

func hashOf(mac *domain.Mac) hash { return hash(binary.BigEndian.Uint64(mac[:])) }

// home is the slot of n that a search begins at. Order is kept: a greater hash of the
// same shard has no lesser home.
func (h hash) home(n int) int {
	i, _ := bits.Mul64(uint64(h)*shardCount, uint64(n)) //nolint:gosec // a length
	return int(i)                                       //nolint:gosec // less than n
}

func (h hash) tag() uint8 { return uint8(h%255) + 1 }

func (t *table) shard(h hash) *shard { return &t.shards[h>>56] }

// get copies the record that owns the mac to r, if there is one.
func (t *table) get(mac domain.Mac, r *found) bool {
	h := hashOf(&mac)
	s := t.shard(h)
	s.RLock()
	defer s.RUnlock()
	i := s.find(h, func(r *record) bool { return r.mac == mac })
	if i < 0 {
		return false
	}
	r.record, r.use = s.records[i].record, s.use(i)
	return true
}

// byID returns the record of a key whose mac has the hash, or nil. It stays where it
// is until the next insert; only change may write to it.
func (t *table) byID(h hash, id domain.KeyID) *record {
	s := t.shard(h)
	i := s.find(h, func(r *record) bool { return r.id == id })
	if i < 0 {
		return nil
	}
	return &s.records[i].record
}

// insert adds a record whose mac nobody owns yet. Readers do not wait while a shard
// grows: they go on in the old slots, and what they count there is brought over.
func (t *table) insert(r *record) {
	h := hashOf(&r.mac)
	s := t.shard(h)
	if s.taken < len(s.tags)/8*7 {
		s.add(h, r, s.slots)
		return
	}
	old := s.slots
	s.add(h, r, old.grown())
	t.moveUses(&old)
}

// add puts a record into slots that become those of the shard.
func (s *shard) add(h hash, r *record, to slots) {
	s.Lock()
	defer s.Unlock()
	s.slots = to
	s.put(h, r)
	s.taken++
}

// change runs f on a record of the table while nobody reads it.
func (t *table) change(r *record, f func(*record)) {
	s := t.shard(hashOf(&r.mac))
	s.Lock()
	f(r)
	s.Unlock()
}

// find returns the slot of the record with the hash for which is returns true, or -1.
// Of the other records it reads one in 255 at most.
func (s *slots) find(h hash, is func(*record) bool) int {
	if len(s.tags) == 0 {
		return -1
	}
	tag := h.tag()
	for i := h.home(len(s.tags)); s.tags[i] != freeSlot; i = s.after(i) {
		if s.tags[i] == tag && is(&s.records[i].record) {
			return i
		}
	}
	return -1
}

// put adds a record; there must be a free slot.
func (s *slots) put(h hash, r *record) {
	i := h.home(len(s.tags))
	for s.tags[i] != freeSlot {
		i = s.after(i)
	}
	s.tags[i], s.records[i].record = h.tag(), *r
}

func (s *slots) after(i int) int {
	if i++; i < len(s.tags) {
		return i
	}
	return 0
}

// grown returns the same records, without their uses, in a third more slots: after a doubling more than half
// of the memory would be empty. As homes keep their order, it reads and writes the slices
// from beginning to end.
func (s *slots) grown() slots {
	n := max(minSlots, len(s.tags)+len(s.tags)/3)
	g := slots{tags: make([]uint8, n), records: make([]slot, n), marks: make([]atomic.Uint64, (n+markBits-1)/markBits)}
	for i := range s.tags {
		if r := &s.records[i].record; s.tags[i] != freeSlot {
			g.put(hashOf(&r.mac), r)
		}
	}
	return g
}
