package projectionstest

import (
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// questions draws what some of a history may match.
type questions struct {
	t *rapid.T
	m *Model
}

func (d questions) maybe(label string) bool { return rapid.IntRange(0, 3).Draw(d.t, label) == 0 }

// words draws the texts of a history.
func (d questions) words() *history { return &history{t: d.t, now: d.time("deadline")} }

// time draws an instant: any around the history, or one that matters to some key,
// or just before or after it.
func (d questions) time(label string) time.Time {
	end := Start()
	if entries := d.m.log(); len(entries) > 0 {
		end = entries[len(entries)-1].Clock
	}
	hours := int(end.Sub(Start())/time.Hour) + 60
	at := Start().Add(time.Duration(rapid.IntRange(-1, hours).Draw(d.t, label+": hour")) * time.Hour)
	if keys := d.m.all(nil); len(keys) > 0 && rapid.IntRange(0, 2).Draw(d.t, label+": of a key") > 0 {
		k := keys[rapid.IntRange(0, len(keys)-1).Draw(d.t, label+": key")]
		if of := rapid.SampledFrom([]time.Time{k.CreatedAt, k.ExpiresAt, k.ExpiresAt, k.EndsAt, k.RevokedAt, k.LastUsedAt}).Draw(d.t, label); !of.IsZero() {
			at = of.Add(time.Duration(rapid.IntRange(-1, 1).Draw(d.t, label+": microseconds")) * time.Microsecond)
		}
	}
	return at.Add(time.Duration(rapid.IntRange(0, 3).Draw(d.t, label+": nanoseconds")) * time.Nanosecond)
}

func (d questions) timeRange(label string) (r projections.TimeRange) {
	if rapid.Bool().Draw(d.t, label+" from") {
		r.From = d.time(label)
	}
	if rapid.Bool().Draw(d.t, label+" before") {
		r.Before = d.time(label)
	}
	return r
}

// at draws what names a moment of the history.
func (d questions) at() projections.At {
	n := len(d.m.events)
	if n == 0 || rapid.Bool().Draw(d.t, "by time") {
		return projections.At{Time: d.time("at")}
	}
	return projections.At{Seq: uint64(rapid.IntRange(1, n).Draw(d.t, "at seq"))}
}

// keys draws a query of keys as they are, or as they were at a moment.
func (d questions) keys(at *projections.Moment) projections.KeyQuery {
	h := d.words()
	q := projections.KeyQuery{At: at, Sort: rapid.SampledFrom(append(projections.KeySorts(), "")).Draw(d.t, "sort")}
	if at != nil {
		q.Sort = rapid.SampledFrom([]projections.KeySort{"", projections.SortNewest, projections.SortOldest}).Draw(d.t, "sort")
	} else {
		q.Now = d.time("now")
	}
	if d.maybe("by account") {
		q.Account = h.account()
	}
	if d.maybe("by type") {
		q.Type = rapid.SampledFrom([]domain.KeyType{domain.KeyTypeAPI, domain.KeyTypeManagement}).Draw(d.t, "type")
	}
	if d.maybe("by environment") {
		q.Environment = rapid.SampledFrom([]domain.Environment{domain.EnvironmentLive, domain.EnvironmentTest}).Draw(d.t, "environment")
	}
	if d.maybe("by status") {
		q.Status = rapid.SampledFrom([]domain.Status{domain.StatusActive, domain.StatusRevoked, domain.StatusExpired}).Draw(d.t, "status")
	}
	if d.maybe("by scope") {
		q.Scope = rapid.SampledFrom([]domain.Scope{
			"invoices:read", "invoices:*", "*", "clients:write", "clients", domain.ScopeKeysRead, "keyledger.keys:write", `odd":"scope`, "",
		}).Draw(d.t, "scope")
	}
	if d.maybe("by text") {
		q.Text = rapid.SampledFrom([]string{h.text("text"), "ILL", "\\", "und", "\n", "I", "ß", "%%", "_s"}).Draw(d.t, "text or part")
	}
	if d.maybe("by creator") {
		q.CreatedBy = h.actor()
	}
	if d.maybe("by creation") {
		q.Created = d.timeRange("created")
	}
	if d.maybe("by expiry") {
		q.Expires = d.timeRange("expires")
	}
	if at == nil && d.maybe("by use") {
		q.LastUsed = d.timeRange("used")
	}
	if at == nil && d.maybe("unused") {
		q.UnusedSince = d.time("unused since")
	}
	return q
}

// audit draws a query of the audit log.
func (d questions) audit() projections.AuditQuery {
	h := d.words()
	q := projections.AuditQuery{OldestFirst: rapid.Bool().Draw(d.t, "oldest first")}
	entries := d.m.log()
	if len(entries) == 0 {
		return q
	}
	some := entries[rapid.IntRange(0, len(entries)-1).Draw(d.t, "entry")]
	if d.maybe("by account") {
		q.Account = h.account()
	}
	if d.maybe("by actor") {
		q.Actor = h.actor()
	}
	if d.maybe("by action") {
		q.Action = rapid.SampledFrom(projections.Actions()).Draw(d.t, "action")
	}
	if d.maybe("by key") {
		q.Key = domain.KeyID(some.Subject)
	}
	if d.maybe("by command") {
		q.Command = h.command()
	}
	if d.maybe("by command id") {
		q.CommandID = some.CommandID
	}
	if d.maybe("by request") {
		q.RequestID = some.RequestID
	}
	if d.maybe("by clock") {
		q.Clock = d.timeRange("clock")
	}
	if d.maybe("from seq") {
		q.FromSeq = uint64(rapid.IntRange(0, len(entries)+1).Draw(d.t, "from seq"))
	}
	if d.maybe("to seq") {
		q.ToSeq = uint64(rapid.IntRange(0, len(entries)+1).Draw(d.t, "to seq"))
	}
	return q
}

// uses draws uses of keys, of some twice, and of keys that are not known.
func (d questions) uses() []projections.KeyUse {
	uses := make([]projections.KeyUse, rapid.IntRange(0, 20).Draw(d.t, "uses"))
	for i := range uses {
		uses[i] = projections.KeyUse{Key: keyID(rapid.IntRange(0, 30).Draw(d.t, "used")), At: d.time("use")}
	}
	return uses
}
