package projectionstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// reads asks every question of a reader once.
func reads(ctx context.Context, store Store) map[string]error {
	errs := map[string]error{}
	_, errs["keys"] = store.Keys(ctx, projections.KeyQuery{Now: Start()})
	_, errs["key"] = store.Key(ctx, keyID(1), nil)
	_, errs["key at"] = store.Key(ctx, keyID(1), &projections.Moment{Time: Start()})
	_, errs["count"] = store.CountKeys(ctx, projections.KeyQuery{Now: Start()})
	_, errs["audit"] = store.Audit(ctx, projections.AuditQuery{})
	_, errs["moment"] = store.Moment(ctx, projections.At{Time: Start()})
	return errs
}

// testNoTables: before the first build is swapped in, there is nothing to read and
// nothing to write to, and both are told so.
func testNoTables(t *testing.T, s Suite) {
	store, _ := s.open(t)
	check := func() {
		t.Helper()
		if state := mustState(t, store); state.Live || state.Generation != 0 || state.At != (projections.Checkpoint{}) {
			t.Errorf("state without tables: %+v", state)
		}
		for what, err := range reads(t.Context(), store) {
			if domain.KindOf(err) != domain.KindUnavailable || domain.CodeOf(err) != projections.CodeBuilding {
				t.Errorf("%s without tables: %v", what, err)
			}
		}
		if _, err := store.Info(t.Context()); err != nil {
			t.Errorf("info without tables: %v", err)
		}
	}
	check()
	lead := mustLead(t, store)
	if _, err := lead.Checkpoint(t.Context()); !errors.Is(err, projections.ErrNoTables) {
		t.Errorf("checkpoint without tables: %v", err)
	}
	if err := lead.Write(t.Context(), claims(projections.Checkpoint{}, 1, "key")); err == nil {
		t.Error("a batch was written without tables")
	}
	build := mustBuild(t, store)
	mustWrite(t, build, claims(projections.Checkpoint{}, 1, "key"))
	check()
	if err := build.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
	if err := build.Swap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(t, store); len(got) != 1 {
		t.Errorf("keys after the first build: %v", got)
	}
	if cp := mustCheckpoint(t, lead); cp.Seq != 1 { // the lead that was there before
		t.Errorf("checkpoint after the first build: %+v", cp)
	}
}

func testEmpty(t *testing.T, s Suite) {
	store, _ := s.open(t)
	Project(t, store, NewLog(), projections.Config{})
	if state := mustState(t, store); !state.Live || state.Generation == 0 || state.At != (projections.Checkpoint{}) {
		t.Errorf("state of empty tables: %+v", state)
	}
	keys, err := store.Keys(t.Context(), projections.KeyQuery{Now: Start()})
	if err != nil || len(keys.Keys) != 0 || keys.Next != "" || keys.Prev != "" || !keys.Now.Equal(Start()) {
		t.Errorf("keys of empty tables: %+v, %v", keys, err)
	}
	audit, err := store.Audit(t.Context(), projections.AuditQuery{})
	if err != nil || len(audit.Entries) != 0 || audit.Next != "" || audit.Prev != "" || audit.SearchedTo != 0 {
		t.Errorf("audit of empty tables: %+v, %v", audit, err)
	}
	if _, err := store.Key(t.Context(), "key_none", nil); domain.KindOf(err) != domain.KindNotFound || domain.CodeOf(err) != domain.CodeKeyNotFound {
		t.Errorf("key of empty tables: %v", err)
	}
	if count, err := store.CountKeys(t.Context(), projections.KeyQuery{Now: Start()}); err != nil || count != (projections.Count{}) {
		t.Errorf("count of empty tables: %+v, %v", count, err)
	}
	if at, err := store.Moment(t.Context(), projections.At{Time: Start()}); err != nil || at.Seq != 0 || !at.Time.Equal(Start()) {
		t.Errorf("moment of empty tables: %+v, %v", at, err)
	}
	if _, err := store.Moment(t.Context(), projections.At{Seq: 1}); domain.CodeOf(err) != projections.CodeBeyondHistory {
		t.Errorf("a sequence beyond empty tables: %v", err)
	}
}

