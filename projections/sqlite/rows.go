package sqlite

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// columnsOf counts the names in a list.
func columnsOf(list string) int { return strings.Count(list, ",") + 1 }

// appendKey appends the arguments of a row of keys.
func appendKey(args []any, r *projections.KeyRecord) []any {
	k := &r.Key
	return append(args,
		signed(r.CreatedSeq), signed(r.Seq), string(k.ID), string(k.Account), string(k.Type), text(k.Environment),
		k.Name, text(k.Description), string(projections.AppendList(nil, k.Scopes)), jsonOrNull(k.Grants, k.Grants == nil),
		k.Display, micros(k.ExpiresAt), jsonOrNull(k.AllowedIPs, len(k.AllowedIPs) == 0), jsonOrNull(k.Metadata, len(k.Metadata) == 0),
		text(k.RotatedFrom), micros(k.CreatedAt), string(k.CreatedBy), micros(k.UpdatedAt), k.Imported, text(k.ReplacedBy),
		micros(k.RotatedAt), micros(k.EndsAt), micros(k.RevokedAt), text(k.RevokeReason), micros(k.ExpiredAt), micros(k.LeakedAt),
		k.NoticeLead.Microseconds(), signed(k.Version), r.SortMicros(projections.ByUse),
		projections.FoldName(k.Name), r.SortMicros(projections.ByExpiry), projections.SearchText(*k))
}

// scanKey reads a row of keyColumns.
func scanKey(v *values) (projections.KeyRecord, error) {
	var r projections.KeyRecord
	k := &r.Key
	r.CreatedSeq, r.Seq = v.seq(), v.seq()
	k.ID, k.Account, k.Type, k.Environment = domain.KeyID(v.text()), domain.AccountID(v.text()), domain.KeyType(v.text()), domain.Environment(v.text())
	k.Name, k.Description = v.text(), v.text()
	scopes, grants := v.text(), v.text()
	k.Display, k.ExpiresAt = v.text(), v.time()
	ips, metadata := v.text(), v.text()
	k.RotatedFrom, k.CreatedAt, k.CreatedBy, k.UpdatedAt = domain.KeyID(v.text()), v.time(), domain.ActorID(v.text()), v.time()
	k.Imported, k.ReplacedBy = v.integer() != 0, domain.KeyID(v.text())
	k.RotatedAt, k.EndsAt, k.RevokedAt, k.RevokeReason, k.ExpiredAt, k.LeakedAt = v.time(), v.time(), v.time(), v.text(), v.time(), v.time()
	k.NoticeLead = time.Duration(v.integer()) * time.Microsecond
	k.Version = v.seq()
	if used := v.integer(); used != 0 {
		r.LastUsedAt = time.UnixMicro(used).UTC()
	}
	if v.err != nil {
		return r, fmt.Errorf("read a row of keys: %w", v.err)
	}
	var err error
	if k.Scopes, err = fromList(scopes); err != nil {
		return r, fmt.Errorf("read the scopes of key %s: %w", k.ID, err)
	}
	for _, member := range [...]struct {
		text string
		into any
	}{{grants, &k.Grants}, {ips, &k.AllowedIPs}, {metadata, &k.Metadata}} {
		if member.text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(member.text), member.into); err != nil {
			return r, fmt.Errorf("read key %s: %w", k.ID, err)
		}
	}
	return r, nil
}

// appendVersion appends the arguments of a row of key_versions. The record is
// appended to buf, of which the argument is a part.
func appendVersion(args []any, v *projections.KeyVersion, buf []byte) ([]any, []byte) {
	from := len(buf)
	buf = appendRecord(buf, &v.KeyRecord)
	return append(args, signed(v.Seq), signed(v.CreatedSeq), buf[from:len(buf):len(buf)]), buf
}

// scanVersion reads a record.
func scanVersion(v *values) (projections.KeyRecord, error) {
	record := v.blob()
	if v.err != nil {
		return projections.KeyRecord{}, v.err
	}
	return parseRecord(record)
}

// appendAudit appends the arguments of a row of audit. buf is scratch space.
func appendAudit(args []any, e *projections.AuditEntry, buf []byte) ([]any, []byte) {
	var changes any
	if len(e.Changes) > 0 {
		buf = projections.AppendChanges(buf[:0], e.Changes)
		changes = string(buf)
	}
	return append(args, signed(e.Seq), micros(e.Time), e.Clock.UnixMicro(), string(e.Account), string(e.Actor), string(e.Action), string(e.Command),
		e.Subject, changes, text(e.Reason), text(e.Void), text(e.CommandID), text(e.RequestID), e.EventID), buf
}

// scanAudit reads a row of auditColumns.
func scanAudit(v *values) (projections.AuditEntry, error) {
	e := projections.AuditEntry{
		Seq: v.seq(), Time: v.time(), Clock: v.time(), Account: domain.AccountID(v.text()), Actor: domain.ActorID(v.text()),
		Action: projections.Action(v.text()), Command: domain.CommandName(v.text()), Subject: v.text(),
	}
	changes := v.text()
	e.Reason, e.Void = v.text(), projections.VoidReason(v.text())
	e.CommandID, e.RequestID, e.EventID = v.text(), v.text(), v.text()
	if v.err != nil {
		return e, fmt.Errorf("read a row of audit: %w", v.err)
	}
	if changes == "" {
		return e, nil
	}
	var err error
	e.Changes, err = projections.ParseChanges([]byte(changes))
	return e, err
}

// text returns what a text is stored as where the empty one is NULL.
func text[S ~string](s S) any {
	if s == "" {
		return nil
	}
	return string(s)
}

// micros returns what a time is stored as.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
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
