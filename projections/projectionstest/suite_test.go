package projectionstest_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// suite returns the suite of memory stores, spoilt by wrap.
func suite(wrap func(*store) projectionstest.Store) projectionstest.Suite {
	all := &places{}
	tamper := func(do func(*tables)) func(testing.TB, string) {
		return func(_ testing.TB, name string) {
			p := all.get(name)
			p.mu.Lock()
			defer p.mu.Unlock()
			do(p.live)
		}
	}
	return projectionstest.Suite{
		NewPlace: all.make, Shared: true,
		Open: func(_ testing.TB, name string) projectionstest.Store { return wrap(&store{place: all.get(name)}) },
		Tampers: []projectionstest.Tamper{
			{Name: "edited key", Table: "keys", Column: "row", Row: "key_0000000000000005", Do: tamper(func(t *tables) { t.versions[5].Name = "tampered" })},
			{Name: "lost entry", Table: "audit", Row: "13", Do: tamper(func(t *tables) { t.audit = t.audit[:12] })},
			{Name: "lost void", Table: "voids", Row: "default", Do: tamper(func(t *tables) { t.voids = nil })},
		},
	}
}

// spoilEnv names the fault of the stores in a run of this test's binary.
const spoilEnv = "KEYLEDGER_TEST_SPOILT_STORE"

// TestSuite runs the suite on memory stores, which pass, or on spoilt ones if the
// environment says so.
func TestSuite(t *testing.T) {
	spoil := func(s *store) projectionstest.Store { return s }
	if name := os.Getenv(spoilEnv); name != "" {
		spoil = faults()[name].spoil
	}
	projectionstest.Run(t, suite(spoil))
}

func TestLong(t *testing.T) {
	h := projectionstest.LongHistory{Events: 2000, Seed: 4, Moments: 8}
	right := func(s *store) projectionstest.Store { return s }
	one, two := projectionstest.RunLong(t, suite(right), h), projectionstest.RunLong(t, suite(right), h)
	if one != two {
		t.Errorf("the same answers come to %s and %s", one, two)
	}
}

// TestSuiteFindsFaults runs the suite on stores that each have one fault: the case
// named must fail.
func TestSuiteFindsFaults(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range faults() {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestSuite$/^"+f.found+"$", "-test.timeout=60s", "-rapid.nofailfile", "-rapid.shrinktime=0s")
			cmd.Env = append(os.Environ(), spoilEnv+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestSuite/"+f.found) {
				t.Errorf("%s does not find the fault: %v\n%.2000s", f.found, err, out)
			}
		})
	}
}

// fault is what a store does wrong, and the case of the suite that finds it.
type fault struct {
	found string
	spoil func(*store) projectionstest.Store
}

