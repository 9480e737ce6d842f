package projectionstest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/projections"
)

// usageNow is the clock of the cases about counts of use.
func usageNow() time.Time { return time.Date(2030, time.June, 15, 12, 0, 0, 0, time.UTC) }

// place returns a position of one stream.
func place(seq uint64) projections.UsagePosition {
	return projections.UsagePosition{Stream: 1_900_000_000_123_456_789, Seq: seq}
}

// usesOf makes a report of one use of a key.
func usesOf(run string, number uint64, ago projections.Day, key int, count uint64) projections.UsageReport {
	at := usageNow().Add(-time.Duration(ago) * 24 * time.Hour)
	return projections.UsageReport{
		Run: run, Number: number, Day: projections.DayOf(at),
		Uses: []projections.KeyUse{{Key: keyID(key), At: at, Count: count}},
	}
}

func mustMerge(t *testing.T, store Store, from, to projections.UsagePosition, reports ...projections.UsageReport) {
	t.Helper()
	b := projections.UsageBatch{From: from, To: to, Reports: reports, Now: usageNow()}
	if err := store.MergeUsage(t.Context(), b); err != nil {
		t.Fatalf("merge from %+v: %v", from, err)
	}
}

func mustPosition(t *testing.T, store Store, want projections.UsagePosition) {
	t.Helper()
	if got, err := store.UsagePosition(t.Context()); err != nil || got != want {
		t.Errorf("the position is %+v, %v, want %+v", got, err, want)
	}
}

// daily returns how often a key was used, by how many days ago.
func daily(ctx context.Context, store Store, key int, from, to projections.Day) (map[projections.Day]uint64, error) {
	today := projections.DayOf(usageNow())
	days, err := store.DailyUse(ctx, keyID(key), today-from, today-to)
	counts := map[projections.Day]uint64{}
	for i, d := range days {
		if i > 0 && d.Day <= days[i-1].Day || d.Count == 0 {
			return nil, fmt.Errorf("the days are %v", days)
		}
		counts[today-d.Day] = d.Count
	}
	return counts, err
}

func mustDaily(t *testing.T, store Store, key int, want map[projections.Day]uint64) {
	t.Helper()
	got, err := daily(t.Context(), store, key, projections.UsageDays-1, 0)
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("key %d was used %v, %v, want %v", key, got, err, want)
	}
}

// testUsageCounts adds up counts by day and key, over a rebuild and a restart.
func testUsageCounts(t *testing.T, s Suite) {
	at := s.NewPlace(t)
	store := s.Open(t, at)
	mustPosition(t, store, projections.UsagePosition{})
	mustDaily(t, store, 1, map[projections.Day]uint64{})
	mustMerge(t, store, projections.UsagePosition{}, place(3), usesOf("a", 1, 0, 1, 5), usesOf("b", 1, 0, 1, 2), usesOf("a", 2, 1, 1, 7))
	mustReplace(t, store, claims(projections.Checkpoint{}, 3, "key"))
	mustMerge(t, store, place(3), place(4), usesOf("a", 3, 0, 1, 1), usesOf("a", 4, 30, 2, 9), usesOf("a", 5, 0, 77, 4))
	mustReplace(t, store, claims(projections.Checkpoint{}, 3, "other"))
	check := func() {
		t.Helper()
		mustPosition(t, store, place(4))
		mustDaily(t, store, 1, map[projections.Day]uint64{0: 8, 1: 7})
		mustDaily(t, store, 2, map[projections.Day]uint64{30: 9})
		mustDaily(t, store, 3, map[projections.Day]uint64{})
		mustDaily(t, store, 77, map[projections.Day]uint64{0: 4}) // not known, and counted
		if got := used(t, store, keyID(1)); !got.Equal(usageNow()) {
			t.Errorf("last used at %s", got)
		}
	}
	check()
	mustClose(t, store)
	store = s.mustOpen(t, at)
	check()
	for span, want := range map[[2]projections.Day]map[projections.Day]uint64{
		{1, 1}: {1: 7}, {0, 0}: {0: 8}, {29, 1}: {1: 7}, {0, 1}: {}, {399, 2}: {},
	} {
		if got, err := daily(t.Context(), store, 1, span[0], span[1]); err != nil || !maps.Equal(got, want) {
			t.Errorf("from %d to %d days ago: %v, %v, want %v", span[0], span[1], got, err, want)
		}
	}
	if _, err := daily(t.Context(), store, 1, projections.UsageDays, 0); err == nil {
		t.Error("a span that is too long was read")
	}
}

