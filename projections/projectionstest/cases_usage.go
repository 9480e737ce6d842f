package projectionstest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// Use merges uses that are reported now, whatever was merged before and whoever else
// merges.
func Use(ctx context.Context, store projections.UsageWriter, uses ...projections.KeyUse) error {
	b := projections.UsageBatch{Reports: []projections.UsageReport{{Uses: uses}}, Now: Start()}
	for _, u := range uses {
		if u.At.After(b.Now) {
			b.Now = u.At
		}
	}
	b.Reports[0].Day = projections.DayOf(b.Now)
	for {
		at, err := store.UsagePosition(ctx)
		if err != nil {
			return err
		}
		b.From, b.To = at, projections.UsagePosition{Stream: at.Stream, Seq: at.Seq + 1}
		if err := store.MergeUsage(ctx, b); !errors.Is(err, projections.ErrUsageMoved) {
			return err
		}
	}
}

func mustUse(t *testing.T, store Store, uses ...projections.KeyUse) {
	t.Helper()
	if err := Use(t.Context(), store, uses...); err != nil {
		t.Fatalf("use: %v", err)
	}
}

// used returns when a key was last used.
func used(t *testing.T, store Store, id domain.KeyID) time.Time {
	t.Helper()
	key, err := store.Key(t.Context(), id, nil)
	if err != nil {
		t.Fatalf("key %s: %v", id, err)
	}
	return key.LastUsedAt
}

func testUsage(t *testing.T, s Suite) {
	store, _ := s.open(t)
	at := func(hours int) time.Time { return Start().Add(time.Duration(hours) * time.Hour) }
	mustUse(t, store, projections.KeyUse{Key: keyID(2), At: at(5)}) // before there are tables
	first := claims(projections.Checkpoint{}, 3, "key")
	mustReplace(t, store, first)
	mustUse(t, store)
	mustUse(t, store,
		projections.KeyUse{Key: keyID(1), At: at(7).Add(999 * time.Nanosecond)}, projections.KeyUse{Key: keyID(1), At: at(6)},
		projections.KeyUse{Key: keyID(2), At: at(4)}, projections.KeyUse{Key: keyID(4), At: at(9)}, projections.KeyUse{Key: "key_none", At: at(1)})
	mustUse(t, store, projections.KeyUse{Key: keyID(1), At: at(2)})
	for id, want := range map[domain.KeyID]time.Time{keyID(1): at(7), keyID(2): at(5), keyID(3): {}} {
		if got := used(t, store, id); got != want {
			t.Errorf("%s was last used at %s, want %s", id, got, want)
		}
	}
	lead := mustLead(t, store)
	mustWrite(t, lead, claims(first.To, 1, "key")) // used before it was created, as far as we know
	if got := used(t, store, keyID(4)); got != at(9) {
		t.Errorf("a key that is new was last used at %s", got)
	}
	for name, c := range map[string]struct {
		q    projections.KeyQuery
		want []uint64
	}{
		"by use":              {projections.KeyQuery{Sort: projections.SortUsed}, []uint64{3, 2, 1, 4}},
		"by use, latest":      {projections.KeyQuery{Sort: projections.SortUsedDown}, []uint64{4, 1, 2, 3}},
		"unused since":        {projections.KeyQuery{UnusedSince: at(7), Sort: projections.SortOldest}, []uint64{2, 3}},
		"unused, created now": {projections.KeyQuery{UnusedSince: Start()}, nil},
		"used within":         {projections.KeyQuery{LastUsed: projections.TimeRange{From: at(5), Before: at(9)}, Sort: projections.SortOldest}, []uint64{1, 2}},
		"used before":         {projections.KeyQuery{LastUsed: projections.TimeRange{Before: at(7)}}, []uint64{2}},
	} {
		c.q.Now = at(10)
		page, err := store.Keys(t.Context(), c.q)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []uint64
		for _, k := range page.Keys {
			got = append(got, k.CreatedSeq)
		}
		same(t, name, got, c.want)
	}
	now := projections.Moment{Seq: 4, Time: at(10)}
	if key, err := store.Key(t.Context(), keyID(1), &now); err != nil || !key.LastUsedAt.IsZero() {
		t.Errorf("a version of the past was used: %+v, %v", key, err)
	}
	page, err := store.Keys(t.Context(), projections.KeyQuery{At: &now, Sort: projections.SortOldest})
	if err != nil || len(page.Keys) != 4 || !page.Keys[0].LastUsedAt.IsZero() {
		t.Errorf("versions of the past were used: %+v, %v", page, err)
	}
}

// testUsageOverSwaps notes uses while tables are built, swapped and written to:
// none is lost, and none is where it should not be.
func testUsageOverSwaps(t *testing.T, s Suite) {
	place := s.NewPlace(t)
	store := s.Open(t, place)
	first := claims(projections.Checkpoint{}, 10, "key")
	mustReplace(t, store, first)
	const writers, rounds = 3, 30
	latest := Start().Add(writers * rounds * time.Second)
	var using sync.WaitGroup
	for w := range writers {
		using.Go(func() {
			for i := range rounds {
				// The latest time comes neither first nor last.
				at := latest.Add(-time.Duration((i+rounds/2)%rounds*writers+w) * time.Second)
				if err := Use(context.WithoutCancel(t.Context()), store,
					projections.KeyUse{Key: keyID(1), At: at}, projections.KeyUse{Key: keyID(2), At: at},
					projections.KeyUse{Key: keyID(11), At: at}, projections.KeyUse{Key: keyID(3 + w), At: at}); err != nil {
					t.Errorf("use: %v", err)
				}
			}
		})
	}
	for range 5 {
		mustReplace(t, store, first)
	}
	lead := mustLead(t, store)
	at := mustWrite(t, lead, claims(mustCheckpoint(t, lead), 1, "key"))
	using.Wait()
	mustReplace(t, store, claims(projections.Checkpoint{}, int(at.Seq)+1, "next"))
	if err := lead.Close(t.Context()); err != nil {
		t.Error(err)
	}
	mustClose(t, store)
	store = s.mustOpen(t, place)
	for id, want := range map[domain.KeyID]time.Time{
		keyID(1): latest, keyID(2): latest, keyID(11): latest,
		keyID(3): latest, keyID(4): latest.Add(-time.Second), keyID(5): latest.Add(-2 * time.Second), keyID(6): {},
	} {
		if got := used(t, store, id); got != want {
			t.Errorf("%s was last used at %s, want %s", id, got, want)
		}
	}
}