func faults() map[string]fault {
	all := map[string]fault{
		"key ignores the moment": {"Moments", func(s *store) projectionstest.Store { return &spoilt{store: s, noMoment: true} }},
		"first use wins":         {"Usage", func(s *store) projectionstest.Store { return &spoilt{store: s, firstUse: true} }},
		"reports count twice":    {"UsageOnce", func(s *store) projectionstest.Store { return &spoilt{store: s, oftenUsed: true} }},
		"any batch is merged":    {"UsageOnce", func(s *store) projectionstest.Store { return &spoilt{store: s, anyUse: true} }},
		"moments are exclusive":  {"Moments", func(s *store) projectionstest.Store { return &spoilt{store: s, earlier: true} }},
		"pages lose their last":  {"Orders", func(s *store) projectionstest.Store { return &spoilt{store: s, lossy: true} }},
	}
	for name, spoil := range map[string]func(*projections.KeyQuery){
		"account": func(q *projections.KeyQuery) { q.Account = "" }, "type": func(q *projections.KeyQuery) { q.Type = "" },
		"environment": func(q *projections.KeyQuery) { q.Environment = "" }, "status": func(q *projections.KeyQuery) { q.Status = "" },
		"scope": func(q *projections.KeyQuery) { q.Scope = "" }, "text": func(q *projections.KeyQuery) { q.Text = "" },
		"creator": func(q *projections.KeyQuery) { q.CreatedBy = "" }, "creation": func(q *projections.KeyQuery) { q.Created = projections.TimeRange{} },
		"expiry": func(q *projections.KeyQuery) { q.Expires = projections.TimeRange{} }, "use": func(q *projections.KeyQuery) { q.LastUsed = projections.TimeRange{} },
		"unused": func(q *projections.KeyQuery) { q.UnusedSince = time.Time{} }, "order": func(q *projections.KeyQuery) { q.Sort = "" },
	} {
		all["keys ignore "+name] = fault{"Model", func(s *store) projectionstest.Store { return &spoilt{store: s, keys: spoil} }}
		if name != "order" {
			all["count ignores "+name] = fault{"Model", func(s *store) projectionstest.Store { return &spoilt{store: s, count: spoil} }}
		}
	}
	for name, spoil := range map[string]func(*projections.AuditQuery){
		"account": func(q *projections.AuditQuery) { q.Account = "" }, "actor": func(q *projections.AuditQuery) { q.Actor = "" },
		"action": func(q *projections.AuditQuery) { q.Action = "" }, "key": func(q *projections.AuditQuery) { q.Key = "" },
		"command": func(q *projections.AuditQuery) { q.Command = "" }, "command id": func(q *projections.AuditQuery) { q.CommandID = "" },
		"request": func(q *projections.AuditQuery) { q.RequestID = "" }, "clock": func(q *projections.AuditQuery) { q.Clock = projections.TimeRange{} },
		"first seq": func(q *projections.AuditQuery) { q.FromSeq = 0 }, "last seq": func(q *projections.AuditQuery) { q.ToSeq = 0 },
		"order": func(q *projections.AuditQuery) { q.OldestFirst = false },
	} {
		all["audit ignores "+name] = fault{"Model", func(s *store) projectionstest.Store { return &spoilt{store: s, audit: spoil} }}
	}
	for name, f := range map[string]struct {
		found string
		swap  func(*build, context.Context) error
	}{
		"swap goes back":       {"SwapBehind", func(b *build, ctx context.Context) error { b.store.live = nil; return b.Swap(ctx) }},
		"swap loses uses":      {"UsageOverSwaps", func(b *build, ctx context.Context) error { b.forgetUses(); return b.Swap(ctx) }},
		"swap shows half":      {"SwapsUnderReaders", func(b *build, ctx context.Context) error { b.showHalf(); return b.Swap(ctx) }},
		"swap shows none":      {"SwapsUnderReaders", func(b *build, ctx context.Context) error { b.showNone(); return b.Swap(ctx) }},
		"swap takes the lead":  {"OldLead", func(b *build, ctx context.Context) error { err := b.Swap(ctx); b.store.place.lead = nil; return err }},
		"swap does nothing":    {"BuildIsNotSeen", func(*build, context.Context) error { return nil }},
		"swap of broken build": {"BrokenBuild", func(b *build, ctx context.Context) error { b.broken = nil; return b.Swap(ctx) }},
	} {
		all[name] = fault{f.found, func(s *store) projectionstest.Store { return &spoilt{store: s, swap: f.swap} }}
	}
	all["build is seen"] = fault{"BuildIsNotSeen", func(s *store) projectionstest.Store { return &spoilt{store: s, seen: true} }}
	all["check overlooks voids"] = fault{"Tampers", func(s *store) projectionstest.Store { return &spoilt{store: s, blind: "voids"} }}
	all["check sees too much"] = fault{"CheckIsClean", func(s *store) projectionstest.Store { return &spoilt{store: s, dreams: true} }}
	all["batches are taken from anywhere"] = fault{"WrongCheckpoint", func(s *store) projectionstest.Store { return &spoilt{store: s, anywhere: true} }}
	all["lead overlooks a swap"] = fault{"OldLead", func(s *store) projectionstest.Store { return &spoilt{store: s, unaware: true} }}
	all["many leads"] = fault{"OneLead", func(s *store) projectionstest.Store { return &spoilt{store: s, many: true} }}
	all["many builds"] = fault{"OneBuild", func(s *store) projectionstest.Store { return &spoilt{store: s, many: true} }}
	return all
}

// spoilt is a store with a fault.
type spoilt struct {
	*store
	keys, count                        func(*projections.KeyQuery)
	audit                              func(*projections.AuditQuery)
	swap                               func(*build, context.Context) error
	noMoment, firstUse, earlier, lossy bool
	seen, dreams, anywhere, many       bool
	unaware, oftenUsed, anyUse         bool
	blind                              string
}

func (s *spoilt) Keys(ctx context.Context, q projections.KeyQuery) (projections.KeyPage, error) {
	if s.keys != nil {
		s.keys(&q)
	}
	page, err := s.store.Keys(ctx, q)
	if s.lossy && page.Next != "" && len(page.Keys) > 1 {
		page.Keys = page.Keys[:len(page.Keys)-1]
	}
	return page, err
}

func (s *spoilt) CountKeys(ctx context.Context, q projections.KeyQuery) (projections.Count, error) {
	if s.count != nil {
		s.count(&q)
	}
	return s.store.CountKeys(ctx, q)
}

