package verify_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
	"github.com/keyledger/keyledger/verify"
)

// benchKeys is the size of the table in benchmarks; benchAccounts own them.
const benchKeys, benchAccounts = 1_000_000, 10_000

// window is how many checks are timed together.
const window = 1000

// BenchmarkVerify checks keys out of a million in random order: the table is cold
// for every one. The tokens are read in the order in which they lie in memory, as
// a door has just received the one that it checks. B/key is what the table keeps
// on the heap. The median is over windows of checks: other work on the machine
// takes away whole windows. Hashing alone is the floor under a check.
func BenchmarkVerify(b *testing.B) {
	before := heap()
	f := newReady(b, func(c *verify.Config) { c.Now = time.Now })
	tokens := fill(b, f)
	kept := heap() - before - int64(len(tokens))
	req := verify.Requirement{Scopes: []domain.Scope{"invoices:read"}, Environment: domain.EnvironmentLive}

	b.Run("one core", func(b *testing.B) {
		b.ReportAllocs()
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		var windows []time.Duration
		begin := time.Now()
		for i := 1; b.Loop(); i++ {
			if got := f.Verify(tokens.at(i%benchKeys), req); got.Code != verify.CodeValid {
				b.Fatal(got.Code)
			}
			if i%window == 0 {
				now := time.Now()
				windows = append(windows, now.Sub(begin))
				begin = now
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checks/s")
		b.ReportMetric(float64(kept)/benchKeys, "B/key")
		if len(windows) > 0 {
			slices.Sort(windows)
			median := float64(windows[len(windows)/2].Nanoseconds()) / window
			b.ReportMetric(median, "median-ns/check")
			limit(b, "median ns/check", median, 1000)
		}
		limit(b, "B/key", float64(kept)/benchKeys, 300)
	})
	b.Run("hashing alone", func(b *testing.B) {
		var token [tokenLength]byte
		for i := 0; b.Loop(); i++ {
			copy(token[:], tokens.at(i%benchKeys))
			f.pepper.Mac(sha256.Sum256(token[:]))
		}
	})
	b.Run("all cores", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.IntN(benchKeys); pb.Next(); i++ {
				if got := f.Verify(tokens.at(i%benchKeys), req); got.Code != verify.CodeValid {
					b.Error(got.Code)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checks/s")
	})
	runtime.KeepAlive(f)
}

// limit prints a figure beside the limit of the design.
func limit(b *testing.B, what string, got, most float64) {
	b.Helper()
	verdict := "ok"
	if got > most {
		verdict = "MISSED"
	}
	b.Logf("%s: %.0f, limit %.0f: %s", what, got, most, verdict)
}

// heap returns the bytes that live objects take.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// tokenList keeps tokens in one piece, so that their own memory is known.
type tokenList string

const tokenLength = len("sk_live_") + 54

func (l tokenList) at(i int) string { return string(l[i*tokenLength : (i+1)*tokenLength]) }

// fill applies the creation of the keys, in batches as a tail hands them over, and
// returns their tokens in another, random order.
func fill(tb testing.TB, f *fixture) tokenList {
	tb.Helper()
	text := make([]byte, benchKeys*tokenLength)
	place := rand.New(rand.NewPCG(1, 1)).Perm(benchKeys)
	batch := make([]eventstore.Event, 0, 1000)
	for i := range benchKeys {
		e, token := benchEvent(tb, f, i)
		copy(text[place[i]*tokenLength:], token)
		if batch = append(batch, e); len(batch) == cap(batch) {
			f.Apply(tb.Context(), batch)
			clear(batch)
			batch = batch[:0]
		}
	}
	if got := f.Stats(); got != (verify.Stats{Keys: benchKeys}) {
		tb.Fatalf("filled %+v", got)
	}
	return tokenList(text)
}

// benchEvent makes the creation of key i; every second key expires.
func benchEvent(tb testing.TB, f *fixture, i int) (eventstore.Event, string) {
	tb.Helper()
	account := domain.AccountID(fmt.Sprintf("acct_%08d", i%benchAccounts))
	spec, token := f.spec(tb, func(s *domain.KeySpec) {
		s.Account = account
		s.Scopes = domain.Scopes{"clients:read", "invoices:read"}
		if i%2 == 0 {
			s.ExpiresAt = time.Now().AddDate(1, 0, 0).UTC()
		}
	})
	return f.eventOf(account, spec.ID, domain.KeyCreated{KeySpec: spec, CreatedBy: "key_operator", CreatedAt: start}), token
}

// BenchmarkReady measures how long a verifier takes to read a log to its end,
// against a tail of the same log that only decodes.
func BenchmarkReady(b *testing.B) {
	const keys, perAppend = 100_000, 100
	log := eventstoretest.MustEmbedded(b)
	f := newFixture(b, nil)
	for from := 0; from < keys; from += perAppend {
		var changes []eventstore.Change
		for i := range perAppend {
			e, _ := benchEvent(b, f, from+i)
			changes = append(changes, eventstore.Change{Aggregate: e.Aggregate, Events: []domain.Event{e.Data}})
		}
		eventstoretest.MustAppend(b, log, meta(fmt.Sprint(from)), changes...)
	}
	decode := func() time.Duration {
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		begin := time.Now()
		err := log.Tail(ctx, 1, func(_ context.Context, batch eventstore.Batch) error {
			if batch.CaughtUp {
				cancel()
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			b.Fatal(err)
		}
		return time.Since(begin)
	}
	fill := func() time.Duration {
		v := newFixture(b, nil)
		begin := time.Now()
		mustFollow(b, v.Verifier, log)
		took := time.Since(begin)
		if got := v.Stats(); got != (verify.Stats{Keys: keys}) {
			b.Fatalf("filled %+v", got)
		}
		return took
	}
	decode() // the first reader warms what both need
	var decoded, filled time.Duration
	for b.Loop() {
		decoded += decode()
		filled += fill()
	}
	b.ReportMetric(keys*float64(b.N)/filled.Seconds(), "keys/s")
	b.ReportMetric(filled.Seconds()/decoded.Seconds(), "x-of-decoding")
	b.Logf("ready in %.2f x the time of decoding, limit 1.30", filled.Seconds()/decoded.Seconds())
}
