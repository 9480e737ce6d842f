package projectionstest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// eachWriter runs a test of empty tables that are live, and of ones that are built.
// show makes what was written visible to readers.
func eachWriter(t *testing.T, s Suite, test func(t *testing.T, store Store, w projections.Writer, show func())) {
	t.Helper()
	t.Run("live", func(t *testing.T) {
		store, _ := s.open(t)
		mustReplace(t, store)
		test(t, store, mustLead(t, store), func() {})
	})
	t.Run("build", func(t *testing.T) {
		store, _ := s.open(t)
		build := mustBuild(t, store)
		test(t, store, build, func() { t.Helper(); mustSwap(t, build) })
	})
}

// testBatchIsOneTransaction: of a batch that is refused in the middle nothing stays.
func testBatchIsOneTransaction(t *testing.T, s Suite) {
	store, _ := s.open(t)
	mustReplace(t, store)
	lead := mustLead(t, store)
	first := claims(projections.Checkpoint{}, 2, "first")
	mustWrite(t, lead, first)
	for name, spoil := range map[string]func(*projections.Batch){
		"mac":     func(b *projections.Batch) { b.Macs = append(b.Macs, b.Macs[0]) },
		"version": func(b *projections.Batch) { b.Versions = append(b.Versions, b.Versions[0]) },
		"entry":   func(b *projections.Batch) { b.Audit = append(b.Audit, b.Audit[0]) },
		"void": func(b *projections.Batch) {
			b.Voids = slices.Repeat([]projections.VoidKey{{Account: "acme", Key: "key_void", Seq: 3, Reason: projections.VoidNoKey}}, 2)
		},
	} {
		bad := claims(first.To, 3, "bad")
		spoil(&bad)
		if err := lead.Write(t.Context(), bad); err == nil || errors.Is(err, projections.ErrCheckpointMoved) {
			t.Errorf("%s: write of a row that is there already: %v", name, err)
		}
		if cp := mustCheckpoint(t, lead); cp != first.To {
			t.Fatalf("%s: checkpoint after a batch that failed: %+v", name, cp)
		}
		if got := names(t, store); !slices.Equal(got, []string{"first", "first"}) {
			t.Fatalf("%s: keys after a batch that failed: %v", name, got)
		}
	}
	mustWrite(t, lead, claims(first.To, 3, "good")) // so nothing of it was there
	if got := names(t, store); !slices.Equal(got, []string{"first", "first", "good", "good", "good"}) {
		t.Errorf("keys: %v", got)
	}
}

// testBrokenBuild: a build that failed to write says so before it can be swapped in.
func testBrokenBuild(t *testing.T, s Suite) {
	store, _ := s.open(t)
	live := claims(projections.Checkpoint{}, 1, "live")
	mustReplace(t, store, live)
	build := mustBuild(t, store)
	first := mustWrite(t, build, claims(projections.Checkpoint{}, 2, "built"))
	bad := claims(first, 2, "bad")
	bad.Macs = append(bad.Macs, bad.Macs[0])
	err := build.Write(t.Context(), bad)
	if err == nil {
		err = build.Complete(t.Context())
	}
	if err == nil {
		t.Error("a build with a row twice is complete")
	}
	if err := build.Swap(t.Context()); err == nil {
		t.Error("a broken build was swapped in")
	}
	mustDiscard(t, build)
	if got := names(t, store); !slices.Equal(got, []string{"live"}) {
		t.Errorf("keys after a broken build: %v", got)
	}
	mustReplace(t, store, claims(projections.Checkpoint{}, 4, "whole"))
	if got := names(t, store); len(got) != 4 || got[0] != "whole" {
		t.Errorf("keys after the next build: %v", got)
	}
}

// testWrongCheckpoint: a batch that does not continue what is there is refused.
func testWrongCheckpoint(t *testing.T, s Suite) {
	eachWriter(t, s, func(t *testing.T, store Store, w projections.Writer, show func()) {
		first := claims(projections.Checkpoint{}, 2, "key")
		mustWrite(t, w, first)
		if _, isBuild := w.(projections.Build); isBuild { // whose refusal may come late, and be its end
			if err := w.Write(t.Context(), claims(projections.Checkpoint{Seq: 4, EventID: "event-4"}, 1, "key")); err == nil {
				_, err = w.Checkpoint(t.Context())
				if !errors.Is(err, projections.ErrCheckpointMoved) {
					t.Errorf("checkpoint of a build after a wrong batch: %v", err)
				}
			} else if !errors.Is(err, projections.ErrCheckpointMoved) {
				t.Errorf("write to a build from a wrong checkpoint: %v", err)
			}
			return
		}
		for _, from := range [...]projections.Checkpoint{{}, {Seq: 2, EventID: "other"}, {Seq: 3, EventID: "event-2"}, {Seq: 1, EventID: "event-1"}} {
			if err := w.Write(t.Context(), claims(from, 1, "key")); !errors.Is(err, projections.ErrCheckpointMoved) {
				t.Errorf("write from %+v: %v", from, err)
			}
		}
		if cp := mustCheckpoint(t, w); cp != first.To {
			t.Errorf("checkpoint after refusals: %+v", cp)
		}
		show()
		if got := names(t, store); len(got) != 2 {
			t.Errorf("keys after refusals: %v", got)
		}
	})
}