func (s *spoilt) Key(ctx context.Context, id domain.KeyID, at *projections.Moment) (projections.KeyRecord, error) {
	if s.noMoment {
		at = nil
	}
	return s.store.Key(ctx, id, at)
}

func (s *spoilt) Audit(ctx context.Context, q projections.AuditQuery) (projections.AuditPage, error) {
	if s.audit != nil {
		s.audit(&q)
	}
	return s.store.Audit(ctx, q)
}

func (s *spoilt) Moment(ctx context.Context, at projections.At) (projections.Moment, error) {
	if !s.earlier || at.Time.IsZero() {
		return s.store.Moment(ctx, at)
	}
	m, err := s.store.Moment(ctx, projections.At{Time: at.Time.Add(-time.Microsecond)})
	m.Time = projections.Micros(at.Time)
	return m, err
}

func (s *spoilt) MergeUsage(ctx context.Context, b projections.UsageBatch) error {
	s.mu.Lock()
	for _, report := range b.Reports {
		for _, u := range report.Uses {
			if at := s.used[u.Key]; s.firstUse && u.At.Before(at) {
				delete(s.used, u.Key)
			}
		}
	}
	if s.oftenUsed {
		clear(s.runs)
	}
	if s.anyUse {
		b.From = s.upTo
	}
	s.mu.Unlock()
	return s.store.MergeUsage(ctx, b)
}

func (s *spoilt) Lead(ctx context.Context) (projections.Lead, error) {
	if s.many {
		s.mu.Lock()
		s.place.lead = nil
		s.mu.Unlock()
	}
	l, err := s.store.Lead(ctx)
	if s.anywhere && err == nil {
		return &anywhere{l}, nil
	}
	if s.unaware && err == nil {
		return &unaware{l}, nil
	}
	return l, err
}

// anywhere takes batches wherever they begin.
type anywhere struct{ projections.Lead }

func (a *anywhere) Write(ctx context.Context, b projections.Batch) error {
	b.From, _ = a.Checkpoint(ctx)
	return a.Lead.Write(ctx, b)
}

// unaware takes other tables at the same event for those that it knows.
type unaware struct{ projections.Lead }

func (u *unaware) Load(ctx context.Context, l projections.Lookup) (projections.Known, error) {
	_, _ = u.Checkpoint(ctx)
	return u.Lead.Load(ctx, l)
}

func (u *unaware) Write(ctx context.Context, b projections.Batch) error {
	_, _ = u.Checkpoint(ctx)
	return u.Lead.Write(ctx, b)
}

func (s *spoilt) Build(ctx context.Context) (projections.Build, error) {
	if s.many {
		s.mu.Lock()
		s.place.build = nil
		s.mu.Unlock()
	}
	made, err := s.store.Build(ctx)
	if err != nil {
		return nil, err
	}
	b, _ := made.(*build)
	return &spoiltBuild{build: b, by: s}, nil
}

type spoiltBuild struct {
	*build
	by *spoilt
}

func (b *spoiltBuild) Swap(ctx context.Context) error {
	if b.by.swap == nil {
		return b.build.Swap(ctx)
	}
	return b.by.swap(b.build, ctx)
}

func (b *spoiltBuild) Complete(ctx context.Context) error {
	if b.by.seen {
		b.store.mu.Lock()
		b.store.live = b.made
		b.store.mu.Unlock()
	}
	if b.by.swap != nil {
		return nil
	}
	return b.build.Complete(ctx)
}

func (b *spoiltBuild) Compare(ctx context.Context) (projections.Comparison, error) {
	c, err := b.build.Compare(ctx)
	return &spoiltView{c, b.by}, err
}

type spoiltView struct {
	projections.Comparison
	by *spoilt
}

func (v *spoiltView) Differences(ctx context.Context, progress func(string, int64), yield func(projections.Difference) error) error {
	if v.by.dreams {
		if err := yield(projections.Difference{Table: "keys", Row: "none", Got: "a dream"}); err != nil {
			return err
		}
	}
	return v.Comparison.Differences(ctx, progress, func(d projections.Difference) error {
		if d.Table == v.by.blind {
			return nil
		}
		return yield(d)
	})
}

func (b *build) forgetUses() {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	clear(b.store.used)
}

// showHalf shows readers the half of the build for a while.
func (b *build) showHalf() {
	b.store.mu.Lock()
	half := *b.made
	half.versions = half.versions[:len(half.versions)/2]
	b.store.live = &half
	b.store.mu.Unlock()
	<-time.After(5 * time.Millisecond)
}

// showNone shows readers no tables for a while.
func (b *build) showNone() {
	b.store.mu.Lock()
	b.store.live = nil
	b.store.mu.Unlock()
	<-time.After(5 * time.Millisecond)
}
