package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/projections/postgres/postgrestest"
)

// mustUsage waits until a key was used so often, as far as is merged.
func (w *testWorld) mustUsage(t *testing.T, id string, want uint64) client.KeyUsage {
	t.Helper()
	var usage client.KeyUsage
	eventually(t, "the uses are merged", func() bool {
		w.mustDecode(t, &usage, "keys", "usage", id)
		return usage.Total >= want
	})
	if usage.Total != want {
		t.Errorf("%s was used %d times, want %d", id, usage.Total, want)
	}
	return usage
}

func (w *testWorld) mustVerify(t *testing.T, token string, times int) {
	t.Helper()
	for range times {
		if r := w.cli(t, token, "verify"); r.code != exitOK {
			t.Fatalf("verify: %+v", r)
		}
	}
}

// TestUsageOutlivesNodes: what was used before a node ended is known to the next,
// after a rebuild too, and a rotated key says whether it was used since.
func TestUsageOutlivesNodes(t *testing.T) {
	for name, database := range map[string]func(*testing.T) string{
		"sqlite":     func(*testing.T) string { return "" },
		"postgresql": func(t *testing.T) string { t.Helper(); return postgrestest.MustDatabases(t).MustCreate(t) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestWorld(t)
			w.env["KEYLEDGER_DATABASE_URL"] = database(t)
			w.mustStart(t)
			token, id := w.mustCreate(t, "--name", "used", "--environment", "live", "--full-access")
			w.mustVerify(t, token, 3)
			begun := time.Now()
			w.mustStop(t)
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it ended after %v", took)
			}
			w.mustStart(t)
			usage := w.mustUsage(t, id, 3)
			if usage.LastUsedAt == nil || time.Since(*usage.LastUsedAt) > time.Minute || usage.LastUsedAt.After(time.Now()) {
				t.Errorf("last used at %v", usage.LastUsedAt)
			}
			w.must(t, "projections", "rebuild")
			w.must(t, "projections", "check")
			w.mustUsage(t, id, 3)
			if text := w.must(t, "keys", "usage", id); !strings.Contains(text, strings.Repeat("█", barWidth)) {
				t.Errorf("keys usage prints %s", text)
			}

			w.must(t, "keys", "rotate", id, "--overlap", "24h")
			var key, next client.Key
			w.mustDecode(t, &key, "keys", "show", id)
			if key.ReplacedBy == "" || key.LastUsedSinceRotationAt != nil {
				t.Errorf("a key that was rotated: %+v", key)
			}
			w.mustDecode(t, &next, "keys", "show", key.ReplacedBy)
			if next.RotatedFrom != id {
				t.Errorf("the new key: %+v", next)
			}
			if text := w.must(t, "keys", "show", id); !strings.Contains(text, "not used since the rotation") || !strings.Contains(text, key.ReplacedBy) {
				t.Errorf("keys show prints %s", text)
			}
			w.mustVerify(t, token, 1)
			w.mustStop(t)
			w.mustStart(t)
			w.mustUsage(t, id, 4)
			if text := w.must(t, "keys", "show", id); !strings.Contains(text, "ago, after the rotation") {
				t.Errorf("keys show prints %s", text)
			}
			if text := w.must(t, "keys", "show", id, "--seq", "3"); strings.Contains(text, "since the rotation") || strings.Contains(text, "after the rotation") {
				t.Errorf("keys show of the past prints %s", text)
			}
			var operator client.KeyPage
			w.mustDecode(t, &operator, "keys", "list", "--management")
			if len(operator.Keys) != 1 || operator.Keys[0].LastUsedAt == nil {
				t.Errorf("the operator was not used: %+v", operator.Keys)
			}
		})
	}
}

// TestUsageOfKilledNode: what was reported before a node was killed is kept and counts
// once; of what was not, no more is lost than that.
func TestUsageOfKilledNode(t *testing.T) {
	program := mustBuild(t)
	dir := filepath.Join(t.TempDir(), "data")
	w := &testWorld{dataDir: dir, env: map[string]string{"KEYLEDGER_DATA_DIR": dir}}
	p := mustServe(t, program, dir)
	token, id := w.mustCreate(t, "--name", "n", "--environment", "live", "--full-access")
	w.mustVerify(t, token, 5)
	p.stop()
	p = mustServe(t, program, dir)
	w.mustUsage(t, id, 5)
	w.mustVerify(t, token, 2)
	p.kill()
	p = mustServe(t, program, dir)
	defer p.stop()
	var usage client.KeyUsage
	w.mustDecode(t, &usage, "keys", "usage", id)
	if usage.Total < 5 || usage.Total > 7 {
		t.Errorf("used %d times, of 7 of which 5 were reported for certain", usage.Total)
	}
}

// TestUsageIsReportedWhileANodeRuns does not wait for its end.
func TestUsageIsReportedWhileANodeRuns(t *testing.T) {
	w := newTestWorld(t)
	command := serveCommand{Addr: "127.0.0.1:0", DataDir: w.dataDir, Sync: "always", NATSListen: "none"}
	s, err := command.settings()
	if err != nil {
		t.Fatal(err)
	}
	s.usageEvery = 200 * time.Millisecond
	n, err := startNode(t.Context(), s, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- n.run(ctx, func() { close(ready) }) }()
	<-ready
	token, id := w.mustCreate(t, "--name", "n", "--environment", "live", "--full-access")
	for round := range uint64(3) {
		w.mustVerify(t, token, 2)
		w.mustUsage(t, id, 2*round+2)
	}
	families, err := n.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range families {
		seen[f.GetName()] = true
	}
	for _, name := range []string{"keyledger_usage_reports_total", "keyledger_usage_pending_keys", "keyledger_usage_merged_reports_total", "keyledger_usage_merge_lag_seconds"} {
		if !seen[name] {
			t.Errorf("there is no metric %s", name)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
