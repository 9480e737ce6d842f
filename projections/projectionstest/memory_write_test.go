package projectionstest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// writer writes to one set of tables.
type writer struct {
	store  *store
	tables func() **tables
	mine   func() bool
	broken error
	// generation is that of the live tables when the checkpoint was last asked for.
	generation uint64
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

func (w *writer) same(t *tables) error {
	if w.generation == 0 {
		w.generation = t.generation
	}
	if w.generation != t.generation {
		return projections.ErrCheckpointMoved
	}
	return nil
}

func (w *writer) Checkpoint(context.Context) (projections.Checkpoint, error) {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	t, err := w.get()
	if err != nil {
		return projections.Checkpoint{}, err
	}
	w.generation = t.generation
	return t.at, nil
}

func (w *writer) Load(_ context.Context, l projections.Lookup) (projections.Known, error) {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	known := projections.Known{
		Keys: map[domain.KeyID]projections.KeyRecord{}, Voids: map[domain.KeyID][]projections.VoidKey{}, Macs: map[projections.MacHash]domain.KeyID{},
	}
	t, err := w.get()
	if err == nil {
		err = w.same(t)
	}
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
	if err == nil {
		err = w.same(t)
	}
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
	maps.Copy(next.macs, t.macs)
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
	for table, rows := range map[string]int{
		"keys": len(v.live.versions), "audit": len(v.live.audit), "macs": len(v.live.macs), "voids": len(v.live.voids),
	} {
		progress(table, int64(rows))
	}
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
