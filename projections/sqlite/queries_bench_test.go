package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// BenchmarkQueries measures ten representative queries on tables of
// KEYLEDGER_BENCH_KEYS keys (20,000), each with three events: every query with another
// account, key or moment. It reports the median and the 99th percentile.
func BenchmarkQueries(b *testing.B) {
	keys := 20_000
	if text := os.Getenv("KEYLEDGER_BENCH_KEYS"); text != "" {
		var err error
		if keys, err = strconv.Atoi(text); err != nil {
			b.Fatalf("KEYLEDGER_BENCH_KEYS: %v", err)
		}
	}
	store := mustOpenDefault(b, b.TempDir())
	defer func() { _ = store.Close() }()
	start := time.Now()
	mustBuildKeys(b, store, keys)
	b.Logf("%d keys built in %s", keys, time.Since(start).Round(time.Millisecond))
	for _, q := range benchQueries(store, keys) {
		b.Run(q.name, func(b *testing.B) {
			random := rand.New(rand.NewPCG(3, 4))
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				if err := q.run(b.Context(), random); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(0, "ns/op")
		})
	}
}

type benchQuery struct {
	name string
	run  func(context.Context, *rand.Rand) error
}

func benchQueries(store *Store, keys int) []benchQuery {
	now := benchTime(keys).AddDate(0, 1, 0)
	list := func(q projections.KeyQuery) func(context.Context, *rand.Rand) error {
		return func(ctx context.Context, random *rand.Rand) error {
			q := q
			q.Now = now
			if q.Account != "" {
				q.Account = benchAccount(random.IntN(1000))
			}
			_, err := store.Keys(ctx, q)
			return err
		}
	}
	moment := func(random *rand.Rand) *projections.Moment {
		n := random.IntN(keys)
		return &projections.Moment{Seq: uint64(3*n + 1), Time: benchTime(n)}
	}
	return []benchQuery{
		{"newest", list(projections.KeyQuery{})},
		{"account-active", list(projections.KeyQuery{Account: "x", Status: domain.StatusActive})},
		{"account-by-name", list(projections.KeyQuery{Account: "x", Sort: projections.SortName})},
		{"expiring-next", list(projections.KeyQuery{Sort: projections.SortExpires, Status: domain.StatusActive})},
		{"text-that-is-nowhere", list(projections.KeyQuery{Text: "nowhere"})},
		{"account-unused-since", list(projections.KeyQuery{Account: "x", Sort: projections.SortUsed, UnusedSince: now})},
		{"key-at", func(ctx context.Context, random *rand.Rand) error {
			n := random.IntN(keys)
			_, err := store.Key(ctx, benchKey(n), &projections.Moment{Seq: uint64(3*n + 2), Time: now})
			return err
		}},
		{"account-at", func(ctx context.Context, random *rand.Rand) error {
			_, err := store.Keys(ctx, projections.KeyQuery{Account: benchAccount(random.IntN(1000)), At: moment(random)})
			return err
		}},
		{"audit-of-key", func(ctx context.Context, random *rand.Rand) error {
			_, err := store.Audit(ctx, projections.AuditQuery{Key: benchKey(random.IntN(keys))})
			return err
		}},
		{"audit-of-account-in-an-hour", func(ctx context.Context, random *rand.Rand) error {
			from := benchTime(random.IntN(keys))
			_, err := store.Audit(ctx, projections.AuditQuery{
				Account: benchAccount(random.IntN(1000)), Clock: projections.TimeRange{From: from, Before: from.Add(time.Hour)},
			})
			return err
		}},
	}
}

// benchTime is when a key was created.
func benchTime(n int) time.Time { return time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC) }

// mustBuildKeys builds tables of keys that were created, renamed and, every fourth,
// revoked or else renamed again.
func mustBuildKeys(b *testing.B, store *Store, keys int) {
	b.Helper()
	build, err := store.Build(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	at := projections.Checkpoint{}
	for from := 0; from < keys; from += 1000 {
		batch := projections.Batch{From: at}
		for n := from; n < min(from+1000, keys); n++ {
			at = benchVersions(&batch, n)
		}
		batch.To = at
		if err := build.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	for _, step := range [...]func(context.Context) error{build.Complete, build.Swap, build.Discard} {
		if err := step(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// benchVersions adds three events of a key, and returns the last.
func benchVersions(batch *projections.Batch, n int) projections.Checkpoint {
	created := uint64(3*n + 1)
	clock := benchTime(n)
	key := domain.Key{KeySpec: domain.KeySpec{
		ID: benchKey(n), Account: benchAccount(n), Type: domain.KeyTypeAPI, Name: fmt.Sprintf("service %d of the billing team", n),
		Environment: domain.EnvironmentLive, Scopes: domain.Scopes{"clients:read", "invoices:read", "invoices:write"},
		Display: fmt.Sprintf("sk_live_%08d…", n), ExpiresAt: clock.AddDate(1, 0, 0), Metadata: map[string]string{"team": "billing"},
	}, CreatedBy: "key_operator0000000000", CreatedAt: clock, UpdatedAt: clock}
	actions := [...]projections.Action{projections.ActionKeyCreated, projections.ActionKeyUpdated, projections.ActionKeyUpdated}
	id := ""
	for i, action := range actions {
		seq := created + uint64(i)
		if i == 2 && n%4 == 0 {
			action, key.RevokedAt = projections.ActionKeyRevoked, clock
		}
		key.Version++
		version := projections.KeyVersion{KeyRecord: projections.KeyRecord{Key: key, Seq: seq, CreatedSeq: created}}
		if i < 2 {
			version.ToSeq = seq + 1
		}
		id = fmt.Sprintf("event-%d", seq)
		batch.Versions = append(batch.Versions, version)
		batch.Audit = append(batch.Audit, projections.AuditEntry{
			Seq: seq, Time: clock, Clock: clock, Account: key.Account, Actor: key.CreatedBy, Action: action, Command: domain.CommandUpdateKey,
			Subject: string(key.ID), Changes: []projections.Change{{Field: "name", After: []byte(`"x"`)}},
			CommandID: fmt.Sprintf("command-%d", seq), RequestID: fmt.Sprintf("request-%d", seq), EventID: id,
		})
	}
	return projections.Checkpoint{Seq: created + 2, EventID: id, Clock: clock}
}
