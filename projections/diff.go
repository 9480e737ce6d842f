package projections

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// auditEntry says what an event did to a key. A void event changes nothing.
func auditEntry(e *eventstore.Event, before, after KeyRecord, void VoidReason) AuditEntry {
	entry := AuditEntry{
		Seq: e.Seq, Time: Micros(e.Time), Account: e.Aggregate.Account, Actor: e.Actor,
		Action: actionOf(e.Data.Type()), Command: e.Command, Subject: e.Aggregate.ID, Void: void,
		CommandID: e.CommandID, RequestID: e.RequestID, EventID: e.ID,
	}
	if data, ok := e.Data.(domain.KeyRevoked); ok {
		entry.Reason = data.Reason
	}
	if void != "" {
		return entry
	}
	entry.Changes = changes(&before.Key, &after.Key)
	if data, ok := e.Data.(domain.KeyLeaked); ok { // the state keeps only when
		d := differ{changes: entry.Changes}
		d.text("leak_source", "", data.Source)
		d.text("leak_location", "", data.Location)
		entry.Changes = d.changes
	}
	return entry
}

// actionOf names what happened. The names are part of the interface and do not
// follow the versions of the stored types.
func actionOf(t domain.EventType) Action {
	switch t {
	case domain.TypeKeyCreated:
		return ActionKeyCreated
	case domain.TypeKeyImported:
		return ActionKeyImported
	case domain.TypeKeyUpdated:
		return ActionKeyUpdated
	case domain.TypeKeyRotated:
		return ActionKeyRotated
	case domain.TypeKeyRevoked:
		return ActionKeyRevoked
	case domain.TypeKeyExpiring:
		return ActionKeyExpiring
	case domain.TypeKeyExpired:
		return ActionKeyExpired
	case domain.TypeKeyLeaked:
		return ActionKeyLeaked
	default:
		return Action(t)
	}
}

// changes compares two states of a key. What every entry says anyway (id, account,
// who and when, the count of events) is left out.
func changes(before, after *domain.Key) []Change {
	var d differ
	d.text("key_type", string(before.Type), string(after.Type))
	d.text("name", before.Name, after.Name)
	d.text("description", before.Description, after.Description)
	d.text("environment", string(before.Environment), string(after.Environment))
	d.scopes(before.Scopes, after.Scopes)
	d.grants(before.Grants, after.Grants)
	d.text("display", before.Display, after.Display)
	d.time("expires_at", before.ExpiresAt, after.ExpiresAt)
	d.prefixes(before.AllowedIPs, after.AllowedIPs)
	d.metadata(before.Metadata, after.Metadata)
	d.text("rotated_from", string(before.RotatedFrom), string(after.RotatedFrom))
	d.text("replaced_by", string(before.ReplacedBy), string(after.ReplacedBy))
	d.time("rotated_at", before.RotatedAt, after.RotatedAt)
	d.time("ends_at", before.EndsAt, after.EndsAt)
	d.time("revoked_at", before.RevokedAt, after.RevokedAt)
	d.text("revoke_reason", before.RevokeReason, after.RevokeReason)
	d.time("expired_at", before.ExpiredAt, after.ExpiredAt)
	d.time("leaked_at", before.LeakedAt, after.LeakedAt)
	d.seconds("notice_lead_seconds", before.NoticeLead, after.NoticeLead)
	return d.changes
}

type differ struct{ changes []Change }

func (d *differ) add(field string, before, after json.RawMessage) {
	d.changes = append(d.changes, Change{Field: field, Before: before, After: after})
}

func (d *differ) text(field, before, after string) {
	if before != after {
		d.add(field, jsonText(before), jsonText(after))
	}
}

func (d *differ) time(field string, before, after time.Time) {
	if !before.Equal(after) {
		d.add(field, jsonTime(before), jsonTime(after))
	}
}

func (d *differ) seconds(field string, before, after time.Duration) {
	if before != after {
		d.add(field, jsonSeconds(before), jsonSeconds(after))
	}
}

func (d *differ) scopes(before, after domain.Scopes) {
	if !slices.Equal(before, after) {
		d.add("scopes", jsonList(before), jsonList(after))
	}
}

func (d *differ) grants(before, after *domain.Grants) {
	same := before == after || before != nil && after != nil &&
		slices.Equal(before.Environments, after.Environments) && slices.Equal(before.Scopes, after.Scopes)
	if !same {
		d.add("grants", jsonGrants(before), jsonGrants(after))
	}
}

func (d *differ) prefixes(before, after []netip.Prefix) {
	if !slices.Equal(before, after) {
		d.add("allowed_ips", jsonValue(before, len(before) == 0), jsonValue(after, len(after) == 0))
	}
}

func (d *differ) metadata(before, after map[string]string) {
	if !maps.Equal(before, after) {
		d.add("metadata", jsonObject(before), jsonObject(after))
	}
}
