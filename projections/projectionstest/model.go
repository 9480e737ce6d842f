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

// Model answers what a [projections.Reader] answers, by folding the events up to
// the moment that is asked for. It shares no code with projector and stores but the
// meaning of a key (domain) and what [projections.Normalize] says is kept of it.
// It holds on to the present and to the last moment of the past, since tests ask
// many things about one. It is for one goroutine.
type Model struct {
	events []eventstore.Event
	used   map[domain.KeyID]time.Time

	now     []projections.KeyRecord // nil: not folded yet, or not since a use
	past    *fold
	keys    []projections.KeyRecord // of past, in the order of their creation
	entries []projections.AuditEntry
}

// NewModel makes a model of a log, whose events have seqs from 1.
func NewModel(events []eventstore.Event) *Model {
	return &Model{events: events, used: map[domain.KeyID]time.Time{}}
}

// Use notes uses, as projections.UsageWriter does with those of a report.
func (m *Model) Use(uses ...projections.KeyUse) {
	for _, u := range uses {
		if at := projections.Micros(u.At); at.After(m.used[u.Key]) {
			m.used[u.Key] = at
		}
	}
	m.now = nil
}

// Keys returns all keys that match, in the order of the query, whatever its page.
func (m *Model) Keys(q projections.KeyQuery) []projections.KeyRecord {
	if q.At != nil {
		q.Now = q.At.Time
	}
	var found []*projections.KeyRecord // records are large: sort where they are
	all := m.all(q.At)
	for i := range all {
		if matches(&all[i], q) {
			found = append(found, &all[i])
		}
	}
	slices.SortFunc(found, order(q.Sort))
	return copied(found)
}

func copied[T any](found []*T) []T {
	list := make([]T, len(found))
	for i := range found {
		list[i] = *found[i]
	}
	return list
}

// Key returns the key as it is or was, if there is or was one.
func (m *Model) Key(id domain.KeyID, at *projections.Moment) (projections.KeyRecord, bool) {
	all := m.all(at)
	for i := range all {
		if all[i].ID == id {
			return all[i], true
		}
	}
	return projections.KeyRecord{}, false
}

// Moment returns the moment that a time or a sequence of the log names.
func (m *Model) Moment(at projections.At) projections.Moment {
	if at.Time.IsZero() {
		return projections.Moment{Seq: at.Seq, Time: m.clock(at.Seq)}
	}
	moment := projections.Moment{Time: projections.Micros(at.Time)}
	log := m.log()
	for int(moment.Seq) < len(log) && !log[moment.Seq].Clock.After(moment.Time) {
		moment.Seq++
	}
	return moment
}

// clock returns the log's clock at an event, zero before the first.
func (m *Model) clock(seq uint64) time.Time {
	if seq == 0 {
		return time.Time{}
	}
	return m.log()[seq-1].Clock
}

// all returns every key as it is, with its use, or as it was at a moment, without.
func (m *Model) all(at *projections.Moment) []projections.KeyRecord {
	if at == nil {
		return m.present()
	}
	if m.past == nil || m.past.seq > at.Seq {
		m.past, m.keys = newFold(), nil
	}
	if m.keys == nil || m.past.seq < at.Seq {
		m.past.addUpTo(m.events, at.Seq)
		m.keys = m.past.all()
	}
	return m.keys
}

func (m *Model) present() []projections.KeyRecord {
	if m.now == nil {
		f := newFold()
		f.addUpTo(m.events, uint64(len(m.events)))
		m.now = f.all()
		for i := range m.now {
			m.now[i].LastUsedAt = m.used[m.now[i].ID]
		}
	}
	return m.now
}

// fold is the state after the events up to seq.
type fold struct {
	seq   uint64
	keys  map[domain.KeyID]projections.KeyRecord
	macs  map[domain.Mac]bool
	voids map[eventstore.Aggregate]projections.VoidReason
}

func newFold() *fold {
	return &fold{
		keys: map[domain.KeyID]projections.KeyRecord{}, macs: map[domain.Mac]bool{},
		voids: map[eventstore.Aggregate]projections.VoidReason{},
	}
}

func (f *fold) addUpTo(events []eventstore.Event, seq uint64) {
	for f.seq < seq {
		f.add(&events[f.seq])
	}
}

