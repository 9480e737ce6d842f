package projections_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// fakeStore is a read store in memory, for what the projector does when a store
// fails, swaps or changes hands. It is as strict about checkpoints as the contract.
type fakeStore struct {
	// fault is asked before each call, by its name ("lead.write"), and after it
	// ("lead.write-done"); the call fails with what it returns.
	fault func(call string) error
	// at runs after a call, by its name, with no lock held.
	at func(call string)

	mu         sync.Mutex
	live       *fakeTables
	leading    *fakeLead
	building   bool
	generation uint64
}

type fakeTables struct {
	at    projections.Checkpoint
	keys  map[domain.KeyID]projections.KeyRecord
	voids map[domain.KeyID][]projections.VoidKey
	macs  map[projections.MacHash]domain.KeyID
	audit []projections.AuditEntry
}

func newTables() *fakeTables {
	return &fakeTables{
		keys: map[domain.KeyID]projections.KeyRecord{}, voids: map[domain.KeyID][]projections.VoidKey{},
		macs: map[projections.MacHash]domain.KeyID{},
	}
}

func (t *fakeTables) clone() *fakeTables {
	return &fakeTables{at: t.at, keys: maps.Clone(t.keys), voids: maps.Clone(t.voids), macs: maps.Clone(t.macs), audit: slices.Clone(t.audit)}
}

func (t *fakeTables) load(l projections.Lookup) projections.Known {
	k := projections.Known{
		Keys: map[domain.KeyID]projections.KeyRecord{}, Voids: map[domain.KeyID][]projections.VoidKey{}, Macs: map[projections.MacHash]domain.KeyID{},
	}
	for _, id := range l.Keys {
		if r, ok := t.keys[id]; ok {
			k.Keys[id] = r
		}
		if v := t.voids[id]; v != nil {
			k.Voids[id] = v
		}
	}
	for _, mac := range l.Macs {
		if id, ok := t.macs[mac]; ok {
			k.Macs[mac] = id
		}
	}
	return k
}

func (t *fakeTables) write(b projections.Batch) error {
	if t.at != b.From {
		return fmt.Errorf("write after %d: %w", b.From.Seq, projections.ErrCheckpointMoved)
	}
	for _, v := range b.Versions {
		if v.ToSeq == 0 {
			t.keys[v.ID] = v.KeyRecord
		}
	}
	for _, v := range b.Voids {
		t.voids[v.Key] = append(slices.Clip(t.voids[v.Key]), v)
	}
	for _, m := range b.Macs {
		t.macs[m.Hash] = m.Key
	}
	t.audit = append(t.audit, b.Audit...)
	t.at = b.To
	return nil
}

func errAway() error {
	return domain.NewError(domain.KindUnavailable, projections.CodeUnavailable, "the database is away", "")
}

// call does something with the lock held, with the faults asked for.
func (s *fakeStore) call(name string, do func() error) error {
	if s.fault != nil {
		if err := s.fault(name); err != nil {
			return err
		}
	}
	s.mu.Lock()
	err := do()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if s.at != nil {
		s.at(name)
	}
	if s.fault != nil {
		return s.fault(name + "-done")
	}
	return nil
}

func (s *fakeStore) State(context.Context) (state projections.State, err error) {
	err = s.call("state", func() error {
		state.Generation = s.generation
		if s.live != nil {
			state.Live, state.At = true, s.live.at
		}
		if s.leading != nil {
			state.Leader = "the leader"
		}
		return nil
	})
	return state, err
}

// edit changes a row of the live tables by hand.
func (s *fakeStore) edit(id domain.KeyID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.live.keys[id]
	r.Name = name
	s.live.keys[id] = r
}

func (s *fakeStore) key(id domain.KeyID) projections.KeyRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live.keys[id]
}

func (s *fakeStore) tables() *fakeTables {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		return nil
	}
	return s.live.clone()
}

// depose takes the lead from who has it, as when the connection breaks.
func (s *fakeStore) depose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leading = nil
}

// fakeLead writes to the live tables that it found at its first call.
type fakeLead struct {
	store  *fakeStore
	tables *fakeTables
}

func (s *fakeStore) Lead(context.Context) (projections.Lead, error) {
	l := &fakeLead{store: s}
	err := s.call("lead", func() error {
		if s.leading != nil {
			return projections.ErrFollower()
		}
		s.leading = l
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, l.Close(context.Background()))
	}
	return l, nil
}

