package eventstoretest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// Site is a NATS installation that the suite runs against.
type Site struct {
	// URL, User and Password connect with every permission.
	URL, User, Password string
	// Addr is the host and port of one server, for a proxy to lead to.
	Addr     string
	Replicas int
	// Disturb makes readers' consumers fail: by a change of the stream's leader,
	// or by cutting the connections made through Through.
	Disturb func(tb testing.TB, nc *nats.Conn)
	// Through returns the URL that readers connect to; nil means URL.
	Through func() string
}

// waitFor bounds every wait of the suite: longer than an election.
const waitFor = 60 * time.Second

// Run holds an installation to what the eventstore promises. The tests share the
// one stream of the installation and keep to accounts of their own.
func Run(t *testing.T, site Site) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, Site)
	}{
		{"what is appended is loaded", testAppendLoad},
		{"a batch is all or nothing", testAtomic},
		{"a conflict is told as such", testConflictCodes},
		{"one of 64 writers wins each round", testRace},
		{"a lost acknowledgement is found again", testLostAck},
		{"sizes", testSizes},
		{"ids of another form never reach NATS", testInjection},
		{"filters", testFilters},
		{"follow", testFollow},
		{"one event by seq", testAt},
		{"a tail keeps the order through disturbances", testTailDisturbed},
		{"a tail ends with its handler's error", testTailHandlerError},
		{"the log has no gap", testNoGap},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, site) })
	}
}

// connect opens a connection that ends with the test.
func (s Site) connect(tb testing.TB) *nats.Conn { return s.connectTo(tb, s.URL) }

func (s Site) connectTo(tb testing.TB, url string) *nats.Conn {
	tb.Helper()
	nc, err := eventstore.Connect(tb.Context(), eventstore.ConnectConfig{URL: url, User: s.User, Password: s.Password})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

func (s Site) open(tb testing.TB, change ...func(*eventstore.Config)) *eventstore.Log {
	tb.Helper()
	cfg := eventstore.Config{Conn: s.connect(tb), Replicas: s.Replicas}
	for _, f := range change {
		f(&cfg)
	}
	return MustOpen(tb, cfg)
}

// account returns one that no other test uses.
func account(t *testing.T) domain.AccountID {
	t.Helper()
	return domain.AccountID(fmt.Sprintf("acct_%x", time.Now().UnixNano()))
}

// codes returns the server's error codes in err.
func code(err error) jetstream.ErrorCode {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode
	}
	return 0
}

// Execute runs a command the way the command layer does: it looks for the
// command's id in the aggregate's events before it appends, and on a conflict or
// an unknown outcome reads again from the leader. decide returns the events to
// append to a history; none means that there is nothing to do. It returns the
// command's first event.
func Execute(ctx context.Context, log *eventstore.Log, a eventstore.Aggregate, commandID string,
	decide func(eventstore.History) []domain.Event,
) (eventstore.Event, error) {
	for consistency := eventstore.Nearest; ; consistency = eventstore.Leader {
		h, err := log.Load(ctx, a, consistency)
		if err != nil {
			return eventstore.Event{}, err
		}
		if i := slices.IndexFunc(h.Events, func(e eventstore.Event) bool { return e.CommandID == commandID }); i >= 0 {
			return h.Events[i], nil
		}
		events, err := log.Append(ctx, Meta(commandID), eventstore.Change{Aggregate: a, ExpectedSeq: h.LastSeq, Events: decide(h)})
		switch {
		case err == nil:
			return events[0], nil
		case errors.Is(err, eventstore.ErrConflict), errors.Is(err, eventstore.ErrUnknownOutcome):
		default:
			return eventstore.Event{}, err
		}
	}
}

// inParallel runs n functions at once and waits for them.
func inParallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// mustReadAll reads the whole log and checks that seqs have no gap.
func mustReadAll(t *testing.T, log *eventstore.Log) []eventstore.Event {
	t.Helper()
	var events []eventstore.Event
	for e, err := range log.Replay(t.Context(), eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := uint64(len(events)) + 1; e.Seq != want {
			t.Fatalf("event %d comes where %d is due", e.Seq, want)
		}
		events = append(events, e)
	}
	return events
}
