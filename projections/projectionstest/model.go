package projectionstest

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
)

// Model answers what a store answers, by folding all events for every question. It
// shares no code with the projector but the meaning of a key (domain) and the
// form of an entry's changes.
type Model struct{ events []eventstore.Event }

// NewModel makes a model of a log.
func NewModel(events []eventstore.Event) *Model { return &Model{events: events} }

// Keys returns all keys that match, newest first.
func (m *Model) Keys(q projections.KeyQuery) []projections.KeyRecord {
	state, _ := m.fold()
	var found []projections.KeyRecord
	for _, r := range state {
		if matches(r, q) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b projections.KeyRecord) int { return cmp.Compare(b.CreatedSeq, a.CreatedSeq) })
	return found
}

// Key returns the key, if there is one.
func (m *Model) Key(id domain.KeyID) (projections.KeyRecord, bool) {
	state, _ := m.fold()
	r, ok := state[id]
	return r, ok
}

// Audit returns all entries that match, newest first, without their Changes and
// Reason, which tests state by hand.
func (m *Model) Audit(q projections.AuditQuery) []projections.AuditEntry {
	_, void := m.fold()
	var found []projections.AuditEntry
	for _, e := range slices.Backward(m.events) {
		ok := (q.Account == "" || e.Aggregate.Account == q.Account) && (q.Key == "" || e.Aggregate.ID == string(q.Key)) &&
			e.Seq >= q.FromSeq && (q.ToSeq == 0 || e.Seq <= q.ToSeq)
		if !ok {
			continue
		}
		action, _ := strings.CutPrefix(string(e.Type()), "keyledger.")
		action, _ = strings.CutSuffix(action, ".v1")
		found = append(found, projections.AuditEntry{
			Seq: e.Seq, Time: e.Time, Account: e.Aggregate.Account, Actor: e.Actor, Action: projections.Action(action),
			Command: e.Command, Subject: e.Aggregate.ID, Void: void[e.Seq], CommandID: e.CommandID, RequestID: e.RequestID, EventID: e.ID,
		})
	}
	return found
}

// fold returns the keys as they are, and which events are void.
func (m *Model) fold() (map[domain.KeyID]projections.KeyRecord, map[uint64]projections.VoidReason) {
	keys := map[domain.KeyID]projections.KeyRecord{}
	macs := map[domain.Mac]bool{}
	voidAggregates := map[eventstore.Aggregate]projections.VoidReason{}
	void := map[uint64]projections.VoidReason{}
	for _, e := range m.events {
		id := domain.KeyID(e.Aggregate.ID)
		key, exists := keys[id]
		owns := exists && key.Account == e.Aggregate.Account
		var spec *domain.KeySpec
		switch data := e.Data.(type) {
		case domain.KeyCreated:
			spec = &data.KeySpec
		case domain.KeyImported:
			spec = &data.KeySpec
		case domain.KeyUpdated, domain.KeyRotated, domain.KeyRevoked, domain.KeyExpiring, domain.KeyExpired, domain.KeyLeaked:
		}
		var reason projections.VoidReason
		switch {
		case owns && spec != nil:
			void[e.Seq] = projections.VoidCreatedTwice
			continue
		case owns:
		case voidAggregates[e.Aggregate] != "":
			reason = voidAggregates[e.Aggregate]
		case exists:
			reason = projections.VoidKeyIDTaken
		case spec == nil:
			reason = projections.VoidNoKey
		case spec.ID != id || spec.Account != e.Aggregate.Account:
			reason = projections.VoidSubjectMismatch
		case macs[spec.Mac]:
			reason = projections.VoidMacTaken
		}
		if reason != "" {
			voidAggregates[e.Aggregate], void[e.Seq] = reason, reason
			continue
		}
		if spec != nil {
			macs[spec.Mac] = true
			key.CreatedSeq = e.Seq
		}
		data, _ := e.Data.(domain.KeyEvent)
		key.Key, key.Seq = domain.Evolve(key.Key, data), e.Seq
		keys[id] = key
	}
	for id, key := range keys {
		key.Key = projections.Normalize(key.Key)
		keys[id] = key
	}
	return keys, void
}

func matches(r projections.KeyRecord, q projections.KeyQuery) bool {
	return (q.Account == "" || r.Account == q.Account) &&
		(q.Type == "" || r.Type == q.Type) &&
		(q.Environment == "" || r.Environment == q.Environment) &&
		(q.Status == "" || r.Status(q.Now.Truncate(time.Microsecond)) == q.Status) &&
		(q.Scope == "" || r.Scopes.Cover(q.Scope)) &&
		(q.Text == "" || holdsText(r, q.Text)) &&
		(q.ExpiringBefore.IsZero() || !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(q.ExpiringBefore.Truncate(time.Microsecond)))
}

func holdsText(r projections.KeyRecord, text string) bool {
	in := []string{r.Name, r.Description}
	for name, value := range r.Metadata {
		in = append(in, name, value)
	}
	return slices.ContainsFunc(in, func(s string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(text)) })
}
