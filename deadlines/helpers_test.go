package deadlines

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLog is a log in memory that keeps the promises of eventstore.Log about
// expectations, and breaks others when a test says so. Its lease is a mutex.
type fakeLog struct {
	mu     sync.Mutex
	events []eventstore.Event
	last   map[eventstore.Aggregate]uint64
	grown  chan struct{}
	// fail is asked before each append of the clock: whether it is stored all the
	// same, and the error that it ends with; no error lets it pass. nil: never.
	fail func(changes []eventstore.Change) (stored bool, err error)

	lease   chan struct{}
	appends atomic.Int64 // of the clock
}

func newFakeLog() *fakeLog {
	return &fakeLog{last: map[eventstore.Aggregate]uint64{}, grown: make(chan struct{}), lease: make(chan struct{}, 1)}
}

func (l *fakeLog) Tail(ctx context.Context, from uint64, handle func(context.Context, eventstore.Batch) error) error {
	for {
		l.mu.Lock()
		events, grown := slices.Clone(l.events[from-1:]), l.grown
		l.mu.Unlock()
		if err := handle(ctx, eventstore.Batch{Events: events, CaughtUp: true}); err != nil {
			return err
		}
		from += uint64(len(events))
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *fakeLog) Append(ctx context.Context, meta eventstore.Meta, changes ...eventstore.Change) ([]eventstore.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	fail := l.fail
	l.mu.Unlock()
	stored, err := true, error(nil)
	if meta.Actor == domain.SystemActor {
		l.appends.Add(1)
		if fail != nil {
			stored, err = fail(changes)
		}
	}
	if err != nil && !stored {
		return nil, err
	}
	events, appendErr := l.append(meta, changes)
	if err != nil {
		return nil, err
	}
	return events, appendErr
}

func (l *fakeLog) append(meta eventstore.Meta, changes []eventstore.Change) ([]eventstore.Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		if l.last[c.Aggregate] != c.ExpectedSeq {
			return nil, eventstore.ErrConflict
		}
	}
	first := len(l.events)
	for _, c := range changes {
		for _, data := range c.Events {
			seq := uint64(len(l.events) + 1)
			l.events = append(l.events, eventstore.Event{
				Seq: seq, Time: meta.Time, Aggregate: c.Aggregate, Actor: meta.Actor, Command: meta.Command, CommandID: meta.CommandID, Data: data,
			})
			l.last[c.Aggregate] = seq
		}
	}
	close(l.grown)
	l.grown = make(chan struct{})
	return slices.Clone(l.events[first:]), nil
}

func (l *fakeLog) Head(ctx context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.events)), ctx.Err()
}

func (l *fakeLog) Hold(ctx context.Context, _ eventstore.LeaseConfig, work func(context.Context) error) error {
	select {
	case l.lease <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.lease }()
	return work(ctx)
}

func (l *fakeLog) failWith(fail func([]eventstore.Change) (bool, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

// history returns the events so far.
func (l *fakeLog) history() []eventstore.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// world is a log with keys, a clock that can be set, and workers, inside a bubble of
// testing/synctest.
type world struct {
	t    *testing.T
	log  *fakeLog
	cfg  Config
	step atomic.Int64 // what the clock is ahead of time, in ns
	stop map[string]func()
}

func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, log: newFakeLog(), stop: map[string]func(){}}
	w.cfg = Config{Log: w.log, Lease: w.log, Now: w.now, Patience: -1}
	if change != nil {
		change(&w.cfg)
	}
	t.Cleanup(func() {
		for name := range maps.Clone(w.stop) {
			w.end(name)
		}
	})
	return w
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.step.Load())) }

// set sets the clock to another time, as an administrator would.
func (w *world) set(by time.Duration) { w.step.Add(int64(by)) }

// pass lets time pass, until everything that it brings about is done.
func (w *world) pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's time, which this lets pass
	synctest.Wait()
}

// until lets time pass up to an instant of the clock.
func (w *world) until(at time.Time) { w.pass(at.Sub(w.now())) }

// begin starts a node's worker.
func (w *world) begin(name string) *Worker {
	w.t.Helper()
	worker, err := New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- worker.Run(ctx) }()
	w.stop[name] = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}
	synctest.Wait()
	return worker
}

// end stops a node's worker.
func (w *world) end(name string) {
	if stop := w.stop[name]; stop != nil {
		delete(w.stop, name)
		stop()
	}
}

// state folds a key's events.
func (w *world) state(id domain.KeyID) (k domain.Key, seq uint64) {
	for _, e := range w.log.history() {
		if own, ok := e.Data.(domain.KeyEvent); ok && e.Aggregate.ID == string(id) {
			k, seq = domain.Evolve(k, own), e.Seq
		}
	}
	return k, seq
}

// create makes a key; a zero expiry means never.
func (w *world) create(id domain.KeyID, expires time.Time) {
	w.t.Helper()
	w.command(id, domain.CreateKey{KeySpec: spec(id, expires), Actor: "key_operator"})
}

