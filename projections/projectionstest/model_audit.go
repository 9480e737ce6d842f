package projectionstest

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
)

// Audit returns all entries that match, in the order of the query, whatever its page.
func (m *Model) Audit(q projections.AuditQuery) []projections.AuditEntry {
	var found []*projections.AuditEntry
	log := m.log()
	for i := range log {
		e := &log[i]
		ok := (q.Account == "" || e.Account == q.Account) && (q.Actor == "" || e.Actor == q.Actor) &&
			(q.Action == "" || e.Action == q.Action) && (q.Key == "" || e.Subject == string(q.Key)) &&
			(q.Command == "" || e.Command == q.Command) && (q.CommandID == "" || e.CommandID == q.CommandID) &&
			(q.RequestID == "" || e.RequestID == q.RequestID) && within(e.Clock, q.Clock) &&
			e.Seq >= q.FromSeq && (q.ToSeq == 0 || e.Seq <= q.ToSeq)
		if ok {
			found = append(found, e)
		}
	}
	if !q.OldestFirst {
		slices.Reverse(found)
	}
	return copied(found)
}

// log returns the entries of all events, oldest first.
func (m *Model) log() []projections.AuditEntry {
	if m.entries != nil {
		return m.entries
	}
	f := newFold()
	shown := map[domain.KeyID][]member{} // of the keys' present states
	var clock time.Time
	for i := range m.events {
		e := &m.events[i]
		if at := projections.Micros(e.Time); at.After(clock) {
			clock = at
		}
		action, _ := strings.CutPrefix(string(e.Type()), "keyledger.")
		action, _ = strings.CutSuffix(action, ".v1")
		entry := projections.AuditEntry{
			Seq: e.Seq, Time: projections.Micros(e.Time), Clock: clock, Account: e.Aggregate.Account, Actor: e.Actor,
			Action: projections.Action(action), Command: e.Command, Subject: e.Aggregate.ID, Void: f.add(e),
			CommandID: e.CommandID, RequestID: e.RequestID, EventID: e.ID,
		}
		if data, ok := e.Data.(domain.KeyRevoked); ok {
			entry.Reason = data.Reason
		}
		if entry.Void == "" {
			id := domain.KeyID(e.Aggregate.ID)
			after := members(f.keys[id].Key)
			entry.Changes = append(changed(shown[id], after), leak(e)...)
			shown[id] = after
		}
		m.entries = append(m.entries, entry)
	}
	return m.entries
}

// member is a member of a key as entries show it: a JSON value, nil where it is unset.
type member struct {
	name  string
	value json.RawMessage
}

// members returns what entries show of a key, in their order.
func members(k domain.Key) []member {
	k = projections.Normalize(k)
	var grants any
	if k.Grants != nil {
		grants = map[string]any{"environments": append([]domain.Environment{}, k.Grants.Environments...), "scopes": append(domain.Scopes{}, k.Grants.Scopes...)}
	}
	return []member{
		{"key_type", show(k.Type)}, {"name", show(k.Name)}, {"description", show(k.Description)}, {"environment", show(k.Environment)},
		{"scopes", show(k.Scopes)}, {"grants", show(grants)}, {"display", show(k.Display)}, {"expires_at", show(k.ExpiresAt)},
		{"allowed_ips", show(k.AllowedIPs)}, {"metadata", show(k.Metadata)}, {"rotated_from", show(k.RotatedFrom)},
		{"replaced_by", show(k.ReplacedBy)}, {"rotated_at", show(k.RotatedAt)}, {"ends_at", show(k.EndsAt)}, {"revoked_at", show(k.RevokedAt)},
		{"revoke_reason", show(k.RevokeReason)}, {"expired_at", show(k.ExpiredAt)}, {"leaked_at", show(k.LeakedAt)},
		{"notice_lead_seconds", show(int64(k.NoticeLead / time.Second))},
	}
}

func show(v any) json.RawMessage {
	if at := reflect.ValueOf(v); !at.IsValid() || at.IsZero() {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts, times, and lists of them
	}
	return text
}

// changed compares two states of a key; before is nil for a key that was not there.
func changed(before, after []member) []projections.Change {
	var list []projections.Change
	for i, m := range after {
		var was json.RawMessage
		if before != nil {
			was = before[i].value
		}
		if string(was) != string(m.value) {
			list = append(list, projections.Change{Field: m.name, Before: was, After: m.value})
		}
	}
	return list
}

// leak returns what an entry of a leak says beyond the key's own members.
func leak(e *eventstore.Event) []projections.Change {
	data, ok := e.Data.(domain.KeyLeaked)
	if !ok {
		return nil
	}
	list := []projections.Change{{Field: "leak_source", After: show(data.Source)}, {Field: "leak_location", After: show(data.Location)}}
	return slices.DeleteFunc(list, func(c projections.Change) bool { return c.After == nil })
}
