package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// recordFormat is the first byte of a record.
const recordFormat = 1

// appendRecord appends a version of a key in a compact form: every member in a
// fixed order, texts with their length before them. It is what key_versions holds
// and what a build keeps in memory; a rebuild makes and reads one for most events, so
// that the time for JSON would be most of its time. The same key always makes the
// same bytes. LastUsedAt is not part of it.
func appendRecord(dst []byte, r *projections.KeyRecord) []byte {
	k := &r.Key
	e := encoder{append(dst, recordFormat)}
	e.number(r.Seq)
	e.number(r.CreatedSeq)
	e.number(k.Version)
	e.flag(k.Imported)
	for _, text := range [...]string{
		string(k.ID), string(k.Account), string(k.Type), string(k.Environment), k.Name, k.Description, k.Display,
		string(k.RotatedFrom), string(k.ReplacedBy), string(k.CreatedBy), k.RevokeReason,
	} {
		e.text(text)
	}
	for _, at := range [...]time.Time{k.ExpiresAt, k.CreatedAt, k.UpdatedAt, k.RotatedAt, k.EndsAt, k.RevokedAt, k.ExpiredAt, k.LeakedAt} {
		e.time(at)
	}
	e.signed(k.NoticeLead.Microseconds())
	encodeList(&e, k.Scopes)
	e.flag(k.Grants != nil)
	if k.Grants != nil {
		encodeList(&e, k.Grants.Environments)
		encodeList(&e, k.Grants.Scopes)
	}
	e.number(uint64(len(k.AllowedIPs)))
	for _, p := range k.AllowedIPs {
		e.text(p.String())
	}
	e.number(uint64(len(k.Metadata)))
	if len(k.Metadata) > 0 {
		for _, name := range slices.Sorted(maps.Keys(k.Metadata)) {
			e.text(name)
			e.text(k.Metadata[name])
		}
	}
	return e.dst
}

// parseRecord reads what appendRecord wrote.
func parseRecord(src []byte) (projections.KeyRecord, error) {
	var r projections.KeyRecord
	k := &r.Key
	if len(src) == 0 || src[0] != recordFormat {
		return r, errors.New("read a version of a key: it has another format")
	}
	d := decoder{all: string(src[1:])} // one copy, of which all texts are parts
	r.Seq, r.CreatedSeq, k.Version, k.Imported = d.number(), d.number(), d.number(), d.flag()
	k.ID, k.Account, k.Type, k.Environment = domain.KeyID(d.text()), domain.AccountID(d.text()), domain.KeyType(d.text()), domain.Environment(d.text())
	k.Name, k.Description, k.Display = d.text(), d.text(), d.text()
	k.RotatedFrom, k.ReplacedBy, k.CreatedBy, k.RevokeReason = domain.KeyID(d.text()), domain.KeyID(d.text()), domain.ActorID(d.text()), d.text()
	k.ExpiresAt, k.CreatedAt, k.UpdatedAt, k.RotatedAt = d.time(), d.time(), d.time(), d.time()
	k.EndsAt, k.RevokedAt, k.ExpiredAt, k.LeakedAt = d.time(), d.time(), d.time(), d.time()
	k.NoticeLead = time.Duration(d.signed()) * time.Microsecond
	k.Scopes = decodeList[domain.Scope](&d)
	if d.flag() {
		k.Grants = &domain.Grants{Environments: decodeList[domain.Environment](&d), Scopes: decodeList[domain.Scope](&d)}
	}
	if n := d.length(); n > 0 {
		k.AllowedIPs = make([]netip.Prefix, n)
		for i := range k.AllowedIPs {
			p, err := netip.ParsePrefix(d.text())
			if err != nil {
				d.broken = true
			}
			k.AllowedIPs[i] = p
		}
	}
	if n := d.length(); n > 0 {
		k.Metadata = make(map[string]string, n)
		for range n {
			name := d.text()
			k.Metadata[name] = d.text()
		}
	}
	if d.broken || d.at != len(d.all) {
		return r, fmt.Errorf("read version %d of a key: it is damaged", r.Seq)
	}
	return r, nil
}

type encoder struct{ dst []byte }

func (e *encoder) number(n uint64) { e.dst = binary.AppendUvarint(e.dst, n) }

func (e *encoder) signed(n int64) { e.dst = binary.AppendVarint(e.dst, n) }

func (e *encoder) flag(set bool) {
	n := byte(0)
	if set {
		n = 1
	}
	e.dst = append(e.dst, n)
}

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	e.dst = append(e.dst, s...)
}

// noTime stands for the zero time.
const noTime = math.MinInt64

func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.signed(noTime)
		return
	}
	e.signed(t.UnixMicro())
}

func encodeList[S ~string](e *encoder, list []S) {
	e.number(uint64(len(list)))
	for _, s := range list {
		e.text(string(s))
	}
}

// decoder reads from a text. Once broken it gives zero values.
type decoder struct {
	all    string
	at     int
	broken bool
}

func (d *decoder) number() uint64 {
	var n uint64
	for shift := 0; d.at < len(d.all) && shift < 64; shift += 7 {
		b := d.all[d.at]
		d.at++
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	d.broken = true
	return 0
}

func (d *decoder) signed() int64 {
	n := d.number()
	return int64(n>>1) ^ -int64(n&1)
}

func (d *decoder) flag() bool { return d.number() == 1 }

// length reads the number of parts that follow, each of at least one byte.
func (d *decoder) length() int {
	n := d.number()
	if n > uint64(len(d.all)-d.at) { //nolint:gosec // at is never beyond
		d.broken = true
		return 0
	}
	return int(n) //nolint:gosec // below the length of a text
}

func (d *decoder) text() string {
	n := d.length()
	s := d.all[d.at : d.at+n]
	d.at += n
	return s
}

func (d *decoder) time() time.Time {
	n := d.signed()
	if n == noTime || d.broken {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func decodeList[S ~string](d *decoder) []S {
	n := d.length()
	if n == 0 {
		return nil
	}
	list := make([]S, n)
	for i := range list {
		list[i] = S(d.text())
	}
	return list
}
