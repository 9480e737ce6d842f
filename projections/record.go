package projections

import (
	"crypto/sha256"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// KeyRecord is one version of a key's row. Its Mac and PepperID are always zero:
// they stay in the log. Times are UTC in whole microseconds, and empty lists and
// maps are nil, whatever the event held; see [Normalize].
type KeyRecord struct {
	domain.Key
	// Seq is the sequence of the last event of the key, from which this version
	// holds; doors use it as the ETag.
	Seq uint64
	// CreatedSeq is the sequence of the event that created the key. It is unique
	// and never changes: the order of lists and the position of page tokens.
	CreatedSeq uint64
	// LastUsedAt is when the key was last used, as far as is known: it comes from
	// [UsageWriter], not from the log. Zero in versions of the past.
	LastUsedAt time.Time
}

// Normalize returns the key as a read store holds it: without mac and pepper id,
// with times in UTC cut to microseconds (what timestamptz holds; the log keeps
// the exact ones), and with nil for empty lists and maps.
func Normalize(k domain.Key) domain.Key {
	k.Mac, k.PepperID = domain.Mac{}, ""
	for _, t := range [...]*time.Time{
		&k.ExpiresAt, &k.CreatedAt, &k.UpdatedAt, &k.RotatedAt, &k.EndsAt, &k.RevokedAt, &k.ExpiredAt, &k.LeakedAt,
	} {
		*t = Micros(*t)
	}
	k.NoticeLead = k.NoticeLead.Truncate(time.Microsecond)
	if len(k.Scopes) == 0 {
		k.Scopes = nil
	}
	if len(k.AllowedIPs) == 0 {
		k.AllowedIPs = nil
	}
	if len(k.Metadata) == 0 {
		k.Metadata = nil
	}
	if k.Grants != nil && (k.Grants.Environments != nil && len(k.Grants.Environments) == 0 || k.Grants.Scopes != nil && len(k.Grants.Scopes) == 0) {
		grants := *k.Grants // the event's own is shared and not ours to write to
		if len(grants.Environments) == 0 {
			grants.Environments = nil
		}
		if len(grants.Scopes) == 0 {
			grants.Scopes = nil
		}
		k.Grants = &grants
	}
	return k
}

// Micros cuts a time to microseconds and moves it to UTC. Zero stays zero.
func Micros(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}

// MacHash is the first half of the SHA-256 of a mac: enough to find a second
// claim of a mac (128 bits), without keeping the mac itself in the tables.
type MacHash [16]byte

// HashMac returns the hash by which a claim of the mac is stored.
func HashMac(m domain.Mac) MacHash {
	sum := sha256.Sum256(m[:])
	return MacHash(sum[:len(MacHash{})])
}