func (l *fakeLead) do(name string, do func() error) error {
	return l.store.call("lead."+name, func() error {
		if l.store.leading != l {
			return errAway()
		}
		return do()
	})
}

func (l *fakeLead) Checkpoint(context.Context) (at projections.Checkpoint, err error) {
	err = l.do("checkpoint", func() error {
		l.tables = l.store.live
		if l.tables == nil {
			return projections.ErrNoTables
		}
		at = l.tables.at
		return nil
	})
	return at, err
}

func (l *fakeLead) Load(_ context.Context, lookup projections.Lookup) (k projections.Known, err error) {
	err = l.do("load", func() error {
		k = l.tables.load(lookup)
		return nil
	})
	return k, err
}

func (l *fakeLead) Write(_ context.Context, b projections.Batch) error {
	return l.do("write", func() error {
		if l.tables != l.store.live {
			return projections.ErrCheckpointMoved
		}
		return l.tables.write(b)
	})
}

func (l *fakeLead) Close(ctx context.Context) error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if l.store.leading == l {
		l.store.leading = nil
	}
	return ctx.Err()
}

type fakeBuild struct {
	store    *fakeStore
	tables   *fakeTables
	complete bool
}

func (s *fakeStore) Build(context.Context) (projections.Build, error) {
	b := &fakeBuild{store: s, tables: newTables()}
	held := false
	err := s.call("build", func() error {
		if s.building {
			return projections.ErrBuildRunning()
		}
		s.building, held = true, true
		return nil
	})
	if err != nil && held {
		err = errors.Join(err, b.Discard(context.Background()))
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (b *fakeBuild) Checkpoint(context.Context) (at projections.Checkpoint, err error) {
	err = b.store.call("build.checkpoint", func() error {
		at = b.tables.at
		return nil
	})
	return at, err
}

func (b *fakeBuild) Load(_ context.Context, lookup projections.Lookup) (k projections.Known, err error) {
	err = b.store.call("build.load", func() error {
		k = b.tables.load(lookup)
		return nil
	})
	return k, err
}

func (b *fakeBuild) Write(_ context.Context, batch projections.Batch) error {
	return b.store.call("build.write", func() error { return b.tables.write(batch) })
}

func (b *fakeBuild) Complete(context.Context) error {
	return b.store.call("complete", func() error {
		b.complete = true
		return nil
	})
}

func (b *fakeBuild) Swap(context.Context) error {
	return b.store.call("swap", func() error {
		switch live := b.store.live; {
		case !b.complete:
			return fmt.Errorf("swap before the tables are complete")
		case live != nil && live.at.Seq > b.tables.at.Seq:
			return fmt.Errorf("swap at %d: %w", b.tables.at.Seq, projections.ErrBehind)
		}
		b.store.live = b.tables
		b.store.generation++
		return nil
	})
}

func (b *fakeBuild) Discard(ctx context.Context) error {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	b.store.building = false
	return ctx.Err()
}

func (b *fakeBuild) Compare(context.Context) (projections.Comparison, error) {
	c := &fakeComparison{build: b}
	err := b.store.call("compare", func() error {
		c.live = b.store.live.clone()
		return nil
	})
	return c, err
}

type fakeComparison struct {
	build *fakeBuild
	live  *fakeTables
}

func (c *fakeComparison) At() projections.Checkpoint { return c.live.at }
func (c *fakeComparison) Close() error               { return nil }

func (c *fakeComparison) Differences(_ context.Context, progress func(string, int64), yield func(projections.Difference) error) error {
	want := c.build.tables
	if want.at != c.live.at {
		return fmt.Errorf("compare at %d with %d", want.at.Seq, c.live.at.Seq)
	}
	rows := slices.SortedFunc(maps.Values(want.keys), func(a, b projections.KeyRecord) int { return cmp.Compare(a.CreatedSeq, b.CreatedSeq) })
	for i := range rows {
		if got := c.live.keys[rows[i].ID]; got.Name != rows[i].Name {
			d := projections.Difference{Table: "keys", Row: string(got.ID), Column: "name", Want: rows[i].Name, Got: got.Name}
			if err := yield(d); err != nil {
				return err
			}
		}
		progress("keys", int64(i)+1)
	}
	return nil
}
