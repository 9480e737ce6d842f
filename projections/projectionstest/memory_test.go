package projectionstest_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// places are the databases of memory stores, by name.
type places struct {
	mu sync.Mutex
	of map[string]*place
}

func (p *places) make(tb testing.TB) string {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[string]*place{}
	}
	name := fmt.Sprintf("place %d", len(p.of)+1)
	p.of[name] = &place{used: map[domain.KeyID]time.Time{}, days: map[projections.KeyDay]uint64{}, runs: map[string]uint64{}}
	return name
}

func (p *places) get(name string) *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[name]
}

// place is a database in memory: one lock, and tables that are copied as a whole for
// every batch, so that nothing of one that fails is there.
type place struct {
	mu    sync.Mutex
	live  *tables
	used  map[domain.KeyID]time.Time
	days  map[projections.KeyDay]uint64
	runs  map[string]uint64
	upTo  projections.UsagePosition
	lead  *lead
	build *build
	swaps uint64
}

type tables struct {
	generation uint64
	at         projections.Checkpoint
	versions   []projections.KeyVersion
	audit      []projections.AuditEntry
	macs       map[projections.MacHash]projections.MacClaim
	voids      []projections.VoidKey
}

// store is the simplest store there is. The tests of the suite spoil it.
type store struct {
	*place
	closed bool // guarded by place.mu
}

// read calls do with the live tables.
func (s *store) read(ctx context.Context, do func(*tables) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(ctx); err != nil {
		return err
	}
	if s.live == nil {
		return projections.ErrBuilding()
	}
	return do(s.live)
}

func (s *store) open(ctx context.Context) error {
	if s.closed || ctx.Err() != nil {
		return domain.NewError(domain.KindUnavailable, projections.CodeUnavailable, "closed", "")
	}
	return nil
}

// past returns the versions that hold at a moment, in the order of their creation.
func (s *store) past(t *tables, at *projections.Moment) []projections.KeyRecord {
	var list []projections.KeyRecord
	for _, v := range t.versions {
		if at == nil && v.ToSeq == 0 || at != nil && v.Seq <= at.Seq && (v.ToSeq == 0 || v.ToSeq > at.Seq) {
			if at == nil {
				v.LastUsedAt = s.used[v.ID]
			}
			list = append(list, v.KeyRecord)
		}
	}
	slices.SortFunc(list, func(a, b projections.KeyRecord) int { return cmp.Compare(a.CreatedSeq, b.CreatedSeq) })
	return list
}

func comparePositions(a, b projections.Position) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Time, b.Time), cmp.Compare(a.Seq, b.Seq))
}

func position(r *projections.KeyRecord, by projections.SortColumn) projections.Position {
	p := projections.Position{Seq: r.CreatedSeq, Time: r.SortMicros(by)}
	if by == projections.ByName {
		p.Name = projections.FoldName(r.Name)
	}
	return p
}

func (s *store) search(p projections.KeyPlan, limit int) (found []projections.KeyRecord, stopped *projections.Position, err error) {
	list := s.past(s.live, p.At)
	slices.SortFunc(list, func(a, b projections.KeyRecord) int {
		c := comparePositions(position(&a, p.Column), position(&b, p.Column))
		if p.Descending {
			return -c
		}
		return c
	})
	looked := 0
	for i := range list {
		at := position(&list[i], p.Column)
		if p.From != nil {
			if c := comparePositions(at, *p.From); c == 0 || (c > 0) == p.Descending {
				continue
			}
		}
		if looked++; p.Matches(&list[i]) {
			if found = append(found, list[i]); len(found) == limit {
				return found, nil, nil
			}
		}
		if looked == p.Scan {
			return found, &at, nil
		}
	}
	return found, nil, nil
}

func (s *store) Keys(ctx context.Context, q projections.KeyQuery) (page projections.KeyPage, err error) {
	p, err := q.Plan()
	if err != nil {
		return page, err
	}
	err = s.read(ctx, func(*tables) error {
		found, stopped, err := s.search(p, p.PageSize+1)
		page = p.Page(found, stopped)
		return err
	})
	return page, err
}

func (s *store) CountKeys(ctx context.Context, q projections.KeyQuery) (count projections.Count, err error) {
	p, err := q.PlanCount()
	if err != nil {
		return count, err
	}
	err = s.read(ctx, func(*tables) error {
		found, stopped, err := s.search(p, 1<<30)
		count = projections.Count{Keys: len(found), AtLeast: stopped != nil}
		return err
	})
	return count, err
}

func (s *store) Key(ctx context.Context, id domain.KeyID, at *projections.Moment) (r projections.KeyRecord, err error) {
	err = s.read(ctx, func(t *tables) error {
		for _, r = range s.past(t, at) {
			if r.ID == id {
				return nil
			}
		}
		return domain.KeyNotFound()
	})
	return r, err
}