// testLostVersion: the end of a version that is not there is an error, and nothing of
// the batch stays.
func testLostVersion(t *testing.T, s Suite) {
	store, _ := s.open(t)
	mustReplace(t, store)
	lead := mustLead(t, store)
	first := mustWrite(t, lead, claims(projections.Checkpoint{}, 2, "key"))
	for name, ended := range map[string]projections.EndedVersion{
		"no such key":      {Key: "key_none", CreatedSeq: 1, FromSeq: 1, ToSeq: 3},
		"no such version":  {Key: keyID(1), CreatedSeq: 1, FromSeq: 2, ToSeq: 3},
		"another creation": {Key: keyID(1), CreatedSeq: 2, FromSeq: 2, ToSeq: 3},
	} {
		lost := claims(first, 1, "key")
		lost.Ended = []projections.EndedVersion{ended}
		if err := lead.Write(t.Context(), lost); err == nil || errors.Is(err, projections.ErrCheckpointMoved) {
			t.Fatalf("%s: a version was ended that is not there: %v", name, err)
		}
		if cp := mustCheckpoint(t, lead); cp != first {
			t.Errorf("%s: checkpoint %+v", name, cp)
		}
	}
}

// testClaims: writers find what was written: keys, macs and void claims.
func testClaims(t *testing.T, s Suite) {
	eachWriter(t, s, func(t *testing.T, _ Store, w projections.Writer, show func()) {
		b := claims(projections.Checkpoint{}, 3, "key")
		b.Voids = []projections.VoidKey{
			{Account: "acme", Key: "key_void", Seq: 1, Reason: projections.VoidMacTaken},
			{Account: "default", Key: "key_void", Seq: 2, Reason: projections.VoidNoKey},
			{Account: "default", Key: keyID(1), Seq: 3, Reason: projections.VoidKeyIDTaken},
		}
		mustWrite(t, w, b)
		check := func() {
			t.Helper()
			known, err := w.Load(t.Context(), projections.Lookup{
				Keys: []domain.KeyID{keyID(1), keyID(3), "key_void", "key_none"},
				Macs: []projections.MacHash{b.Macs[1].Hash, {9}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if want := map[domain.KeyID]projections.KeyRecord{keyID(1): b.Versions[0].KeyRecord, keyID(3): b.Versions[2].KeyRecord}; !reflect.DeepEqual(known.Keys, want) {
				t.Errorf("keys: %+v\nwant %+v", known.Keys, want)
			}
			for id, want := range map[domain.KeyID][]projections.VoidKey{"key_void": b.Voids[:2], keyID(1): b.Voids[2:]} {
				got := slices.SortedFunc(slices.Values(known.Voids[id]), func(a, b projections.VoidKey) int { return int(a.Seq) - int(b.Seq) })
				if len(known.Voids) != 2 || !slices.Equal(got, want) {
					t.Errorf("voids of %s: %+v, want %+v", id, known.Voids, want)
				}
			}
			if want := map[projections.MacHash]domain.KeyID{b.Macs[1].Hash: keyID(2)}; !reflect.DeepEqual(known.Macs, want) {
				t.Errorf("macs: %+v, want %+v", known.Macs, want)
			}
			if known, err := w.Load(t.Context(), projections.Lookup{}); err != nil || len(known.Keys)+len(known.Voids)+len(known.Macs) != 0 {
				t.Errorf("nothing was asked: %+v, %v", known, err)
			}
		}
		check()
		renamed := b.Versions[0]
		renamed.Name, renamed.Seq = "renamed", 4
		mustWrite(t, w, projections.Batch{
			From: b.To, To: projections.Checkpoint{Seq: 4, EventID: "event-4", Clock: Start()},
			Ended:    []projections.EndedVersion{{Key: keyID(1), CreatedSeq: 1, FromSeq: 1, ToSeq: 4}},
			Versions: []projections.KeyVersion{renamed},
		})
		b.Versions[0] = renamed
		check()
		show()
	})
}

// testReopen: a store that was closed goes on where it was.
func testReopen(t *testing.T, s Suite) {
	place := s.NewPlace(t)
	log := NewLog(Example(200, 7)...)
	for range 3 {
		store := s.Open(t, place)
		before := mustState(t, store)
		Project(t, store, log, projections.Config{BatchSize: 10, CacheSize: 4})
		Check(t, store, log.Events())
		if after := mustState(t, store); before.Live && after.Generation != before.Generation {
			t.Errorf("tables were built again: %+v, %+v before", after, before)
		}
		if _, err := store.Info(t.Context()); err != nil {
			t.Errorf("info: %v", err)
		}
		mustClose(t, store)
		mustClose(t, store)
		for what, err := range reads(t.Context(), store) {
			if domain.KindOf(err) != domain.KindUnavailable {
				t.Errorf("%s of a closed store: %v", what, err)
			}
		}
		if _, err := store.State(t.Context()); domain.KindOf(err) != domain.KindUnavailable {
			t.Errorf("state of a closed store: %v", err)
		}
		log.Append(Example(20, 8)...)
	}
}

// checkInfo holds what a store says of itself against what it holds, about.
func checkInfo(t *testing.T, store Store, keys, entries int) {
	t.Helper()
	info, err := store.Info(t.Context())
	if err != nil || info.Database == "" || info.Place == "" || info.SchemaVersion < 1 || info.Bytes <= 0 {
		t.Errorf("info: %+v, %v", info, err)
	}
	about := func(got int64, want int) bool { return 2*got >= int64(want) && got <= int64(2*want) }
	if !about(info.Keys, keys) || !about(info.Entries, entries) {
		t.Errorf("info: %s, not about %d keys and %d entries", fmt.Sprintf("%+v", info), keys, entries)
	}
}
