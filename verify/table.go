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
	next     *record // another whose mac has the same prefix
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
// The maps are keyed by eight bytes of the mac, and the record has it whole: a map
// of whole macs would take more memory, and one more read of cold memory for each
// check.
type table struct {
	shards [shardCount]shard
}

type shard struct {
	sync.RWMutex
	byPrefix map[uint64]*record
	_        [32]byte // a cache line for each lock
}

func newTable() *table {
	t := &table{}
	for i := range t.shards {
		t.shards[i].byPrefix = map[uint64]*record{}
	}
	return t
}

func (t *table) shard(mac *domain.Mac) *shard { return &t.shards[mac[0]] }

func prefix(mac *domain.Mac) uint64 { return binary.LittleEndian.Uint64(mac[1:]) }

// get returns a copy of the record that owns the mac.
func (t *table) get(mac domain.Mac) (r record, ok bool) {
	s := t.shard(&mac)
	s.RLock()
	for p := s.byPrefix[prefix(&mac)]; p != nil; p = p.next {
		if p.mac == mac {
			r, ok = *p, true
			break
		}
	}
	s.RUnlock()
	return r, ok
}

// insert adds a record whose mac nobody owns yet.
func (t *table) insert(r *record) {
	s := t.shard(&r.mac)
	s.Lock()
	r.next = s.byPrefix[prefix(&r.mac)]
	s.byPrefix[prefix(&r.mac)] = r
	s.Unlock()
}

// change runs f on a record of the table while nobody reads it.
func (t *table) change(r *record, f func(*record)) {
	s := t.shard(&r.mac)
	s.Lock()
	f(r)
	s.Unlock()
}
