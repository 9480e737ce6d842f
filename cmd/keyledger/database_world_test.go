package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
)

// databaseWorld is three nodes, as processes, on one log and one PostgreSQL, with
// clients that write through each of them and check a key on each of them all the
// time, whatever becomes of the database.
type databaseWorld struct {
	t        *testing.T
	postgres *postgrestest.Server
	database string // its name
	nodes    []*process
	operator string // token

	written  atomic.Int64 // commands that were acknowledged
	created  atomic.Int64 // keys among them
	mu       sync.Mutex
	troubles []error // commands and checks that failed
	checks   []time.Duration
}

func newDatabaseWorld(t *testing.T) *databaseWorld {
	t.Helper()
	w := &databaseWorld{t: t, postgres: postgrestest.MustServer(t)}
	natsServer, err := embedded.Start(t.Context(), embedded.Config{
		DataDir: t.TempDir(), Listen: "127.0.0.1:0", Sync: embedded.SyncLazy,
		Users: map[string]string{"node": "secret"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = natsServer.Shutdown(context.Background()) }) //nolint:usetesting // the test's context has ended by then
	program, dir := mustBuild(t), t.TempDir()
	password, keyring := filepath.Join(dir, "password"), filepath.Join(dir, "keyring.json")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program, "keyring", "create", keyring).CombinedOutput(); err != nil {
		t.Fatalf("make the keyring: %v\n%s", err, out)
	}
	flags := withFlags("--nats-url", natsServer.ClientURL(), "--nats-replicas", "1", "--nats-user", "node",
		"--nats-password-file", password, "--keyring", keyring)
	address := w.postgres.MustDatabase(t)
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	w.database = config.Database
	inDatabase := func(cmd *exec.Cmd) { cmd.Env = append(cmd.Environ(), "KEYLEDGER_DATABASE_URL="+address) }
	for i := range 3 {
		w.nodes = append(w.nodes, mustServe(t, program, filepath.Join(dir, fmt.Sprintf("node%d", i+1)), flags, inDatabase))
	}
	w.operator = w.nodes[0].operator()
	return w
}

func (w *databaseWorld) trouble(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.troubles = append(w.troubles, fmt.Errorf(format, args...))
}

// pace is how often a client begins something: three of each kind must leave a machine
// of two cores, which runs other tests besides, the time to catch up.
const pace = 20 * time.Millisecond

// write sends commands through a node until ctx ends: create, update, and revoke
// every second key.
func (w *databaseWorld) write(ctx context.Context, node *process) {
	c := node.client(w.operator)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		<-tick.C
		out, err := c.CreateKey(ctx, client.CreateKeyRequest{Name: fmt.Sprintf("key %d", n), Environment: "live", FullAccess: true})
		if err == nil {
			w.created.Add(1)
			w.written.Add(1)
			name := fmt.Sprintf("key %d, renamed", n)
			_, err = c.UpdateKey(ctx, out.Key.ID, client.UpdateKeyRequest{Name: &name})
		}
		if err == nil && n%2 == 0 {
			w.written.Add(1)
			_, err = c.RevokeKey(ctx, out.Key.ID, client.RevokeKeyRequest{Reason: "the test"})
		}
		switch {
		case err == nil:
			w.written.Add(1)
		case ctx.Err() == nil:
			w.trouble("a command failed: %w", err)
			return
		}
	}
}

// check verifies a key on a node until ctx ends.
func (w *databaseWorld) check(ctx context.Context, node *process, token string) {
	c := node.client(w.operator)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		began := time.Now()
		result, err := c.Verify(ctx, client.VerifyRequest{Key: token})
		took := time.Since(began)
		switch {
		case ctx.Err() != nil:
		case err != nil || !result.Valid:
			w.trouble("a check said %+v, %v", result, err)
			return
		default:
			w.mu.Lock()
			w.checks = append(w.checks, took)
			w.mu.Unlock()
		}
	}
}