// testUsageOnce: a report counts once, however often and from wherever it comes.
func testUsageOnce(t *testing.T, s Suite) {
	store, _ := s.open(t)
	mustMerge(t, store, projections.UsagePosition{}, place(1), usesOf("a", 1, 0, 1, 5))
	again := projections.UsageBatch{To: place(1), Reports: []projections.UsageReport{usesOf("a", 1, 0, 1, 5)}, Now: usageNow()}
	if err := store.MergeUsage(t.Context(), again); !errors.Is(err, projections.ErrUsageMoved) {
		t.Errorf("merged from where nothing was: %v", err)
	}
	again.From, again.To = place(2), place(3)
	if err := store.MergeUsage(t.Context(), again); !errors.Is(err, projections.ErrUsageMoved) {
		t.Errorf("merged from beyond: %v", err)
	}
	// A report that was stored twice, in one batch and over two.
	mustMerge(t, store, place(1), place(5), usesOf("a", 1, 0, 1, 5), usesOf("a", 2, 0, 1, 10), usesOf("a", 2, 0, 1, 10), usesOf("a", 1, 0, 1, 5))
	mustDaily(t, store, 1, map[projections.Day]uint64{0: 15})
	// A stream that was put in the place of it, with the same reports and one more.
	other := projections.UsagePosition{Stream: 5, Seq: 3}
	mustMerge(t, store, place(5), other, usesOf("a", 1, 0, 1, 5), usesOf("a", 2, 0, 1, 10), usesOf("a", 3, 0, 1, 100), usesOf("b", 1, 0, 1, 1000))
	mustDaily(t, store, 1, map[projections.Day]uint64{0: 1115})
	mustPosition(t, store, other)
}

// testUsageAges: counts go when they are too old, and what is said of the future or
// of no key does no harm.
func testUsageAges(t *testing.T, s Suite) {
	store, _ := s.open(t)
	mustReplace(t, store, claims(projections.Checkpoint{}, 3, "key"))
	const last = projections.UsageDays - 1
	mustMerge(t, store, projections.UsagePosition{}, place(1), usesOf("a", 1, last, 1, 1), usesOf("a", 2, last+1, 1, 1), usesOf("a", 3, 0, 1, 1))
	mustDaily(t, store, 1, map[projections.Day]uint64{last: 1, 0: 1})
	later := projections.UsageBatch{From: place(1), To: place(2), Now: usageNow().Add(24 * time.Hour)}
	if err := store.MergeUsage(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	mustDaily(t, store, 1, map[projections.Day]uint64{0: 1})

	future := usesOf("a", 4, -1000, 2, 3)
	bad := usesOf("a", 5, 0, 2, 1<<63)
	bad.Uses = append(bad.Uses, projections.KeyUse{Key: "", At: usageNow(), Count: 1}, projections.KeyUse{Key: "a\x00b.*", At: usageNow(), Count: 1},
		projections.KeyUse{Key: keyID(3), Count: 1}, projections.KeyUse{Key: keyID(3), At: usageNow()})
	mustMerge(t, store, place(2), place(3), future, bad, bad)
	if got := used(t, store, keyID(2)); !got.Equal(usageNow()) {
		t.Errorf("last used at %s, which is not now", got)
	}
	mustDaily(t, store, 2, map[projections.Day]uint64{0: 1 << 53})
	mustDaily(t, store, 3, map[projections.Day]uint64{})
}

// testUsageModel merges random reports in random batches, some of them twice and some
// from a wrong place: what is there is what a map holds.
func testUsageModel(t *testing.T, s Suite) {
	rapid.Check(t, func(r *rapid.T) {
		store := s.Open(t, s.NewPlace(t))
		defer func() { _ = store.Close() }()
		want := map[int]map[projections.Day]uint64{0: {}, 1: {}, 2: {}}
		numbers, at := map[string]uint64{}, projections.UsagePosition{}
		for range rapid.IntRange(1, 6).Draw(r, "batches") {
			b := projections.UsageBatch{From: at, To: place(at.Seq + 1), Now: usageNow()}
			right := rapid.IntRange(0, 4).Draw(r, "place") > 0
			if !right {
				b.From.Seq += 7
			}
			for range rapid.IntRange(0, 5).Draw(r, "reports") {
				run := rapid.SampledFrom([]string{"a", "b"}).Draw(r, "run")
				number := numbers[run] + rapid.Uint64Range(0, 2).Draw(r, "number")
				key, ago := rapid.IntRange(0, 2).Draw(r, "key"), projections.Day(rapid.IntRange(0, 3).Draw(r, "ago"))
				count := rapid.Uint64Range(0, 3).Draw(r, "count")
				b.Reports = append(b.Reports, usesOf(run, number, ago, key, count))
				if right && number > numbers[run] {
					numbers[run] = number
					if count > 0 {
						want[key][ago] += count
					}
				}
			}
			err := store.MergeUsage(ctx(), b)
			if right && err != nil || !right && !errors.Is(err, projections.ErrUsageMoved) {
				r.Fatalf("merge: %v, from the right place: %v", err, right)
			}
			if right {
				at = b.To
			}
		}
		for key := range want {
			if got, err := daily(ctx(), store, key, 10, 0); err != nil || !maps.Equal(got, want[key]) {
				r.Fatalf("key %d: %v, %v, want %v", key, got, err, want[key])
			}
		}
	})
}