// createMany makes the keys k000, k001 and so on.
func (w *world) createMany(n int, expires time.Time) {
	w.t.Helper()
	changes := make([]eventstore.Change, n)
	for i := range changes {
		s := spec(domain.KeyID(fmt.Sprintf("k%03d", i)), expires)
		changes[i] = change(s.ID, 0, domain.KeyCreated{KeySpec: s, CreatedAt: w.now()})
	}
	if _, err := w.log.append(eventstore.Meta{Time: w.now(), Actor: "key_operator", Command: domain.CommandCreateKey}, changes); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

func spec(id domain.KeyID, expires time.Time) domain.KeySpec {
	return domain.KeySpec{
		ID: id, Account: domain.DefaultAccount, Type: domain.KeyTypeAPI, Name: "test", Environment: domain.EnvironmentLive,
		Scopes: domain.Scopes{"*"}, Mac: sha256.Sum256([]byte(id)), PepperID: "p", Display: "sk_live_…", ExpiresAt: expires,
	}
}

func (w *world) move(id domain.KeyID, expires time.Time) {
	w.t.Helper()
	w.command(id, domain.UpdateKey{Expiry: &domain.Expiry{At: expires}})
}

func (w *world) rename(id domain.KeyID, name string) {
	w.t.Helper()
	w.command(id, domain.UpdateKey{Name: &name})
}

func (w *world) revoke(id domain.KeyID) {
	w.t.Helper()
	w.command(id, domain.RevokeKey{Reason: "the test"})
}

// command carries out a command as command.Handler does, on what the log says now.
func (w *world) command(id domain.KeyID, c domain.KeyCommand) {
	w.t.Helper()
	if err := w.try(id, c); err != nil {
		w.t.Fatalf("%s of %s: %v", c.Command(), id, err)
	}
	synctest.Wait()
}

func (w *world) try(id domain.KeyID, c domain.KeyCommand) error {
	k, seq := w.state(id)
	now := w.now().UTC().Truncate(time.Microsecond)
	own, err := domain.Decide(k, c, now)
	if err != nil || len(own) == 0 {
		return err
	}
	changes := []eventstore.Change{change(id, seq, own...)}
	if r, ok := c.(domain.RotateKey); ok {
		successor, err := domain.Decide(domain.Key{}, domain.Successor(k, r), now)
		if err != nil {
			return err
		}
		changes = append(changes, change(r.NewID, 0, successor...))
	}
	_, err = w.log.Append(context.Background(), eventstore.Meta{Time: now, Actor: "key_operator", Command: c.Command(), CommandID: "test"}, changes...)
	return err
}

func (w *world) rotate(id, successor domain.KeyID, overlap time.Duration) {
	w.t.Helper()
	w.command(id, domain.RotateKey{
		NewID: successor, NewMac: sha256.Sum256([]byte(successor)), PepperID: "p", Display: "sk_live_…", Overlap: overlap, Actor: "key_operator",
	})
}

func change(id domain.KeyID, seq uint64, events ...domain.KeyEvent) eventstore.Change {
	c := eventstore.Change{Aggregate: eventstore.KeyAggregate(domain.DefaultAccount, id), ExpectedSeq: seq}
	for _, e := range events {
		c.Events = append(c.Events, e)
	}
	return c
}

// written returns what the clock wrote, one line an event: when by the clock, about
// which key, and what it says. What is due at the same time has no order.
func (w *world) written() []string {
	lines := []string{}
	for _, e := range w.log.history() {
		if e.Actor == domain.SystemActor {
			lines = append(lines, written(e))
		}
	}
	slices.Sort(lines)
	return lines
}

func written(e eventstore.Event) string {
	line := fmt.Sprintf("%s %s ", clock(e.Time), e.Aggregate.ID)
	switch data := any(e.Data).(type) {
	case domain.KeyExpiring:
		return line + fmt.Sprintf("expiring %s lead %v", clock(data.ExpiresAt), time.Duration(data.LeadSeconds)*time.Second)
	case domain.KeyExpired:
		return line + "expired " + clock(data.ExpiresAt)
	case domain.KeyRevoked:
		return line + "revoked " + data.Reason + " " + clock(data.RevokedAt)
	default:
		return line + string(e.Type())
	}
}

// clock writes a time as short as it can be.
func clock(t time.Time) string {
	switch {
	case t.Equal(t.Truncate(day)):
		return t.UTC().Format(time.DateOnly)
	default:
		return t.UTC().Format("2006-01-02T15:04:05.999999999")
	}
}

func (w *world) expect(want ...string) {
	w.t.Helper()
	if got := w.written(); !slices.Equal(got, want) {
		w.t.Errorf("written:\n%s\nwant:\n%s", lines(got), lines(want))
	}
}

func lines(all []string) string {
	text := ""
	for _, line := range all {
		text += "  " + line + "\n"
	}
	return text
}

// at reads a time of a test: a date, or a date and a time.
func at(text string) time.Time {
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	panic("not a time: " + text)
}
