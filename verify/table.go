package verify

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"github.com/keyledger/keyledger/domain"
)

// record is what the table knows of one key. Everything that it points at is
// shared and never written to, so that a copy taken under the lock can be judged
// without it. Its size counts: there is one for each key there ever was.
type record struct {
	mac      domain.Mac
	id       domain.KeyID
	account  domain.AccountID
	scopes   *scopeSet
	networks *[]netip.Prefix // nil: from anywhere
	expires  instant
	ends     instant // the end of the overlap after rotation

	typ         keyType
	environment environment
	revoked     bool // there was a KeyRevoked
	expired     bool // there was a KeyExpired
}

// One byte each in a record, where the domain has strings.
type (
	keyType     uint8
	environment uint8
)

const (
	typeUnknown keyType = iota
	typeAPI
	typeManagement
)

const (
	environmentNone environment = iota
	environmentLive
	environmentTest
)

func keyTypeOf(t domain.KeyType) keyType {
	switch t {
	case domain.KeyTypeAPI:
		return typeAPI
	case domain.KeyTypeManagement:
		return typeManagement
	default:
		return typeUnknown // passes for nothing
	}
}

func (t keyType) domain() domain.KeyType {
	switch t {
	case typeAPI:
		return domain.KeyTypeAPI
	case typeManagement:
		return domain.KeyTypeManagement
	default:
		return ""
	}
}

func environmentOf(e domain.Environment) environment {
	switch e {
	case domain.EnvironmentLive:
		return environmentLive
	case domain.EnvironmentTest:
		return environmentTest
	default:
		return environmentNone
	}
}

func (e environment) domain() domain.Environment {
	switch e {
	case environmentLive:
		return domain.EnvironmentLive
	case environmentTest:
		return domain.EnvironmentTest
	default:
		return ""
	}
}

// mortal reports whether the key may be dead at some time; if not, there is no need
// to look at the clock, which costs a tenth of a check.
func (r *record) mortal() bool {
	return r.revoked || r.expired || r.ends.set() || r.expires.set()
}

// status is the rule of [domain.Key.Status] on what a record keeps; a test holds
// the two together.
func (r *record) status(now instant) domain.Status {
	switch {
	case r.revoked, r.ends.passed(now) && !r.expired:
		return domain.StatusRevoked
	case r.expired, r.expires.passed(now):
		return domain.StatusExpired
	default:
		return domain.StatusActive
	}
}

// admits reports whether a client address is within the key's networks. An unknown
// address is within none.
func (r *record) admits(ip netip.Addr) bool {
	if r.networks == nil {
		return true
	}
	ip = ip.Unmap().WithZone("")
	for _, network := range *r.networks {
		if network.Contains(ip) {
			return true
		}
	}
	return false
}

// networksOf returns allowed ranges as a record keeps them: IPv4 ranges in IPv4
// form, as addresses are compared.
func networksOf(ranges []netip.Prefix) *[]netip.Prefix {
	if len(ranges) == 0 {
		return nil
	}
	networks := make([]netip.Prefix, len(ranges))
	for i, r := range ranges {
		networks[i] = r
		if r.Addr().Is4In6() && r.Bits() >= 96 {
			networks[i] = netip.PrefixFrom(r.Addr().Unmap(), r.Bits()-96)
		}
	}
	return &networks
}

// shardCount spreads readers, so that they seldom meet each other or the feed at
// one lock. A mac is the output of an HMAC: its first byte spreads well.
const shardCount = 256

// table maps macs to records. Records change in place, under the lock of their
// shard. It is safe for concurrent use.
//
// It is an open-addressed hash table that never deletes, rather than a Go map,
// because a check in a table of a million keys is as slow as its reads of cold
// memory: here there are two, the slot and the record. A mac is its own hash.
type table struct {
	shards [shardCount]shard
}

type shard struct {
	sync.RWMutex
	slots []slot // a power of two of them, at most three quarters taken
	mask  uint64 // one less than slots, 0 if there are none
	taken uint64 // the four members fill a cache line
}

type slot struct {
	prefix uint64  // of the record's mac, to pass over others without reading them
	record *record // nil: free
}

// minSlots is the least size of a shard that is not empty, a power of two.
const minSlots = 16

func (t *table) shard(mac *domain.Mac) *shard { return &t.shards[mac[0]] }

func prefixOf(mac *domain.Mac) uint64 { return binary.LittleEndian.Uint64(mac[1:]) }

// get copies the record that owns the mac to r, if there is one.
func (t *table) get(mac domain.Mac, r *record) bool {
	s, prefix := t.shard(&mac), prefixOf(&mac)
	s.RLock()
	defer s.RUnlock()
	if s.taken == 0 {
		return false
	}
	for i := prefix; ; i++ {
		at := &s.slots[i&s.mask]
		switch {
		case at.record == nil:
			return false
		case at.prefix == prefix && at.record.mac == mac:
			*r = *at.record
			return true
		}
	}
}

// insert adds a record whose mac nobody owns yet.
func (t *table) insert(r *record) {
	s := t.shard(&r.mac)
	s.Lock()
	defer s.Unlock()
	if s.taken >= s.mask/4*3 {
		s.grow()
	}
	s.put(slot{prefixOf(&r.mac), r})
	s.taken++
}

// grow doubles the slots. It moves them without reading the records: at a million
// keys it takes some ten microseconds.
func (s *shard) grow() {
	old := s.slots
	s.mask = s.mask<<1 | (minSlots - 1)
	s.slots = make([]slot, s.mask+1)
	for _, moved := range old {
		if moved.record != nil {
			s.put(moved)
		}
	}
}

func (s *shard) put(entry slot) {
	i := entry.prefix
	for s.slots[i&s.mask].record != nil {
		i++
	}
	s.slots[i&s.mask] = entry
}

// change runs f on a record of the table while nobody reads it.
func (t *table) change(r *record, f func(*record)) {
	s := t.shard(&r.mac)
	s.Lock()
	f(r)
	s.Unlock()
}