func (s *store) Audit(ctx context.Context, q projections.AuditQuery) (page projections.AuditPage, err error) {
	p, err := q.Plan()
	if err != nil {
		return page, err
	}
	err = s.read(ctx, func(t *tables) error {
		list := slices.Clone(t.audit)
		if p.Descending {
			slices.Reverse(list)
		}
		var found []projections.AuditEntry
		looked, stopped := 0, uint64(0)
		for _, e := range list {
			if e.Seq < p.FromSeq || p.ToSeq != 0 && e.Seq > p.ToSeq || p.From != 0 && (e.Seq == p.From || (e.Seq > p.From) == p.Descending) {
				continue
			}
			r := p.Clock
			if looked++; (p.Account == "" || p.Account == e.Account) && (p.Actor == "" || p.Actor == e.Actor) && (p.Action == "" || p.Action == e.Action) &&
				(p.Key == "" || string(p.Key) == e.Subject) && (p.Command == "" || p.Command == e.Command) &&
				(p.CommandID == "" || p.CommandID == e.CommandID) && (p.RequestID == "" || p.RequestID == e.RequestID) &&
				(r.From.IsZero() || !e.Clock.Before(r.From)) && (r.Before.IsZero() || e.Clock.Before(r.Before)) {
				if found = append(found, e); len(found) > p.PageSize {
					break
				}
			}
			if looked == p.Scan {
				stopped = e.Seq
				break
			}
		}
		page = p.Page(found, stopped)
		return nil
	})
	return page, err
}

func (s *store) Moment(ctx context.Context, at projections.At) (m projections.Moment, err error) {
	err = s.read(ctx, func(t *tables) error {
		if at.Time.IsZero() {
			if at.Seq > t.at.Seq {
				return projections.ErrBeyondHistory()
			}
			m = projections.Moment{Seq: at.Seq, Time: t.audit[at.Seq-1].Clock}
			return nil
		}
		m.Time = projections.Micros(at.Time)
		for _, e := range t.audit {
			if !e.Clock.After(m.Time) {
				m.Seq = e.Seq
			}
		}
		return nil
	})
	return m, err
}

func (s *store) State(ctx context.Context) (state projections.State, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(ctx); err != nil {
		return state, err
	}
	if s.live != nil {
		state.Live, state.At, state.Generation = true, s.live.at, s.live.generation
	}
	if s.place.lead != nil {
		state.Leader = "somebody"
	}
	return state, nil
}

func (s *store) Info(context.Context) (projections.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info := projections.Info{Database: "memory", SchemaVersion: 1, Place: "here", Bytes: 1}
	if s.live != nil {
		info.Keys, info.Entries = int64(len(s.past(s.live, nil))), int64(len(s.live.audit))
	}
	return info, nil
}

func (s *store) UsagePosition(ctx context.Context) (projections.UsagePosition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upTo, s.open(ctx)
}

func (s *store) MergeUsage(ctx context.Context, b projections.UsageBatch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(ctx); err != nil {
		return err
	}
	if s.upTo != b.From {
		return projections.ErrUsageMoved
	}
	s.upTo = b.To
	change := b.Fold(s.runs)
	for id, at := range change.Last {
		if at.After(s.used[id]) {
			s.used[id] = at
		}
	}
	for day, n := range change.Days {
		s.days[day] += n
	}
	maps.DeleteFunc(s.days, func(d projections.KeyDay, _ uint64) bool { return d.Day < change.Since })
	maps.Copy(s.runs, change.Runs)
	return nil
}

func (s *store) DailyUse(ctx context.Context, id domain.KeyID, from, to projections.Day) ([]projections.DayUse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	span, err := projections.Span(from, to)
	if err != nil {
		return nil, err
	}
	var found []projections.DayUse
	for _, day := range span {
		if n := s.days[projections.KeyDay{Day: day, Key: id}]; n > 0 {
			found = append(found, projections.DayUse{Day: day, Count: n})
		}
	}
	return found, s.open(ctx)
}

func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.place.lead != nil && s.place.lead.store == s {
		s.place.lead = nil
	}
	if s.place.build != nil && s.place.build.store == s {
		s.place.build = nil
	}
	return nil
}

func (s *store) Lead(ctx context.Context) (projections.Lead, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	if s.place.lead != nil {
		return nil, projections.ErrFollower()
	}
	l := &lead{}
	l.writer = writer{store: s, tables: func() **tables { return &s.live }, mine: func() bool { return s.place.lead == l }}
	s.place.lead = l
	return l, nil
}

func (s *store) Build(ctx context.Context) (projections.Build, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	if s.place.build != nil {
		return nil, projections.ErrBuildRunning()
	}
	b := &build{made: &tables{macs: map[projections.MacHash]projections.MacClaim{}}}
	b.writer = writer{store: s, tables: func() **tables { return &b.made }, mine: func() bool { return s.place.build == b }}
	s.place.build = b
	return b, nil
}
