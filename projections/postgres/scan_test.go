package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// TestStopped: a search has stopped when there are more keys than it may look at,
// and not when there are as many.
func TestStopped(t *testing.T) {
	store := mustOpen(t, postgrestest.MustDatabases(t).MustCreate(t))
	projectionstest.Project(t, store, projectionstest.NewLog(projectionstest.Example(60, 1)...), projections.Config{})
	now := time.Now()
	count, err := store.CountKeys(t.Context(), projections.KeyQuery{Now: now})
	if err != nil || count.Keys < 3 || count.AtLeast {
		t.Fatalf("%+v, %v", count, err)
	}
	for _, at := range [...]*projections.Moment{nil, {Seq: 1 << 40, Time: now}} {
		plan, err := projections.KeyQuery{Now: now, At: at, CreatedBy: "nobody"}.Plan()
		if err != nil {
			t.Fatal(err)
		}
		for scan, stopped := range map[int]bool{count.Keys - 1: true, count.Keys: false, count.Keys + 1: false} {
			plan.Scan = scan
			err := store.read(t.Context(), "test", func(ctx context.Context, tx pgx.Tx, schema string) error {
				l, args := keysList(&plan, schema)
				last, err := lastKey(ctx, tx, &plan, &l, args)
				if err == nil && (last != nil) != stopped {
					t.Errorf("%d of %d keys, at %v: stopped at %+v", scan, count.Keys, at, last)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
}