// testBuildIsNotSeen: what is built is seen after the swap, and not before, while
// the live tables go on.
func testBuildIsNotSeen(t *testing.T, s Suite) {
	store, _ := s.open(t)
	first := claims(projections.Checkpoint{}, 2, "old")
	mustReplace(t, store, first)
	before := mustState(t, store)
	if !before.Live || before.At != first.To {
		t.Fatalf("state after the first build: %+v", before)
	}
	lead, build := mustLead(t, store), mustBuild(t, store)
	if cp := mustCheckpoint(t, build); cp != (projections.Checkpoint{}) {
		t.Errorf("a build begins at %+v", cp)
	}
	again := mustWrite(t, build, claims(projections.Checkpoint{}, 2, "new"))
	if cp := mustCheckpoint(t, build); cp != again {
		t.Errorf("checkpoint of the build: %+v, want %+v", cp, again)
	}
	third := claims(first.To, 1, "old")
	mustWrite(t, lead, third)
	mustWrite(t, build, claims(again, 1, "new"))
	if err := build.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(t, store); !slices.Equal(got, []string{"old", "old", "old"}) {
		t.Errorf("keys before the swap: %v", got)
	}
	if state := mustState(t, store); state.Generation != before.Generation || state.At != third.To {
		t.Errorf("state before the swap: %+v, was %+v", state, before)
	}
	last := mustWrite(t, build, claims(third.To, 1, "new")) // a build may be ahead, and take in more when it is complete
	if err := build.Swap(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a build that was swapped in is not discarded
		if got := names(t, store); !slices.Equal(got, []string{"new", "new", "new", "new"}) {
			t.Errorf("keys after the swap: %v", got)
		}
		if state := mustState(t, store); !state.Live || state.Generation <= before.Generation || state.At != last {
			t.Errorf("state after the swap: %+v, was %+v", state, before)
		}
		mustDiscard(t, build)
	}
}

// testSwapBehind: tables never go back.
func testSwapBehind(t *testing.T, s Suite) {
	store, _ := s.open(t)
	first := claims(projections.Checkpoint{}, 2, "old")
	mustReplace(t, store, first)
	before := mustState(t, store)
	build := mustBuild(t, store)
	one := mustWrite(t, build, claims(projections.Checkpoint{}, 1, "new"))
	if err := build.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := build.Swap(t.Context()); !errors.Is(err, projections.ErrBehind) {
		t.Fatalf("swap of a build that is behind: %v", err)
	}
	if state := mustState(t, store); state != before {
		t.Errorf("state after a swap that was refused: %+v, was %+v", state, before)
	}
	mustWrite(t, build, claims(one, 1, "new"))
	mustSwap(t, build)
	if got := names(t, store); !slices.Equal(got, []string{"new", "new"}) {
		t.Errorf("keys after the swap: %v", got)
	}
}

// testOldLead: who leads when tables are swapped writes to the new ones, from their
// checkpoint.
func testOldLead(t *testing.T, s Suite) {
	store, _ := s.open(t)
	first := claims(projections.Checkpoint{}, 1, "old")
	mustReplace(t, store, first)
	lead := mustLead(t, store)
	if cp := mustCheckpoint(t, lead); cp != first.To {
		t.Fatalf("checkpoint of the lead: %+v", cp)
	}
	second := claims(first.To, 1, "old")
	mustWrite(t, lead, second)
	mustReplace(t, store, claims(projections.Checkpoint{}, 3, "new"))
	if err := lead.Write(t.Context(), claims(second.To, 1, "old")); !errors.Is(err, projections.ErrCheckpointMoved) {
		t.Errorf("write to tables that were swapped out: %v", err)
	}
	at := mustCheckpoint(t, lead)
	if at.Seq != 3 {
		t.Fatalf("checkpoint of the lead after the swap: %+v", at)
	}
	at = mustWrite(t, lead, claims(at, 1, "newer"))
	if got := names(t, store); !slices.Equal(got, []string{"new", "new", "new", "newer"}) {
		t.Errorf("keys after the swap: %v", got)
	}
	// The caller may remember rows of the old tables: at the very same event too it
	// must be told.
	mustReplace(t, store, claims(projections.Checkpoint{}, 4, "newest"))
	if _, err := lead.Load(t.Context(), projections.Lookup{Keys: []domain.KeyID{keyID(1)}}); !errors.Is(err, projections.ErrCheckpointMoved) {
		t.Errorf("load after a swap at the same event: %v", err)
	}
	if err := lead.Write(t.Context(), claims(at, 1, "last")); !errors.Is(err, projections.ErrCheckpointMoved) {
		t.Fatalf("write after a swap at the same event: %v", err)
	}
	if again := mustCheckpoint(t, lead); again != at {
		t.Errorf("checkpoint after a swap at the same event: %+v, want %+v", again, at)
	}
	mustWrite(t, lead, claims(at, 1, "last"))
	if got := names(t, store); !slices.Equal(got, []string{"newest", "newest", "newest", "newest", "last"}) {
		t.Errorf("keys after the second swap: %v", got)
	}
}

