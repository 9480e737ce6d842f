package sqlite

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// TestCancelledWrites: whenever the context of a write ends, the writer is as good
// as before.
func TestCancelledWrites(t *testing.T) {
	const seed = 4
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	store := mustOpen(t, t.TempDir())
	defer mustClose(t, store)
	log := someLog(t)
	projectionstest.Project(t, store, log, projections.Config{})
	lead := mustLead(t, store)
	defer func() { _ = lead.Close(t.Context()) }()
	at, err := lead.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A batch that cannot be applied leaves no trace, however far it comes.
	elsewhere := projections.Batch{From: projections.Checkpoint{Seq: at.Seq, EventID: "another"}, To: at}
	for range 2000 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(200))*time.Microsecond)
		err := lead.Write(ctx, elsewhere)
		uses := projectionstest.Use(ctx, store, projections.KeyUse{Key: "key_none", At: projectionstest.Start()})
		_, loads := lead.Load(ctx, projections.Lookup{Keys: []domain.KeyID{"key_none"}})
		_, reads := store.Keys(ctx, projections.KeyQuery{Now: projectionstest.Start()})
		cancel()
		for doing, err := range map[string]error{"write": err, "use": uses, "load": loads, "read": reads} {
			if err != nil && !errors.Is(err, projections.ErrCheckpointMoved) && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%s: %v", doing, err)
			}
		}
	}
	if err := lead.Write(t.Context(), elsewhere); !errors.Is(err, projections.ErrCheckpointMoved) {
		t.Errorf("write: %v", err)
	}
	if err := lead.Write(t.Context(), projections.Batch{From: at, To: at}); err != nil {
		t.Errorf("write: %v", err)
	}
}

func mustLead(t *testing.T, store *Store) projections.Lead {
	t.Helper()
	lead, err := store.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return lead
}
