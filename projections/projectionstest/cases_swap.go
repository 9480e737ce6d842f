package projectionstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// eventually asks until there is no error, for 10 s at most.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if err = ask(); err == nil {
			return
		}
		pause(t.Context(), 20*time.Millisecond)
	}
	t.Fatalf("%s: %v", what, err)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// testSwapsUnderReaders swaps again and again while readers poll. Every read
// answers, from one build and the whole of it, and none from an older one than the
// reader has seen.
func testSwapsUnderReaders(t *testing.T, s Suite) {
	const keys, swaps, readers = 40, 20, 3
	store, place := s.open(t)
	generation := func(n int) []projections.Batch {
		first := claims(projections.Checkpoint{}, keys/2, fmt.Sprintf("build %d", n))
		return []projections.Batch{first, claims(first.To, keys/2, fmt.Sprintf("build %d", n))}
	}
	mustReplace(t, store, generation(0)...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var polling sync.WaitGroup
	var rounds atomic.Int64
	for i := range readers {
		from := store
		if s.Shared && i == 0 {
			from = s.mustOpen(t, place)
		}
		polling.Go(func() {
			p := poller{store: from, keys: keys}
			for ctx.Err() == nil {
				if err := p.poll(); err != nil {
					t.Errorf("reader %d: %v", i, err)
					return
				}
				rounds.Add(1)
			}
		})
	}
	for n := 1; n <= swaps; n++ {
		before := rounds.Load()
		mustReplace(t, store, generation(n)...)
		if got, want := names(t, store)[0], fmt.Sprintf("build %d", n); got != want {
			t.Errorf("after the swap to %s the tables are those of %s", want, got)
		}
		for rounds.Load() == before && !t.Failed() { // let everybody have a look
			pause(ctx, time.Millisecond)
		}
	}
	stop()
	polling.Wait()
	t.Logf("%d rounds of reads over %d swaps", rounds.Load(), swaps)
}

// poller reads what was built, and remembers how far it was.
type poller struct {
	store Store
	keys  int
	build int
	state projections.State
}

// poll asks every question once. It is not stopped in the middle of one.
func (p *poller) poll() error {
	page, err := p.store.Keys(ctx(), projections.KeyQuery{Now: Start(), PageSize: projections.MaxPageSize})
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if len(page.Keys) != p.keys {
		return fmt.Errorf("%d keys of %d", len(page.Keys), p.keys)
	}
	for _, k := range page.Keys {
		if k.Name != page.Keys[0].Name {
			return fmt.Errorf("keys of %s and %s on one page", k.Name, page.Keys[0].Name)
		}
	}
	if err := p.saw(page.Keys[0].Name); err != nil {
		return err
	}
	key, err := p.store.Key(ctx(), keyID(p.keys), nil)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if err := p.saw(key.Name); err != nil {
		return err
	}
	count, err := p.store.CountKeys(ctx(), projections.KeyQuery{Now: Start()})
	if err != nil || count.Keys != p.keys {
		return fmt.Errorf("count: %+v, %v", count, err) //nolint:errorlint // there may be none
	}
	audit, err := p.store.Audit(ctx(), projections.AuditQuery{PageSize: projections.MaxPageSize})
	if err != nil || len(audit.Entries) != p.keys {
		return fmt.Errorf("%d audit entries of %d, %v", len(audit.Entries), p.keys, err) //nolint:errorlint // there may be none
	}
	state, err := p.store.State(ctx())
	if err != nil || !state.Live || state.Generation < p.state.Generation || int(state.At.Seq) != p.keys {
		return fmt.Errorf("state: %+v after %+v, %v", state, p.state, err) //nolint:errorlint // there may be none
	}
	p.state = state
	return nil
}

func (p *poller) saw(name string) error {
	var build int
	if _, err := fmt.Sscanf(name, "build %d", &build); err != nil {
		return fmt.Errorf("name %q: %w", name, err)
	}
	if build < p.build {
		return fmt.Errorf("build %d was seen after build %d", build, p.build)
	}
	p.build = build
	return nil
}

// testPagingOverSwap: a page token goes on in the tables of a later build.
func testPagingOverSwap(t *testing.T, s Suite) {
	store, _ := s.open(t)
	mustReplace(t, store, claims(projections.Checkpoint{}, 30, "first"))
	q := projections.KeyQuery{Now: Start(), PageSize: 7}
	a := projections.AuditQuery{PageSize: 7, OldestFirst: true}
	var seqs, entries []uint64
	for done := 0; done < 2; {
		done = 0
		if q.Page != "" || len(seqs) == 0 {
			page, err := store.Keys(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range page.Keys {
				seqs = append(seqs, k.CreatedSeq)
			}
			q.Page = page.Next
		}
		if a.Page != "" || len(entries) == 0 {
			page, err := store.Audit(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Entries {
				entries = append(entries, e.Seq)
			}
			a.Page = page.Next
		}
		if q.Page == "" {
			done++
		}
		if a.Page == "" {
			done++
		}
		mustReplace(t, store, claims(projections.Checkpoint{}, 30, "next"))
	}
	for i := range uint64(30) {
		if len(seqs) != 30 || len(entries) != 30 || seqs[i] != 30-i || entries[i] != i+1 {
			t.Fatalf("keys %d, entries %d", seqs, entries)
		}
	}
}

// testGivenUp: what a caller gives up on takes effect or does not, and the store is
// as good as before.
func testGivenUp(t *testing.T, s Suite) {
	store, _ := s.open(t)
	first := claims(projections.Checkpoint{}, 3, "key")
	mustReplace(t, store, first)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for what, err := range reads(gone, store) {
		if err == nil || domain.KindOf(err) == domain.KindNotFound {
			t.Errorf("%s that nobody waits for: %v", what, err)
		}
	}
	lead := mustLead(t, store)
	at := mustCheckpoint(t, lead)
	next := claims(at, 1, "key")
	if err := lead.Write(gone, next); err != nil && errors.Is(err, projections.ErrCheckpointMoved) {
		t.Errorf("write that nobody waits for: %v", err)
	}
	switch cp := mustCheckpoint(t, lead); cp {
	case next.To:
	case at:
		mustWrite(t, lead, next)
	default:
		t.Fatalf("checkpoint after a write that nobody waited for: %+v", cp)
	}
	if build, err := store.Build(gone); err == nil {
		mustDiscard(t, build)
	}
	mustReplace(t, store, claims(projections.Checkpoint{}, 4, "next"))
	if got := names(t, store); len(got) != 4 || got[3] != "next" {
		t.Errorf("keys: %v", got)
	}
}
