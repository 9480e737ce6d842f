package postgres

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// Rows are encoded here, in the binary form of COPY (PostgreSQL, COPY, "Binary
// Format"): a rebuild spends its time on that, and values by reflection cost it twice.

const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	copyTrailer = "\xff\xff"
	// epoch is 2000-01-01 in microseconds since 1970, from which timestamptz counts.
	epoch = 946_684_800_000_000
)

func putInt(dst []byte, n int64) []byte {
	dst = binary.BigEndian.AppendUint32(dst, 8)
	return binary.BigEndian.AppendUint64(dst, uint64(n)) //nolint:gosec // the bits
}

func putSeq(dst []byte, seq uint64) []byte { return putInt(dst, signed(seq)) }

// signed turns a sequence into what the database stores. Streams end before 2^63.
func signed(seq uint64) int64 { return int64(min(seq, openEnd)) }

func putText[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s))) //nolint:gosec // far below 2 GiB
	return append(dst, s...)
}

func putNull(dst []byte) []byte { return append(dst, 0xff, 0xff, 0xff, 0xff) }

func putTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return putNull(dst)
	}
	return putInt(dst, t.UnixMicro()-epoch)
}

func putBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 0, 0, 0, 1, 1)
	}
	return append(dst, 0, 0, 0, 1, 0)
}

// sized lets put append a value and writes its length before it.
func sized(dst []byte, put func([]byte) []byte) []byte {
	at := len(dst)
	dst = put(append(dst, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4)) //nolint:gosec // far below 2 GiB
	return dst
}

// putList appends a one-dimensional array.
func putList[T any](dst []byte, list []T, oid uint32, put func([]byte, T) []byte) []byte {
	return sized(dst, func(dst []byte) []byte {
		if len(list) == 0 {
			return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 0, 0, 0, 0, 0), oid)
		}
		dst = binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 1, 0, 0, 0, 0), oid)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(list))) //nolint:gosec // far below
		dst = append(dst, 0, 0, 0, 1)
		for _, value := range list {
			dst = put(dst, value)
		}
		return dst
	})
}

func putPrefix(dst []byte, p netip.Prefix) []byte {
	family := byte(2) // PGSQL_AF_INET
	if p.Addr().Is6() {
		family = 3
	}
	address := p.Addr().AsSlice()
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+len(address)))                      //nolint:gosec // 8 or 20
	return append(append(dst, family, byte(p.Bits()), 1, byte(len(address))), address...) //nolint:gosec // up to 128
}

func putGrants(dst []byte, g *domain.Grants) []byte {
	if g == nil {
		return putNull(dst)
	}
	text, err := json.Marshal(g)
	if err != nil {
		panic(err) // lists of text
	}
	return putText(dst, text)
}

// appendKey appends the values of keyColumns.
func appendKey(dst []byte, r *projections.KeyRecord) []byte {
	k := &r.Key
	dst = putSeq(putSeq(dst, r.Seq), r.CreatedSeq)
	dst = putText(putText(putText(putText(dst, k.ID), k.Account), k.Type), k.Environment)
	dst = putText(putText(dst, k.Name), k.Description)
	dst = putList(dst, k.Scopes, pgtype.TextOID, putText[domain.Scope])
	dst = putGrants(dst, k.Grants)
	dst = putTime(putText(dst, k.Display), k.ExpiresAt)
	if len(k.AllowedIPs) == 0 {
		dst = putNull(dst)
	} else {
		dst = putList(dst, k.AllowedIPs, pgtype.CIDROID, putPrefix)
	}
	if len(k.Metadata) == 0 {
		dst = putNull(dst)
	} else {
		const form = 1 // the version of jsonb's binary form
		dst = sized(dst, func(dst []byte) []byte { return projections.AppendObject(append(dst, form), k.Metadata) })
	}
	dst = putTime(putText(dst, k.RotatedFrom), k.CreatedAt)
	dst = putTime(putText(dst, k.CreatedBy), k.UpdatedAt)
	dst = putText(putBool(dst, k.Imported), k.ReplacedBy)
	dst = putTime(putTime(putTime(dst, k.RotatedAt), k.EndsAt), k.RevokedAt)
	dst = putTime(putTime(putText(dst, k.RevokeReason), k.ExpiredAt), k.LeakedAt)
	dst = putSeq(putInt(dst, k.NoticeLead.Microseconds()), k.Version)
	return putText(dst, projections.SearchText(*k))
}

// copyBuffers hold rows on their way into the tables.
type copyBuffers struct{ versions, audit, macs, voids []byte }

// reset empties them for others to come; what they hold must have been sent.
func (c *copyBuffers) reset() {
	c.versions, c.audit, c.macs, c.voids = c.versions[:0], c.audit[:0], c.macs[:0], c.voids[:0]
}

func (c *copyBuffers) size() int { return len(c.versions) + len(c.audit) + len(c.macs) + len(c.voids) }

// begin starts a row of n columns.
func begin(dst []byte, n int) []byte {
	if len(dst) == 0 {
		dst = append(dst, copyHeader...)
	}
	return binary.BigEndian.AppendUint16(dst, uint16(n)) //nolint:gosec // a count of columns
}

// version adds a row of key_versions, encoded by appendKey; toSeq 0 is the open end.
func (c *copyBuffers) version(row []byte, toSeq uint64) {
	if toSeq == 0 {
		toSeq = openEnd
	}
	c.versions = putSeq(append(begin(c.versions, len(keyColumns)+1), row...), toSeq)
}

// add adds everything of the batch but versions.
func (c *copyBuffers) add(b *projections.Batch) {
	for i := range b.Audit {
		e := &b.Audit[i]
		d := putTime(putTime(putSeq(begin(c.audit, 14), e.Seq), e.Time), e.Clock)
		d = putText(putText(putText(putText(putText(d, e.Account), e.Actor), e.Action), e.Command), e.Subject)
		d = sized(d, func(d []byte) []byte { return projections.AppendChanges(d, e.Changes) })
		c.audit = putText(putText(putText(putText(putText(d, e.Reason), e.Void), e.CommandID), e.RequestID), e.EventID)
	}
	for i := range b.Macs {
		m := &b.Macs[i]
		c.macs = putSeq(putText(putText(begin(c.macs, 3), m.Hash[:]), m.Key), m.Seq)
	}
	for i := range b.Voids {
		v := &b.Voids[i]
		c.voids = putText(putSeq(putText(putText(begin(c.voids, 4), v.Key), v.Account), v.Seq), v.Reason)
	}
}
