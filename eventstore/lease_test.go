package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

const leaseTTL = time.Second

// leaseServer is a server that any number of processes may connect to.
func leaseServer(t *testing.T) *embedded.Server {
	t.Helper()
	return eventstoretest.MustServer(t, embedded.Config{
		Listen: "127.0.0.1:0", Sync: embedded.SyncLazy,
		Users: map[string]string{"node": "secret"},
	})
}

// holder is a process that wants the lease, with a connection of its own.
type holder struct {
	conn  *nats.Conn
	stop  context.CancelFunc
	has   chan struct{} // gets a token each time the lease was taken
	lost  chan time.Time
	ended chan error
}

// MustHold starts a process that wants the lease and keeps it.
func MustHold(t *testing.T, address, name string, overlaps *atomic.Int64) *holder {
	t.Helper()
	conn, err := eventstore.Connect(t.Context(), eventstore.ConnectConfig{URL: address, User: "node", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	log := eventstoretest.MustOpen(t, eventstore.Config{Conn: conn})
	ctx, stop := context.WithCancel(t.Context())
	h := &holder{conn: conn, stop: stop, has: make(chan struct{}, 16), lost: make(chan time.Time, 16), ended: make(chan error, 1)}
	go func() {
		h.ended <- log.Hold(ctx, eventstore.LeaseConfig{Name: "work", Holder: name, TTL: leaseTTL}, func(ctx context.Context) error {
			if overlaps.Add(1) > 1 {
				t.Errorf("%s has the lease while another has it", name)
			}
			h.has <- struct{}{}
			<-ctx.Done()
			overlaps.Add(-1)
			h.lost <- time.Now()
			return ctx.Err()
		})
	}()
	t.Cleanup(func() {
		stop()
		h.wait(t)
		conn.Close()
	})
	return h
}

func (h *holder) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-h.ended:
		h.ended <- err
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Hold returned %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Hold does not return")
	}
}

// first returns the first of the holders that takes the lease.
func first(t *testing.T, within time.Duration, holders ...*holder) int {
	t.Helper()
	taken := -1
	eventstoretest.Eventually(t, within, "one of them has the lease", func() bool {
		for i, h := range holders {
			select {
			case <-h.has:
				taken = i
				return true
			default:
			}
		}
		return false
	})
	return taken
}

// TestHold hands a lease round: given back, it is taken at once; of a process that
// was killed it is taken when it has run out.
func TestHold(t *testing.T) {
	s := leaseServer(t)
	var overlaps atomic.Int64
	holders := make([]*holder, 3)
	for i := range holders {
		holders[i] = MustHold(t, s.ClientURL(), fmt.Sprintf("node%d", i), &overlaps)
	}
	one := first(t, 5*time.Second, holders...)
	began := time.Now()
	holders[one].stop()
	holders[one].wait(t)
	rest := append(holders[:one:one], holders[one+1:]...)
	two := first(t, 5*time.Second, rest...)
	if took := time.Since(began); took > leaseTTL/2 {
		t.Errorf("taken over %v after it was given back", took)
	}

	began = time.Now()
	rest[two].conn.Close() // nothing is given back any more
	first(t, 10*time.Second, rest[1-two])
	took := time.Since(began)
	if took > 2*leaseTTL {
		t.Errorf("taken over %v after its holder was cut off", took)
	}
	select {
	case at := <-rest[two].lost:
		t.Logf("cut off: lost after %v, taken over after %v", at.Sub(began), took)
	case <-time.After(time.Second):
		t.Error("the one that was cut off still believes that it has the lease")
	}
}

// TestHoldOutlivesTTL keeps a lease much longer than it lasts.
func TestHoldOutlivesTTL(t *testing.T) {
	s := leaseServer(t)
	var overlaps atomic.Int64
	a := MustHold(t, s.ClientURL(), "a", &overlaps)
	first(t, 5*time.Second, a)
	b := MustHold(t, s.ClientURL(), "b", &overlaps)
	select {
	case <-b.has:
		t.Error("taken from one who is alive")
	case at := <-a.lost:
		t.Errorf("lost at %v", at)
	case <-time.After(3 * leaseTTL):
	}
}

// TestHoldLosesWhatItCannotRenew cuts the answers off: the holder stops by its own
// clock before another can have the lease, and has it again when the way is free.
func TestHoldLosesWhatItCannotRenew(t *testing.T) {
	s := leaseServer(t)
	u, err := url.Parse(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := eventstoretest.MustProxy(t, u.Host)
	var overlaps atomic.Int64
	a := MustHold(t, "nats://"+proxy.Addr(), "a", &overlaps)
	first(t, 5*time.Second, a)
	proxy.Hold()
	began := time.Now()
	b := MustHold(t, s.ClientURL(), "b", &overlaps)
	first(t, 5*time.Second, b)
	if at := <-a.lost; at.Sub(began) > leaseTTL+100*time.Millisecond {
		t.Errorf("still believed %v after it was cut off", at.Sub(began))
	}
	proxy.Release()
	b.stop()
	first(t, 10*time.Second, a)
}

// TestHoldWhenAnswersAreLost drops the answers of renewals that arrive: once they
// are heard again the process knows the lease for its own.
func TestHoldWhenAnswersAreLost(t *testing.T) {
	s := leaseServer(t)
	u, err := url.Parse(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := eventstoretest.MustProxy(t, u.Host)
	var overlaps atomic.Int64
	a := MustHold(t, "nats://"+proxy.Addr(), "a", &overlaps)
	first(t, 5*time.Second, a)
	proxy.Deafen()
	<-a.lost
	proxy.Cut()
	first(t, 10*time.Second, a)
}

// TestHoldSurvivesItsBucket removes the bucket, as a restart of the servers does.
func TestHoldSurvivesItsBucket(t *testing.T) {
	s := leaseServer(t)
	var overlaps atomic.Int64
	a := MustHold(t, s.ClientURL(), "a", &overlaps)
	first(t, 5*time.Second, a)
	js, err := jetstream.New(eventstoretest.MustConnect(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(t.Context(), "KEYLEDGER_LEASES"); err != nil {
		t.Fatal(err)
	}
	<-a.lost
	first(t, 10*time.Second, a)
}

func TestHoldReturnsWhatTheWorkReturns(t *testing.T) {
	log := eventstoretest.MustEmbedded(t)
	done := errors.New("done")
	for range 2 { // it was given back in between
		err := log.Hold(t.Context(), eventstore.LeaseConfig{Name: "work"}, func(context.Context) error { return done })
		if !errors.Is(err, done) {
			t.Errorf("got %v", err)
		}
	}
	if err := log.Hold(t.Context(), eventstore.LeaseConfig{Name: "a.b"}, nil); err == nil {
		t.Error("a name that is no id was taken")
	}
}

func TestHoldRefusesABucketWithoutTTL(t *testing.T) {
	log := eventstoretest.MustEmbedded(t)
	if _, err := log.JetStream().CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "KEYLEDGER_LEASES"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := log.Hold(ctx, eventstore.LeaseConfig{Name: "work"}, func(context.Context) error {
		t.Error("a lease that would never end was taken")
		return nil
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
