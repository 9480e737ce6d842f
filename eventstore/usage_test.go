package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

func usageReport(n uint64) eventstore.UsageReport {
	at := time.Date(2030, 1, 15, 9, 30, 0, 0, time.UTC)
	return eventstore.UsageReport{
		Reporter: "node_1", Run: "run", Number: n, Day: "2030-01-15", From: at.Add(-time.Minute), To: at,
		Uses: []eventstore.KeyUse{{Key: "key_a", Last: at.UnixMicro(), Count: n}},
	}
}

// readUsage reads reports from a position until the end is reached.
func readUsage(t *testing.T, log *eventstore.Log, from eventstore.UsagePosition) (numbers []uint64, at eventstore.UsagePosition) {
	t.Helper()
	enough := errors.New("enough")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := log.TailUsage(ctx, from, func(_ context.Context, b eventstore.UsageBatch) error {
		for _, r := range b.Reports {
			numbers = append(numbers, r.Number)
		}
		if at = b.At; b.CaughtUp {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	return numbers, at
}

// TestUsageReports publishes and reads reports: in order, from any position, without
// repeats and without what is no report; also from a stream that is another one.
func TestUsageReports(t *testing.T) {
	log := eventstoretest.MustOpen(t, eventstore.Config{
		Conn: eventstoretest.MustConnect(t, eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy})),
	})
	publish := func(numbers ...uint64) {
		t.Helper()
		for _, n := range numbers {
			if err := log.PublishUsage(t.Context(), usageReport(n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect := func(what string, from eventstore.UsagePosition, want ...uint64) eventstore.UsagePosition {
		t.Helper()
		got, at := readUsage(t, log, from)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: read %v, want %v", what, got, want)
		}
		return at
	}
	publish(1, 2, 2, 1, 3) // makes the stream
	at := expect("from the beginning", eventstore.UsagePosition{}, 1, 2, 3)
	if at.Seq != 3 || at.Stream.IsZero() {
		t.Errorf("at %+v", at)
	}
	if again := expect("from the end", at); again != at {
		t.Errorf("at %+v, want %+v", again, at)
	}
	js := log.JetStream()
	for _, bad := range []string{
		"", "{}", "[1]", `{"reporter":"another","run":"r","number":9,"day":"2030-01-15"}`, `{"reporter":"node_1","run":"r.*","number":9,"day":"2030-01-15"}`,
		`{"reporter":"node_1","run":"r","number":0,"day":"2030-01-15"}`, `{"reporter":"node_1","run":"r","number":9,"day":"today"}`,
		`{"reporter":"node_1","run":"r","number":-9,"day":"2030-01-15"}`,
	} {
		if _, err := js.Publish(t.Context(), "keyledger.usage.node_1", []byte(bad)); err != nil {
			t.Fatal(err)
		}
	}
	publish(4)
	end := expect("over what is no report", at, 4)
	if end.Seq != at.Seq+9 {
		t.Errorf("at %+v", end)
	}
	expect("beyond the end", eventstore.UsagePosition{Stream: end.Stream, Seq: 1000}, 1, 2, 3, 4)
	expect("of another stream", eventstore.UsagePosition{Stream: end.Stream.Add(-time.Second), Seq: 2}, 1, 2, 3, 4)
	if err := js.DeleteStream(t.Context(), string(eventstore.SideUsage)); err != nil {
		t.Fatal(err)
	}
	publish(5)
	expect("of a stream that was made anew", end, 5)

	bad := usageReport(1)
	bad.Reporter = "a.b"
	if err := log.PublishUsage(t.Context(), bad); err == nil {
		t.Error("published under a name that is no id")
	}
}

// TestUsageReportFits: the largest report of ours is below what any server takes.
func TestUsageReportFits(t *testing.T) {
	log := eventstoretest.MustOpen(t, eventstore.Config{
		Conn: eventstoretest.MustConnect(t, eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy})),
	})
	r := usageReport(1)
	for i := range eventstore.MaxUsesPerReport {
		r.Uses = append(r.Uses, eventstore.KeyUse{Key: domain.KeyID(fmt.Sprintf("key_%016d", i)), Last: 1<<52 + int64(i), Count: 1 << 40})
	}
	if err := log.PublishUsage(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	stream, err := log.OpenSide(t.Context(), eventstore.SideUsage)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(t.Context(), 1)
	if err != nil || len(msg.Data) > 256<<10 {
		t.Errorf("a report of %d bytes, %v", len(msg.Data), err)
	}
}

// TestUsageStreamDrifted: a stream that is another's is not waited for.
func TestUsageStreamDrifted(t *testing.T) {
	log := eventstoretest.MustOpen(t, eventstore.Config{
		Conn: eventstoretest.MustConnect(t, eventstoretest.MustServer(t, embedded.Config{Sync: embedded.SyncLazy})),
	})
	if _, err := log.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{
		Name: string(eventstore.SideUsage), Subjects: []string{"something.else"},
	}); err != nil {
		t.Fatal(err)
	}
	err := log.TailUsage(t.Context(), eventstore.UsagePosition{}, func(context.Context, eventstore.UsageBatch) error { return nil })
	if _, ok := errors.AsType[*eventstore.DriftError](err); !ok {
		t.Errorf("got %v", err)
	}
	if err := log.PublishUsage(t.Context(), usageReport(1)); err == nil || !strings.Contains(err.Error(), string(eventstore.SideUsage)) {
		t.Errorf("got %v", err)
	}
}
