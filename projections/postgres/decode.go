package postgres

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// decodeKey reads what appendKey wrote in this process.
func decodeKey(row []byte) (projections.KeyRecord, error) {
	var r projections.KeyRecord
	k := &r.Key
	d := rowReader(row) // one copy, of which all texts are parts
	r.Seq, r.CreatedSeq = d.seq(), d.seq()
	k.ID, k.Account, k.Type, k.Environment = domain.KeyID(d.text()), domain.AccountID(d.text()), domain.KeyType(d.text()), domain.Environment(d.text())
	k.Name, k.Description = d.text(), d.text()
	k.Scopes = readList(d.text(), func(text string) domain.Scope { return domain.Scope(text) })
	grants := d.text()
	k.Display, k.ExpiresAt = d.text(), d.time()
	k.AllowedIPs = readList(d.text(), readPrefix)
	metadata := d.text()
	k.RotatedFrom, k.CreatedAt, k.CreatedBy, k.UpdatedAt = domain.KeyID(d.text()), d.time(), domain.ActorID(d.text()), d.time()
	k.Imported, k.ReplacedBy = d.text() == "\x01", domain.KeyID(d.text())
	k.RotatedAt, k.EndsAt, k.RevokedAt = d.time(), d.time(), d.time()
	k.RevokeReason, k.ExpiredAt, k.LeakedAt = d.text(), d.time(), d.time()
	k.NoticeLead, k.Version = time.Duration(d.seq())*time.Microsecond, d.seq() //nolint:gosec // what was put there
	if grants != "" {
		k.Grants = new(domain.Grants)
		if err := json.Unmarshal([]byte(grants), k.Grants); err != nil {
			return r, fmt.Errorf("read the grants: %w", err)
		}
	}
	if metadata != "" {
		var err error
		if k.Metadata, err = readMetadata(metadata[1:]); err != nil {
			return r, fmt.Errorf("read the metadata: %w", err)
		}
	}
	return r, nil
}

// rowReader takes values off the front of a row.
type rowReader string

// text reads a value as it is, "" for NULL.
func (d *rowReader) text() string {
	n := int32(bigEndian32(string(*d))) //nolint:gosec // the bits
	if n < 0 {
		*d = (*d)[4:]
		return ""
	}
	value := string((*d)[4 : 4+n])
	*d = (*d)[4+n:]
	return value
}

func (d *rowReader) seq() uint64 { return bigEndian64(d.text()) }

func (d *rowReader) time() time.Time {
	value := d.text()
	if value == "" {
		return time.Time{}
	}
	return time.UnixMicro(int64(bigEndian64(value)) + epoch).UTC() //nolint:gosec // the bits
}

func bigEndian32(s string) uint32 { return binary.BigEndian.Uint32([]byte(s[:4])) }

func bigEndian64(s string) uint64 { return binary.BigEndian.Uint64([]byte(s[:8])) }

// readList reads what putList wrote.
func readList[T any](list string, read func(string) T) []T {
	const header = 12 // dimensions, flags, the type of the values
	if len(list) <= header {
		return nil
	}
	values := make([]T, bigEndian32(list[header:]))
	d := rowReader(list[header+8:])
	for i := range values {
		values[i] = read(d.text())
	}
	return values
}

// readPrefix reads what putPrefix wrote.
func readPrefix(value string) netip.Prefix {
	address, _ := netip.AddrFromSlice([]byte(value[4:]))
	return netip.PrefixFrom(address, int(value[1]))
}

// readMetadata reads a JSON object of texts that has no white space. Nearly all need
// no unescaping.
func readMetadata(text string) (map[string]string, error) {
	var metadata map[string]string
	if strings.Contains(text, `\`) {
		err := json.Unmarshal([]byte(text), &metadata)
		return metadata, err
	}
	parts := strings.Split(text, `"`) // { name : value , name : value }
	metadata = make(map[string]string, len(parts)/4)
	for i := 1; i+2 < len(parts); i += 4 {
		metadata[parts[i]] = parts[i+2]
	}
	return metadata, nil
}
