package sqlite

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// The columns in the order of the arguments and scans below.
const (
	keyColumns = "from_seq, created_seq, key_id, account, key_type, environment, name, description, scopes, grants, " +
		"display, expires_at, allowed_ips, metadata, rotated_from, created_at, created_by, updated_at, imported, replaced_by, " +
		"rotated_at, ends_at, revoked_at, revoke_reason, expired_at, leaked_at, notice_lead, version"
	keyInsertColumns = keyColumns + ", to_seq, search"
	auditColumns     = "seq, time, account, actor, action, command, subject, changes, reason, void, command_id, request_id, event_id"
	macColumns       = "seq, hash, key_id"
	voidColumns      = "key_id, account, seq, reason"
)

// rows is a batch as the statements take it: the values of new rows, one row after
// the other.
type rows struct {
	from, to                 projections.Checkpoint
	ended                    []projections.EndedVersion
	keys, audit, macs, voids []any
}

func rowsOf(b *projections.Batch) *rows {
	r := &rows{
		from: b.From, to: b.To, ended: b.Ended,
		keys:  make([]any, 0, len(b.Versions)*columnsOf(keyInsertColumns)),
		audit: make([]any, 0, len(b.Audit)*columnsOf(auditColumns)),
		macs:  make([]any, 0, len(b.Macs)*columnsOf(macColumns)),
	}
	for i := range b.Versions {
		r.keys = appendKey(r.keys, &b.Versions[i])
	}
	var buf []byte
	for i := range b.Audit {
		r.audit, buf = appendAudit(r.audit, &b.Audit[i], buf)
	}
	for i := range b.Macs {
		m := &b.Macs[i]
		r.macs = append(r.macs, signed(m.Seq), m.Hash[:], string(m.Key))
	}
	for i := range b.Voids {
		v := &b.Voids[i]
		r.voids = append(r.voids, string(v.Key), string(v.Account), signed(v.Seq), string(v.Reason))
	}
	return r
}

// columnsOf counts the names in a list.
func columnsOf(list string) int { return strings.Count(list, ",") + 1 }

// appendKey appends the arguments of a row of keys.
func appendKey(args []any, v *projections.KeyVersion) []any {
	k := &v.Key
	to := int64(openEnd)
	if v.ToSeq != 0 {
		to = signed(v.ToSeq)
	}
	return append(args,
		signed(v.Seq), signed(v.CreatedSeq), string(k.ID), string(k.Account), string(k.Type), string(k.Environment),
		k.Name, k.Description, string(projections.AppendList(nil, k.Scopes)), jsonOrNull(k.Grants, k.Grants == nil),
		k.Display, micros(k.ExpiresAt), jsonOrNull(k.AllowedIPs, len(k.AllowedIPs) == 0), jsonOrNull(k.Metadata, len(k.Metadata) == 0),
		string(k.RotatedFrom), micros(k.CreatedAt), string(k.CreatedBy), micros(k.UpdatedAt), k.Imported, string(k.ReplacedBy),
		micros(k.RotatedAt), micros(k.EndsAt), micros(k.RevokedAt), k.RevokeReason, micros(k.ExpiredAt), micros(k.LeakedAt),
		k.NoticeLead.Microseconds(), signed(k.Version), to, projections.SearchText(*k))
}

