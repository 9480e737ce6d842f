package verify_test

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is the time of every test's clock at first.
var start = time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC)

// fixture is a verifier with a clock, a feed and a source of keys.
type fixture struct {
	*verify.Verifier
	pepper  domain.Pepper
	seq     uint64
	offset  atomic.Int64 // of the clock from start, in nanoseconds
	entropy *rand.ChaCha8
}

// newFixture makes a verifier that nothing feeds yet.
func newFixture(tb testing.TB, change func(*verify.Config)) *fixture {
	tb.Helper()
	f := &fixture{pepper: MustPepper(tb, "p1"), entropy: rand.NewChaCha8([32]byte{1})}
	cfg := verify.Config{Peppers: []domain.Pepper{f.pepper}, Now: f.now}
	if change != nil {
		change(&cfg)
	}
	var err error
	if f.Verifier, err = verify.New(cfg); err != nil {
		tb.Fatalf("New: %v", err)
	}
	return f
}

// newReady makes a verifier whose feed runs and has reached the end of the log.
func newReady(tb testing.TB, change func(*verify.Config)) *fixture {
	tb.Helper()
	f := newFixture(tb, change)
	feed := MustRun(tb, f.Verifier)
	if err := feed.send(eventstore.Batch{CaughtUp: true}); err != nil {
		tb.Fatalf("the empty batch: %v", err)
	}
	return f
}

func (f *fixture) now() time.Time          { return start.Add(time.Duration(f.offset.Load())) }
func (f *fixture) advance(d time.Duration) { f.offset.Add(int64(d)) }

// event makes the next event of the log, about a key of the default account.
func (f *fixture) event(id domain.KeyID, data domain.Event) eventstore.Event {
	return f.eventOf(domain.DefaultAccount, id, data)
}

func (f *fixture) eventOf(account domain.AccountID, id domain.KeyID, data domain.Event) eventstore.Event {
	f.seq++
	return eventstore.Event{Seq: f.seq, Time: f.now(), Aggregate: eventstore.KeyAggregate(account, id), Data: data}
}

// apply feeds events about a key of the default account.
func (f *fixture) apply(tb testing.TB, id domain.KeyID, data ...domain.Event) {
	tb.Helper()
	for _, d := range data {
		f.Apply(tb.Context(), []eventstore.Event{f.event(id, d)})
	}
}

// spec makes the data of a new live key of the default account that may read
// invoices, and its token.
func (f *fixture) spec(tb testing.TB, change func(*domain.KeySpec)) (domain.KeySpec, string) {
	tb.Helper()
	tokenID, err := domain.RandomBase62(f.entropy, 16)
	if err != nil {
		tb.Fatal(err)
	}
	s := domain.KeySpec{
		ID: domain.NewKeyID(tokenID), Account: domain.DefaultAccount, Type: domain.KeyTypeAPI, Name: "test",
		Environment: domain.EnvironmentLive, Scopes: domain.Scopes{"invoices:read"}, PepperID: f.pepper.ID(),
	}
	if change != nil {
		change(&s)
	}
	secret, err := domain.TokenFormat{}.NewToken(s.Type, s.Environment, s.ID, f.entropy)
	if err != nil {
		tb.Fatal(err)
	}
	s.Mac = f.pepper.Mac(sha256.Sum256([]byte(secret.Reveal())))
	return s, secret.Reveal()
}

// create feeds the creation of a key and returns its id and token.
func (f *fixture) create(tb testing.TB, change func(*domain.KeySpec)) (domain.KeyID, string) {
	tb.Helper()
	s, token := f.spec(tb, change)
	f.Apply(tb.Context(), []eventstore.Event{f.eventOf(s.Account, s.ID, domain.KeyCreated{KeySpec: s, CreatedAt: f.now()})})
	return s.ID, token
}

// MustPepper makes the pepper that belongs to an id.
func MustPepper(tb testing.TB, id string) domain.Pepper {
	tb.Helper()
	key := sha256.Sum256([]byte(id))
	p, err := domain.NewPepper(id, key[:])
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// feed is a log of which a test sends every batch.
type feed struct {
	from    chan uint64
	batches chan eventstore.Batch
	handled chan error
	end     chan error
	ran     chan error // what Run returned
}

// MustRun runs the verifier on a feed until the test ends.
func MustRun(tb testing.TB, v *verify.Verifier) *feed {
	tb.Helper()
	f := &feed{
		from: make(chan uint64, 1), batches: make(chan eventstore.Batch), handled: make(chan error),
		end: make(chan error), ran: make(chan error, 1),
	}
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.ran <- v.Run(ctx, f)
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
	})
	<-f.from
	return f
}

func (f *feed) Tail(ctx context.Context, from uint64, handle func(context.Context, eventstore.Batch) error) error {
	f.from <- from
	for {
		select {
		case b := <-f.batches:
			err := handle(ctx, b)
			f.handled <- err
			if err != nil {
				return err
			}
		case err := <-f.end:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send hands over a batch and returns what the verifier said to it.
func (f *feed) send(b eventstore.Batch) error {
	f.batches <- b
	return <-f.handled
}

// sha256Of hashes a token.
func sha256Of(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }

// managementSpec makes a spec one of a management key.
func managementSpec(s *domain.KeySpec) {
	s.Type, s.Environment = domain.KeyTypeManagement, ""
	s.Scopes = domain.Scopes{domain.ScopeKeysRead, domain.ScopeKeysWrite}
	s.Grants = &domain.Grants{Environments: []domain.Environment{domain.EnvironmentLive}, Scopes: domain.Scopes{"invoices:read"}}
}

func expect(tb testing.TB, got verify.Result, want verify.Code) {
	tb.Helper()
	if got.Code != want {
		tb.Errorf("code %s, want %s", got.Code, want)
	}
}
