package verify

import (
	"net/netip"

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

// recordOf returns the record of a new key.
func recordOf(spec *domain.KeySpec, scopes *scopeSet) *record {
	return &record{
		mac: spec.Mac, id: spec.ID, account: spec.Account, scopes: scopes,
		networks: networksOf(spec.AllowedIPs), expires: instantOf(spec.ExpiresAt), ends: instant{sec: neverSec},
		typ: keyTypeOf(spec.Type), environment: environmentOf(spec.Environment),
	}
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