// scanKey reads a row of keyColumns.
func scanKey(rows scanner) (projections.KeyRecord, error) {
	var (
		r                                        projections.KeyRecord
		k                                        = &r.Key
		scopes                                   string
		grants, ips, metadata                    sql.NullString
		expires, created, updated, rotated, ends sql.NullInt64
		revoked, expired, leaked                 sql.NullInt64
		noticeMicros                             int64
	)
	err := rows.Scan(&r.Seq, &r.CreatedSeq, &k.ID, &k.Account, &k.Type, &k.Environment,
		&k.Name, &k.Description, &scopes, &grants, &k.Display, &expires, &ips, &metadata,
		&k.RotatedFrom, &created, &k.CreatedBy, &updated, &k.Imported, &k.ReplacedBy,
		&rotated, &ends, &revoked, &k.RevokeReason, &expired, &leaked, &noticeMicros, &k.Version)
	if err != nil {
		return r, fmt.Errorf("read a row of keys: %w", err)
	}
	k.ExpiresAt, k.CreatedAt, k.UpdatedAt, k.RotatedAt = fromMicros(expires), fromMicros(created), fromMicros(updated), fromMicros(rotated)
	k.EndsAt, k.RevokedAt, k.ExpiredAt, k.LeakedAt = fromMicros(ends), fromMicros(revoked), fromMicros(expired), fromMicros(leaked)
	k.NoticeLead = time.Duration(noticeMicros) * time.Microsecond
	if k.Scopes, err = fromList(scopes); err != nil {
		return r, fmt.Errorf("read the scopes of key %s: %w", k.ID, err)
	}
	if grants.Valid {
		k.Grants = new(domain.Grants)
		if err := json.Unmarshal([]byte(grants.String), k.Grants); err != nil {
			return r, fmt.Errorf("read the grants of key %s: %w", k.ID, err)
		}
	}
	if ips.Valid {
		var list []netip.Prefix
		if err := json.Unmarshal([]byte(ips.String), &list); err != nil {
			return r, fmt.Errorf("read the addresses of key %s: %w", k.ID, err)
		}
		k.AllowedIPs = list
	}
	if metadata.Valid {
		if err := json.Unmarshal([]byte(metadata.String), &k.Metadata); err != nil {
			return r, fmt.Errorf("read the metadata of key %s: %w", k.ID, err)
		}
	}
	return r, nil
}

// appendAudit appends the arguments of a row of audit. buf is scratch space.
func appendAudit(args []any, e *projections.AuditEntry, buf []byte) ([]any, []byte) {
	buf = projections.AppendChanges(buf[:0], e.Changes)
	return append(args, signed(e.Seq), micros(e.Time), string(e.Account), string(e.Actor), string(e.Action), string(e.Command),
		e.Subject, string(buf), e.Reason, string(e.Void), e.CommandID, e.RequestID, e.EventID), buf
}

// scanAudit reads a row of auditColumns.
func scanAudit(rows scanner) (projections.AuditEntry, error) {
	var (
		e       projections.AuditEntry
		at      sql.NullInt64
		changes []byte
	)
	err := rows.Scan(&e.Seq, &at, &e.Account, &e.Actor, &e.Action, &e.Command, &e.Subject, &changes,
		&e.Reason, &e.Void, &e.CommandID, &e.RequestID, &e.EventID)
	if err != nil {
		return e, fmt.Errorf("read a row of audit: %w", err)
	}
	e.Time = fromMicros(at)
	e.Changes, err = projections.ParseChanges(changes)
	return e, err
}

// micros returns what a time is stored as.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func fromMicros(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMicro(n.Int64).UTC()
}

// jsonOrNull marshals what is rare enough for reflection.
func jsonOrNull(v any, empty bool) any {
	if empty {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // lists and maps of text
	}
	return string(text)
}

// fromList reads a JSON list of scopes. Nearly all need no unescaping, and a page
// of keys has a thousand.
func fromList(text string) (domain.Scopes, error) {
	inner, ok := strings.CutPrefix(text, `["`)
	inner, ok2 := strings.CutSuffix(inner, `"]`)
	if ok && ok2 && !strings.Contains(text, `\`) {
		parts := strings.Split(inner, `","`)
		scopes := make(domain.Scopes, len(parts))
		for i, part := range parts {
			scopes[i] = domain.Scope(part)
		}
		return scopes, nil
	}
	var scopes domain.Scopes
	if err := json.Unmarshal([]byte(text), &scopes); err != nil {
		return nil, err
	}
	if len(scopes) == 0 {
		return nil, nil
	}
	return scopes, nil
}

// signed turns a sequence into what SQLite stores. Streams end before 2^63.
func signed(seq uint64) int64 { return int64(min(seq, math.MaxInt64)) }