// phase waits until n more commands were acknowledged, and prints how long checks
// took meanwhile.
func (w *databaseWorld) phase(name string, n int64) {
	w.t.Helper()
	w.mu.Lock()
	w.checks = nil
	w.mu.Unlock()
	began, before := time.Now(), w.written.Load()
	eventually(w.t, fmt.Sprintf("%s: %d commands are acknowledged", name, n), func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if err := errors.Join(w.troubles...); err != nil {
			w.t.Fatalf("%s: %v", name, err)
		}
		return w.written.Load() >= before+n
	})
	took := time.Since(began)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.checks) == 0 {
		w.t.Fatalf("%s: no check was answered", name)
	}
	slices.Sort(w.checks)
	w.t.Logf("%-28s %4.0f commands/s, %5d checks: median %v, 99 %% within %v", name+":", float64(n)/took.Seconds(),
		len(w.checks), w.checks[len(w.checks)/2].Round(time.Microsecond), w.checks[len(w.checks)*99/100].Round(time.Microsecond))
}

// mustRefuseReads waits until every node that runs refuses a list with 503, one of
// the codes and Retry-After, and says in /readyz that it does without its tables.
func (w *databaseWorld) mustRefuseReads(what string, codes ...string) {
	w.t.Helper()
	for _, node := range w.nodes {
		var last error
		eventually(w.t, what+": reads are refused", func() bool {
			_, last = node.client(w.operator).ListKeys(w.t.Context(), client.KeyQuery{PageSize: 1})
			e, ok := errors.AsType[*client.Error](last)
			if last != nil && (!ok || e.Status != 503 || !slices.Contains(codes, e.Code) || e.RetryAfter <= 0) {
				w.t.Fatalf("%s: a list answers %v", what, last)
			}
			return last != nil
		})
		var ready client.Readiness
		eventually(w.t, what+": readiness shows it", func() bool {
			ready, last = node.client("").Ready(w.t.Context())
			if last != nil || !ready.Ready {
				w.t.Fatalf("%s: readiness is %+v, %v", what, ready, last)
			}
			return slices.ContainsFunc(ready.Parts, func(p client.ReadinessPart) bool { return p.Name == "tables" && !p.Ready && p.Error != "" })
		})
	}
}

// followWithin is how long tables may take to follow again. Under the race detector's
// other tests it is mostly waiting for a turn.
const followWithin = 2 * time.Minute

// mustCatchUp waits until lists and states of the nodes are level with the log,
// without anybody's help.
func (w *databaseWorld) mustCatchUp(what string, nodes ...*process) {
	w.t.Helper()
	began := time.Now()
	for _, node := range nodes {
		c := node.client(w.operator)
		w.t.Cleanup(func() {
			if w.t.Failed() {
				w.explain(what, node)
			}
		})
		node.await("level: "+what, followWithin, func() bool {
			out, err := c.CreateKey(w.t.Context(), client.CreateKeyRequest{Name: "witness", Environment: "test", FullAccess: true})
			if err != nil {
				w.t.Fatalf("%s: %v", what, err)
			}
			w.created.Add(1)
			_, err = c.Key(w.t.Context(), out.Key.ID)
			return err == nil
		})
	}
	w.t.Logf("%s: every node's tables followed again after %v", what, time.Since(began).Round(time.Millisecond))
}

// explain says what a node knows of its tables.
func (w *databaseWorld) explain(what string, node *process) {
	state, err := node.client(w.operator).Projections(context.Background())
	w.t.Logf("%s: %+v, %v", what, state, err)
	text, err := os.ReadFile(node.log)
	if err != nil {
		w.t.Log(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "projector") || strings.Contains(line, "level=ERROR") {
			w.t.Log(line)
		}
	}
}

// leader returns the node that writes to the tables, nil if none says so.
func (w *databaseWorld) leader(nodes ...*process) *process {
	for _, node := range nodes {
		if state, err := node.client(w.operator).Projections(w.t.Context()); err == nil && state.Leading {
			return node
		}
	}
	return nil
}
