package projectionstest_test

import (
	"cmp"
	"context"
	"errors"
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
	p.of[name] = &place{used: map[domain.KeyID]time.Time{}}
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

func (s *store) Use(ctx context.Context, uses []projections.KeyUse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range uses {
		if at := projections.Micros(u.At); at.After(s.used[u.Key]) {
			s.used[u.Key] = at
		}
	}
	return s.open(ctx)
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

// writer writes to one set of tables.
type writer struct {
	store  *store
	tables func() **tables
	mine   func() bool
	broken error
}

func (w *writer) get() (*tables, error) {
	if !w.mine() {
		return nil, errors.New("it is over")
	}
	if *w.tables() == nil {
		return nil, projections.ErrNoTables
	}
	return *w.tables(), nil
}

func (w *writer) Checkpoint(context.Context) (projections.Checkpoint, error) {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	t, err := w.get()
	if err != nil {
		return projections.Checkpoint{}, err
	}
	return t.at, nil
}

func (w *writer) Load(_ context.Context, l projections.Lookup) (projections.Known, error) {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	known := projections.Known{
		Keys: map[domain.KeyID]projections.KeyRecord{}, Voids: map[domain.KeyID][]projections.VoidKey{}, Macs: map[projections.MacHash]domain.KeyID{},
	}
	t, err := w.get()
	if err != nil {
		return known, err
	}
	for _, v := range t.versions {
		if v.ToSeq == 0 && slices.Contains(l.Keys, v.ID) {
			known.Keys[v.ID] = v.KeyRecord
		}
	}
	for _, v := range t.voids {
		if slices.Contains(l.Keys, v.Key) {
			known.Voids[v.Key] = append(known.Voids[v.Key], v)
		}
	}
	for _, hash := range l.Macs {
		if claim, ok := t.macs[hash]; ok {
			known.Macs[hash] = claim.Key
		}
	}
	return known, nil
}

func (w *writer) Write(_ context.Context, b projections.Batch) error {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	t, err := w.get()
	if err != nil {
		return err
	}
	if t.at != b.From {
		return projections.ErrCheckpointMoved
	}
	next, err := t.with(b)
	if err != nil {
		w.broken = err
		return err
	}
	*w.tables() = next
	return nil
}

// with returns the tables after a batch.
func (t *tables) with(b projections.Batch) (*tables, error) {
	next := &tables{generation: t.generation, at: b.To, versions: slices.Clone(t.versions), macs: map[projections.MacHash]projections.MacClaim{}}
	for hash, claim := range t.macs {
		next.macs[hash] = claim
	}
	for _, e := range b.Ended {
		i := slices.IndexFunc(next.versions, func(v projections.KeyVersion) bool { return v.Seq == e.FromSeq && v.ID == e.Key && v.ToSeq == 0 })
		if i < 0 || next.versions[i].CreatedSeq != e.CreatedSeq {
			return nil, errors.New("no such version")
		}
		next.versions[i].ToSeq = e.ToSeq
	}
	next.versions = append(next.versions, b.Versions...)
	next.audit = append(slices.Clip(t.audit), b.Audit...)
	next.voids = append(slices.Clip(t.voids), b.Voids...)
	seqs := map[uint64]int{}
	for _, v := range next.versions {
		seqs[v.Seq]++
	}
	for _, e := range next.audit {
		seqs[e.Seq] += 10
	}
	for _, n := range seqs {
		if n%10 > 1 || n > 11 {
			return nil, errors.New("twice")
		}
	}
	for i, v := range next.voids {
		if slices.ContainsFunc(next.voids[:i], func(o projections.VoidKey) bool { return o.Key == v.Key && o.Account == v.Account }) {
			return nil, errors.New("twice")
		}
	}
	for _, m := range b.Macs {
		if _, ok := next.macs[m.Hash]; ok {
			return nil, errors.New("twice")
		}
		next.macs[m.Hash] = m
	}
	return next, nil
}

type lead struct{ writer }

func (l *lead) Close(context.Context) error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if l.mine() {
		l.store.place.lead = nil
	}
	return nil
}

type build struct {
	writer
	made *tables
}

func (b *build) Complete(context.Context) error { return b.broken }

func (b *build) Swap(context.Context) error {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	s := b.store
	if b.broken != nil {
		return b.broken
	}
	if s.live != nil && s.live.at.Seq > b.made.at.Seq {
		return projections.ErrBehind
	}
	s.swaps++
	b.made.generation = s.swaps
	s.live = b.made
	s.place.build = nil
	return nil
}

func (b *build) Discard(context.Context) error {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if b.mine() {
		b.store.place.build = nil
	}
	return nil
}

func (b *build) Compare(context.Context) (projections.Comparison, error) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	return &view{live: b.store.live, build: b}, nil
}

type view struct {
	live  *tables
	build *build
}

func (v *view) At() projections.Checkpoint { return v.live.at }
func (v *view) Close() error               { return nil }

func (v *view) Differences(_ context.Context, progress func(string, int64), yield func(projections.Difference) error) error {
	progress("keys", int64(len(v.live.versions)))
	want, got := v.build.made.rows(), v.live.rows()
	names := maps.Clone(want)
	maps.Copy(names, got)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if want[name] == got[name] {
			continue
		}
		got, want := got[name], want[name]
		table, row, _ := strings.Cut(name, " ")
		column := ""
		if got != "" && want != "" {
			column = "row"
		}
		if err := yield(projections.Difference{Table: table, Row: row, Column: column, Want: want, Got: got}); err != nil {
			return err
		}
	}
	return nil
}

// rows shows every row, by table and name.
func (t *tables) rows() map[string]string {
	rows := map[string]string{}
	for _, v := range t.versions {
		rows[fmt.Sprintf("keys %s %d", v.ID, v.Seq)] = fmt.Sprintf("%+v %+v", v, v.Grants)
	}
	for _, e := range t.audit {
		rows[fmt.Sprintf("audit %d %s", e.Seq, e.Subject)] = fmt.Sprintf("%+v", e)
	}
	for _, m := range t.macs {
		rows[fmt.Sprintf("macs %x", m.Hash)] = fmt.Sprintf("%+v", m)
	}
	for _, v := range t.voids {
		rows[fmt.Sprintf("voids %s %s", v.Key, v.Account)] = fmt.Sprintf("%+v", v)
	}
	return rows
}
