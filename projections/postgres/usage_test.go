package postgres

import (
	"testing"
	"time"

	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// TestUsageOfBefore: the schema of a release that knew of last use only gets the other
// tables beside it, while nodes of that release go on with theirs.
func TestUsageOfBefore(t *testing.T) {
	url := postgrestest.MustDatabases(t).MustCreate(t)
	log := projectionstest.NewLog(projectionstest.Example(30, 1)...)
	first := mustOpen(t, url)
	projectionstest.Project(t, first, log, projections.Config{})
	at := time.UnixMicro(1900000000000000).UTC()
	mustExec(t, url, "DROP TABLE keyledger.usage_days, keyledger.usage_position, keyledger.usage_runs")
	mustExec(t, url, "INSERT INTO keyledger.usage VALUES ('key_0000000000000001', '"+at.Format(time.RFC3339Nano)+"')")

	store := mustOpen(t, url)
	day := projections.DayOf(at)
	if days, err := store.DailyUse(t.Context(), "key_0000000000000002", day, day); err != nil || len(days) > 0 {
		t.Errorf("before anything was merged: %v, %v", days, err)
	}
	for _, s := range []*Store{store, first, store} { // the first finds that they were dropped
		if err := projectionstest.Use(t.Context(), s, projections.KeyUse{Key: "key_0000000000000002", At: at, Count: 2}); err != nil {
			t.Fatal(err)
		}
	}
	projectionstest.Rebuild(t, store, log, projections.Config{})
	for _, id := range []string{"key_0000000000000001", "key_0000000000000002"} {
		var last time.Time
		if err := store.pool.QueryRow(t.Context(), "SELECT last_used_at FROM keyledger.usage WHERE key_id = $1", id).Scan(&last); err != nil || !last.Equal(at) {
			t.Errorf("%s was last used at %s, %v", id, last, err)
		}
	}
	if days, err := store.DailyUse(t.Context(), "key_0000000000000002", day, day); err != nil || len(days) != 1 || days[0].Count != 6 {
		t.Errorf("used %v, %v", days, err)
	}
	mustExec(t, url, "TRUNCATE keyledger.usage_position")
	if got, err := store.UsagePosition(t.Context()); err != nil || got != (projections.UsagePosition{}) {
		t.Errorf("the position is %+v, %v", got, err)
	}
	if err := projectionstest.Use(t.Context(), store, projections.KeyUse{Key: "key_0000000000000002", At: at, Count: 1}); err != nil {
		t.Error(err)
	}
}