// add takes in the next event and returns why it is void, "" if it is not.
func (f *fold) add(e *eventstore.Event) projections.VoidReason {
	f.seq = e.Seq
	id := domain.KeyID(e.Aggregate.ID)
	key, exists := f.keys[id]
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
		return projections.VoidCreatedTwice
	case owns:
	case f.voids[e.Aggregate] != "":
		reason = f.voids[e.Aggregate]
	case exists:
		reason = projections.VoidKeyIDTaken
	case spec == nil:
		reason = projections.VoidNoKey
	case spec.ID != id || spec.Account != e.Aggregate.Account:
		reason = projections.VoidSubjectMismatch
	case f.macs[spec.Mac]:
		reason = projections.VoidMacTaken
	}
	if reason != "" {
		f.voids[e.Aggregate] = reason
		return reason
	}
	if spec != nil {
		f.macs[spec.Mac] = true
		key.CreatedSeq = e.Seq
	}
	data, _ := e.Data.(domain.KeyEvent)
	key.Key, key.Seq = domain.Evolve(key.Key, data), e.Seq
	f.keys[id] = key
	return ""
}

// all returns the keys as stores hold them, in the order of their creation.
func (f *fold) all() []projections.KeyRecord {
	var keys []*projections.KeyRecord
	for _, key := range f.keys {
		key.Key = projections.Normalize(key.Key)
		keys = append(keys, &key)
	}
	slices.SortFunc(keys, order(projections.SortOldest))
	return copied(keys)
}

// matches states the conditions of a query once more, in the words of its members.
func matches(r *projections.KeyRecord, q projections.KeyQuery) bool {
	now, unusedSince := projections.Micros(q.Now), projections.Micros(q.UnusedSince)
	switch {
	case q.Account != "" && r.Account != q.Account,
		q.Type != "" && r.Type != q.Type,
		q.Environment != "" && r.Environment != q.Environment,
		q.Status != "" && r.Status(now) != q.Status,
		q.Scope != "" && !r.Scopes.Cover(q.Scope),
		q.CreatedBy != "" && r.CreatedBy != q.CreatedBy,
		!within(r.CreatedAt, q.Created), !within(r.ExpiresAt, q.Expires), !within(r.LastUsedAt, q.LastUsed):
		return false
	}
	if !unusedSince.IsZero() {
		created := r.CreatedAt.Before(unusedSince)
		used := !r.LastUsedAt.IsZero() && !r.LastUsedAt.Before(unusedSince)
		if !created || used {
			return false
		}
	}
	return q.Text == "" || holdsText(r, q.Text)
}

// within reports whether there is a time and it is not before the one end and
// before the other.
func within(at time.Time, r projections.TimeRange) bool {
	from, before := projections.Micros(r.From), projections.Micros(r.Before)
	if from.IsZero() && before.IsZero() {
		return true
	}
	return !at.IsZero() && (from.IsZero() || !at.Before(from)) && (before.IsZero() || at.Before(before))
}

func holdsText(r *projections.KeyRecord, text string) bool {
	in := []string{r.Name, r.Description}
	for name, value := range r.Metadata {
		in = append(in, name, value)
	}
	return slices.ContainsFunc(in, func(s string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(text)) })
}

// order returns the comparison of an order of keys.
func order(s projections.KeySort) func(a, b *projections.KeyRecord) int {
	if s == "" {
		s = projections.SortNewest
	}
	member, down := strings.CutPrefix(string(s), "-")
	return func(a, b *projections.KeyRecord) int {
		c := 0
		switch member {
		case "name":
			c = strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
		case "expires_at":
			c = compareTimes(a.ExpiresAt, b.ExpiresAt, 1)
		case "last_used_at":
			c = compareTimes(a.LastUsedAt, b.LastUsedAt, -1)
		}
		c = cmp.Or(c, cmp.Compare(a.CreatedSeq, b.CreatedSeq))
		if down {
			return -c
		}
		return c
	}
}

// compareTimes compares times; none is after all others (1), or before them (-1).
func compareTimes(a, b time.Time, none int) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return none
	case b.IsZero():
		return -none
	default:
		return a.Compare(b)
	}
}
