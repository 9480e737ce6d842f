package verify

import (
	"net/netip"
	"sync"

	"github.com/keyledger/keyledger/domain"
)

// record is what the table knows of one key. Everything that it points at is
// shared and never written to, so that a copy taken under the lock can be judged
// without it. Its size counts: there is one for each key there ever was.
type record struct {
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
	shard       uint8
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
type table struct {
	shards [shardCount]struct {
		sync.RWMutex
		byMac map[domain.Mac]*record
		_     [32]byte // a cache line for each lock
	}
}

func newTable() *table {
	t := &table{}
	for i := range t.shards {
		t.shards[i].byMac = map[domain.Mac]*record{}
	}
	return t
}

// get returns a copy of the record that owns the mac.
func (t *table) get(mac domain.Mac) (r record, ok bool) {
	shard := &t.shards[mac[0]]
	shard.RLock()
	p, ok := shard.byMac[mac]
	if ok {
		r = *p
	}
	shard.RUnlock()
	return r, ok
}

// insert adds a record under a mac that nobody owns yet.
func (t *table) insert(mac domain.Mac, r *record) {
	r.shard = mac[0]
	shard := &t.shards[mac[0]]
	shard.Lock()
	shard.byMac[mac] = r
	shard.Unlock()
}

// change runs f on a record of the table while nobody reads it.
func (t *table) change(r *record, f func(*record)) {
	shard := &t.shards[r.shard]
	shard.Lock()
	f(r)
	shard.Unlock()
}
