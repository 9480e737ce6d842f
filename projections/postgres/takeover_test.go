package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// takeOverWithin is how long a node may stay without the lead after another lost it.
const takeOverWithin = 5 * time.Second

type node struct {
	store     *Store
	projector *projections.Projector
	stop      context.CancelFunc
	ended     chan error
}

func mustNode(t *testing.T, url, name string, log projections.Log) *node {
	t.Helper()
	store := mustOpenConfig(t, Config{URL: url, Name: name})
	p, err := projections.New(projections.Config{Store: store, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	n := &node{store: store, projector: p, stop: stop, ended: make(chan error, 1)}
	go func() { n.ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-n.ended; err != nil {
			t.Errorf("node %s: %v", name, err)
		}
	})
	return n
}

// TestTakeOver: a lead that is lost, by its connection or with its node, is taken
// within 5 s, and no event takes effect twice.
func TestTakeOver(t *testing.T) {
	url := postgrestest.MustDatabases(t).MustCreate(t)
	log := projectionstest.NewLog(projectionstest.Example(100, 1)...)
	a, b := mustNode(t, url, "a", log), mustNode(t, url, "b", log)
	waitFor(t, log, a, b)
	admin, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
	for round := range 3 {
		const terminate = `SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1::bigint::oid AND objid = $2::bigint::oid AND granted`
		var n int
		if err := admin.QueryRow(t.Context(), terminate, int64(lockClass), int64(leadLock)).Scan(&n); err != nil || n != 1 {
			t.Fatalf("%d leads, %v", n, err)
		}
		log.Append(projectionstest.Example(30, 10+round)...)
		t.Logf("the connection was killed: level again after %s", waitFor(t, log, a, b))
	}
	state, err := b.store.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first, other := a, b
	if state.Leader == "b" {
		first, other = b, a
	}
	// As when the process ends: nothing is given back.
	for session := range first.sessions() {
		session.cut()
	}
	first.stop()
	log.Append(projectionstest.Example(30, 20)...)
	t.Logf("the node ended: level again after %s", waitFor(t, log, other))
	projectionstest.Check(t, other.store, log.Events())
	if found := projectionstest.Differences(t, other.store, log, projections.Config{}); len(found) > 0 {
		t.Errorf("found %+v", found)
	}
}

func (n *node) sessions() map[*session]struct{} {
	n.store.mu.Lock()
	defer n.store.mu.Unlock()
	open := make(map[*session]struct{})
	for c := range n.store.owned {
		open[c] = struct{}{}
	}
	return open
}

// waitFor waits until the nodes are level with the log.
func waitFor(t *testing.T, log *projectionstest.Log, nodes ...*node) time.Duration {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), takeOverWithin)
	defer cancel()
	head, err := log.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		// While nobody leads the wait may end at once, since the store is known to be away.
		for err := errors.New("not asked"); err != nil; {
			if err = n.projector.WaitFor(ctx, head); ctx.Err() != nil {
				t.Fatalf("after %s: %v; %+v", time.Since(start), err, n.projector.Status())
			}
		}
	}
	return time.Since(start).Round(time.Millisecond)
}
