package postgres

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// column is a column of keys and key_versions.
type column struct {
	name, sql string
	oid       uint32
}

// keyColumns are the columns that both tables of keys have, in the order in which
// rows are encoded and scanned. search is projections.SearchText, which only queries read.
var keyColumns = [...]column{ //nolint:gochecknoglobals // a constant
	{"from_seq", "bigint NOT NULL", pgtype.Int8OID}, {"created_seq", "bigint NOT NULL", pgtype.Int8OID},
	{"key_id", "TEXT NOT NULL", pgtype.TextOID}, {"account", "TEXT NOT NULL", pgtype.TextOID},
	{"key_type", "TEXT NOT NULL", pgtype.TextOID}, {"environment", "TEXT NOT NULL", pgtype.TextOID},
	{"name", "TEXT NOT NULL", pgtype.TextOID}, {"description", "TEXT NOT NULL", pgtype.TextOID},
	{"scopes", "text[] NOT NULL", pgtype.TextArrayOID}, {"grants", "json", pgtype.JSONOID},
	{"display", "TEXT NOT NULL", pgtype.TextOID}, {"expires_at", "timestamptz", pgtype.TimestamptzOID},
	{"allowed_ips", "cidr[]", pgtype.CIDRArrayOID}, {"metadata", "jsonb", pgtype.JSONBOID},
	{"rotated_from", "TEXT NOT NULL", pgtype.TextOID}, {"created_at", "timestamptz", pgtype.TimestamptzOID},
	{"created_by", "TEXT NOT NULL", pgtype.TextOID}, {"updated_at", "timestamptz", pgtype.TimestamptzOID},
	{"imported", "boolean NOT NULL", pgtype.BoolOID}, {"replaced_by", "TEXT NOT NULL", pgtype.TextOID},
	{"rotated_at", "timestamptz", pgtype.TimestamptzOID}, {"ends_at", "timestamptz", pgtype.TimestamptzOID},
	{"revoked_at", "timestamptz", pgtype.TimestamptzOID}, {"revoke_reason", "TEXT NOT NULL", pgtype.TextOID},
	{"expired_at", "timestamptz", pgtype.TimestamptzOID}, {"leaked_at", "timestamptz", pgtype.TimestamptzOID},
	{"notice_lead", "bigint NOT NULL", pgtype.Int8OID}, {"version", "bigint NOT NULL", pgtype.Int8OID},
	{"search", "TEXT NOT NULL", pgtype.TextOID},
}

// scanned is how many of them are read back: all but search.
const scanned = len(keyColumns) - 1

const (
	auditNames = "seq, time, clock, account, actor, action, command, subject, changes, reason, void, command_id, request_id, event_id"
	macNames   = "hash, key_id, seq"
	voidNames  = "key_id, account, seq, reason"
)

// keyNames lists the columns of keys, each after the prefix.
func keyNames(prefix string) string { return nameList(prefix, len(keyColumns)) }

// selectNames lists those that are read back.
func selectNames() string { return nameList("", scanned) }

func nameList(prefix string, n int) string {
	names := make([]string, n)
	for i, c := range keyColumns[:n] {
		names[i] = prefix + c.name
	}
	return strings.Join(names, ", ")
}

// keyRow is what a row of keys is scanned into.
type keyRow struct {
	r                                                                  projections.KeyRecord
	scopes                                                             []string
	grants, metadata                                                   []byte
	ips                                                                []netip.Prefix
	expires, created, updated, rotated, ends, revoked, expired, leaked pgtype.Timestamptz
	used                                                               pgtype.Timestamptz
	notice                                                             int64
}

// targets are in the order of keyColumns, without search.
func (k *keyRow) targets() []any {
	r := &k.r
	return []any{
		&r.Seq, &r.CreatedSeq, (*string)(&r.ID), (*string)(&r.Account), (*string)(&r.Type), (*string)(&r.Environment), &r.Name, &r.Description,
		&k.scopes, &k.grants, &r.Display, &k.expires, &k.ips, &k.metadata, (*string)(&r.RotatedFrom), &k.created, (*string)(&r.CreatedBy),
		&k.updated, &r.Imported, (*string)(&r.ReplacedBy), &k.rotated, &k.ends, &k.revoked, &r.RevokeReason, &k.expired, &k.leaked, &k.notice, &r.Version,
	}
}

// record returns what was scanned.
func (k *keyRow) record() (projections.KeyRecord, error) {
	r := k.r
	r.ExpiresAt, r.CreatedAt, r.UpdatedAt, r.RotatedAt = timeOf(k.expires), timeOf(k.created), timeOf(k.updated), timeOf(k.rotated)
	r.EndsAt, r.RevokedAt, r.ExpiredAt, r.LeakedAt = timeOf(k.ends), timeOf(k.revoked), timeOf(k.expired), timeOf(k.leaked)
	r.LastUsedAt = timeOf(k.used)
	r.NoticeLead = time.Duration(k.notice) * time.Microsecond
	if len(k.scopes) > 0 {
		r.Scopes = make(domain.Scopes, len(k.scopes))
		for i, scope := range k.scopes {
			r.Scopes[i] = domain.Scope(scope)
		}
	}
	if len(k.ips) > 0 {
		r.AllowedIPs = k.ips
	}
	if k.grants != nil {
		r.Grants = new(domain.Grants)
		if err := json.Unmarshal(k.grants, r.Grants); err != nil {
			return r, fmt.Errorf("read the grants of key %s: %w", r.ID, err)
		}
	}
	if k.metadata != nil {
		if err := json.Unmarshal(k.metadata, &r.Metadata); err != nil {
			return r, fmt.Errorf("read the metadata of key %s: %w", r.ID, err)
		}
	}
	return r, nil
}

func timeOf(t pgtype.Timestamptz) time.Time {
	if !t.Valid || t.InfinityModifier != pgtype.Finite {
		return time.Time{}
	}
	return projections.Micros(t.Time)
}

// scanKey reads a row of selectNames, and last_used_at after it where used says so.
func scanKey(row pgx.Row, used bool) (projections.KeyRecord, error) {
	var k keyRow
	targets := k.targets()
	if used {
		targets = append(targets, &k.used)
	}
	if err := row.Scan(targets...); err != nil {
		return projections.KeyRecord{}, err
	}
	return k.record()
}

// scanAudit reads a row of auditNames.
func scanAudit(row pgx.Row) (projections.AuditEntry, error) {
	var e projections.AuditEntry
	var at, clock pgtype.Timestamptz
	var changes []byte
	err := row.Scan(&e.Seq, &at, &clock, (*string)(&e.Account), (*string)(&e.Actor), (*string)(&e.Action), (*string)(&e.Command), &e.Subject,
		&changes, &e.Reason, (*string)(&e.Void), &e.CommandID, &e.RequestID, &e.EventID)
	if err != nil {
		return e, err
	}
	e.Time, e.Clock = timeOf(at), timeOf(clock)
	e.Changes, err = projections.ParseChanges(changes)
	return e, err
}