// testDiscard: a build that is given up leaves nothing, at any step.
func testDiscard(t *testing.T, s Suite) {
	store, _ := s.open(t)
	mustReplace(t, store, claims(projections.Checkpoint{}, 2, "live"))
	before := mustState(t, store)
	for _, steps := range [...]int{0, 1, 2, 3} {
		build := mustBuild(t, store)
		if cp := mustCheckpoint(t, build); cp != (projections.Checkpoint{}) {
			t.Fatalf("after %d steps of another, a build begins at %+v", steps-1, cp)
		}
		if steps > 0 {
			mustWrite(t, build, claims(projections.Checkpoint{}, 1, "given up"))
		}
		if steps > 1 {
			if err := build.Complete(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if steps > 2 {
			if err := build.Swap(t.Context()); !errors.Is(err, projections.ErrBehind) {
				t.Fatalf("swap: %v", err)
			}
		}
		mustDiscard(t, build)
		mustDiscard(t, build)
		if state := mustState(t, store); state != before {
			t.Errorf("state after %d steps: %+v, was %+v", steps, state, before)
		}
		if got := names(t, store); !slices.Equal(got, []string{"live", "live"}) {
			t.Errorf("keys after %d steps: %v", steps, got)
		}
	}
	mustReplace(t, store, claims(projections.Checkpoint{}, 2, "next"))
	if got := names(t, store); !slices.Equal(got, []string{"next", "next"}) {
		t.Errorf("keys after the next build: %v", got)
	}
}

// testInterrupted: a process that ends while it leads and builds hinders nobody.
func testInterrupted(t *testing.T, s Suite) {
	place := s.NewPlace(t)
	for live := range 3 {
		store := s.Open(t, place)
		state := mustState(t, store)
		if state.Live != (live > 0) {
			t.Fatalf("round %d: state %+v", live, state)
		}
		if live > 0 {
			if got := names(t, store); len(got) != live {
				t.Errorf("round %d: keys %v", live, got)
			}
		}
		if _, err := store.Lead(t.Context()); err != nil {
			t.Fatalf("round %d: lead: %v", live, err)
		}
		build, err := store.Build(t.Context())
		if err != nil {
			t.Fatalf("round %d: build: %v", live, err)
		}
		mustWrite(t, build, claims(projections.Checkpoint{}, 5, "interrupted"))
		if live == 1 {
			if err := build.Complete(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, store)

		store = s.Open(t, place)
		if state := mustState(t, store); state.Live != (live > 0) {
			t.Fatalf("round %d: state after the interruption %+v", live, state)
		}
		mustReplace(t, store, claims(projections.Checkpoint{}, live+1, "whole"))
		if got := names(t, store); len(got) != live+1 || slices.Contains(got, "interrupted") {
			t.Errorf("round %d: keys after the interruption %v", live, got)
		}
		mustClose(t, store)
	}
}

// testOneBuild: there is one build at a time.
func testOneBuild(t *testing.T, s Suite) {
	store, place := s.open(t)
	others := map[string]Store{"the same store": store}
	if s.Shared {
		others["another store"] = s.mustOpen(t, place)
	}
	for name, other := range others {
		build := mustBuild(t, store)
		if _, err := other.Build(t.Context()); domain.CodeOf(err) != projections.CodeBuildRunning || domain.KindOf(err) != domain.KindConflict {
			t.Errorf("%s: a build while one runs: %v", name, err)
		}
		first := mustWrite(t, build, claims(projections.Checkpoint{}, 1, "key")) // and the one that runs is none the worse
		if cp := mustCheckpoint(t, build); cp != first {
			t.Errorf("%s: checkpoint of the build: %+v", name, cp)
		}
		mustDiscard(t, build)
		mustReplace(t, other, claims(projections.Checkpoint{}, 1, name))
		mustReplace(t, store, claims(projections.Checkpoint{}, 1, name)) // which holds nothing of its own
	}
}

// testOneLead: one process writes at a time.
func testOneLead(t *testing.T, s Suite) {
	store, place := s.open(t)
	first := claims(projections.Checkpoint{}, 1, "key")
	mustReplace(t, store, first)
	others := map[string]Store{"the same store": store}
	if s.Shared {
		others["another store"] = s.mustOpen(t, place)
	}
	at := first.To
	for name, other := range others {
		lead := mustLead(t, store)
		if _, err := other.Lead(t.Context()); domain.CodeOf(err) != projections.CodeFollower || domain.KindOf(err) != domain.KindUnavailable {
			t.Errorf("%s: a lead while another leads: %v", name, err)
		}
		at = mustWrite(t, lead, claims(at, 1, "key"))
		if s.Shared && mustState(t, other).Leader == "" {
			t.Errorf("%s: nobody leads", name)
		}
		if err := lead.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		next := mustLead(t, other)
		if cp := mustCheckpoint(t, next); cp != at {
			t.Errorf("%s: the next lead begins at %+v, want %+v", name, cp, at)
		}
		at = mustWrite(t, next, claims(at, 1, "key"))
		if err := lead.Write(t.Context(), claims(at, 1, "key")); err == nil {
			t.Errorf("%s: who gave up the lead could write", name)
		}
		if err := next.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, store); uint64(len(got)) != at.Seq {
		t.Errorf("%d keys after %d events", len(got), at.Seq)
	}
}

// testSharedPlace: what one store does, another at the same place sees.
func testSharedPlace(t *testing.T, s Suite) {
	if !s.Shared {
		return
	}
	a, place := s.open(t)
	b := s.mustOpen(t, place)
	if mustState(t, b).Live {
		t.Fatal("there are tables before any was built")
	}
	first := claims(projections.Checkpoint{}, 2, "first")
	mustReplace(t, a, first)
	if got := names(t, b); !slices.Equal(got, []string{"first", "first"}) {
		t.Errorf("keys seen from the other store: %v", got)
	}
	lead := mustLead(t, a)
	second := mustWrite(t, lead, claims(first.To, 1, "second"))
	if state := mustState(t, b); state.At != second || state != mustState(t, a) {
		t.Errorf("state seen from the other store: %+v, %+v here", state, mustState(t, a))
	}
	if got := names(t, b); !slices.Equal(got, []string{"first", "first", "second"}) {
		t.Errorf("keys seen from the other store: %v", got)
	}
	mustReplace(t, b, claims(projections.Checkpoint{}, 4, "rebuilt"))
	if got := names(t, a); !slices.Equal(got, []string{"rebuilt", "rebuilt", "rebuilt", "rebuilt"}) {
		t.Errorf("keys after the other store's swap: %v", got)
	}
	if err := lead.Write(t.Context(), claims(second, 1, "lost")); !errors.Is(err, projections.ErrCheckpointMoved) {
		t.Errorf("write after the other store's swap: %v", err)
	}
	if err := lead.Close(t.Context()); err != nil {
		t.Error(err)
	}
	// A node that ends takes its lead and its build with it.
	c := s.Open(t, place)
	if _, err := c.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Build(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	eventually(t, "lead and build of a store that was closed", func() error {
		lead, err := a.Lead(t.Context())
		if err != nil {
			return fmt.Errorf("lead: %w", err)
		}
		if err := lead.Close(t.Context()); err != nil {
			return fmt.Errorf("close the lead: %w", err)
		}
		build, err := b.Build(t.Context())
		if err != nil {
			return fmt.Errorf("build: %w", err)
		}
		return build.Discard(t.Context())
	})
}
