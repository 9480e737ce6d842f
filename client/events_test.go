package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/keyledger/keyledger/client"
)

// stored is the bytes of an event as a server holds them: their escapes and
// order must survive.
func stored(seq int) string {
	return fmt.Sprintf(`{"z":"<&> \u00e9","a":%d,"data":{}}`, seq)
}

func line(seq int) string {
	return fmt.Sprintf(`{"seq":%d,"subject":"keyledger.events.default.key.key_a","event":%s}`, seq, stored(seq))
}

func sse(seq int) string {
	return fmt.Sprintf("id: %d\nevent: keyledger.key.created.v1\ndata: %s\n\n", seq, line(seq))
}

// seqs reads a sequence until it ends, or until n events were seen.
func seqs(events func(func(client.EventRecord, error) bool), n int) (got []uint64, err error) {
	for event, e := range events {
		if e != nil {
			return got, e
		}
		if got = append(got, event.Seq); len(got) == n {
			break
		}
	}
	return got, nil
}

func TestEventsResumesBehindTheLastOne(t *testing.T) {
	var asked []string
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != client.MediaTypeNDJSON || r.URL.Query().Get("account") != "acme" || len(r.URL.Query()["type"]) != 2 {
			t.Errorf("request %s %v", r.URL, r.Header)
		}
		asked = append(asked, r.URL.Query().Get("from_seq"))
		if len(asked) == 1 {
			_, _ = io.WriteString(w, line(3)+"\n"+line(5)+"\n"+line(6)[:20])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, line(5)+"\n"+line(6)+"\n") // 5 again: it was seen
	})
	query := client.EventQuery{Account: "acme", Types: []string{"a", "b"}, FromSeq: 2}
	got, err := seqs(c.Events(t.Context(), query), 0)
	if err != nil || !slices.Equal(got, []uint64{3, 5, 6}) || !slices.Equal(asked, []string{"2", "6"}) {
		t.Errorf("events %v, %v; asked from %v", got, err, asked)
	}
	if again, err := seqs(c.Events(t.Context(), client.EventQuery{Account: "acme", Types: query.Types}), 2); err != nil || len(again) != 2 {
		t.Errorf("a loop that stops early: %v, %v", again, err)
	}
}

func TestFollowGoesOnUntilTheContextEnds(t *testing.T) {
	connections := 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := mustClient(t, func(w http.ResponseWriter, r *http.Request) {
		connections++
		if r.URL.Path != "/v1/keys/key_a/events" || r.Header.Get("Accept") != client.MediaTypeEventStream {
			t.Errorf("request %s %v", r.URL, r.Header)
		}
		switch connections {
		case 1: // a comment, an event, one that is cut off; then the server goes down in order
			_, _ = io.WriteString(w, ": hello\n\n"+sse(1)+"data: {\"seq\":2,")
		case 2, 3, 4, 5, 6, 7: // more failures than a call would be given
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, sse(2)+sse(3))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	})
	var got []uint64
	for event, err := range c.Follow(ctx, client.EventQuery{KeyID: "key_a"}) {
		if err != nil {
			t.Fatal(err)
		}
		if string(event.Event) != stored(int(event.Seq)) {
			t.Errorf("event %s, want the bytes as they were stored", event.Event)
		}
		if string(event.Line()) != line(int(event.Seq)) {
			t.Errorf("line %s", event.Line())
		}
		if got = append(got, event.Seq); event.Seq == 3 {
			cancel()
		}
	}
	if !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("events %v", got)
	}
}

func TestStreamsEndWithWhatCannotBeCured(t *testing.T) {
	tests := map[string]struct {
		follow  bool
		handler http.HandlerFunc
		status  int
		text    string
	}{
		"not allowed": {true, func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(t, w, http.StatusForbidden, client.Problem{Detail: "lacks the scope", Code: "insufficient_scope"})
		}, 403, "lacks the scope (403 insufficient_scope)"},
		"not an event": {true, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "data: {}\n\n")
		}, 0, "GET /v1/events: a line of the answer is not an event"},
		"never there": {false, func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}, 0, "GET /v1/events: EOF"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := mustClient(t, tc.handler)
			events := c.Events(t.Context(), client.EventQuery{})
			if tc.follow {
				events = c.Follow(t.Context(), client.EventQuery{})
			}
			_, err := seqs(events, 0)
			if err == nil || err.Error() != tc.text {
				t.Fatalf("error %v, want %s", err, tc.text)
			}
			if e, ok := errors.AsType[*client.Error](err); ok != (tc.status != 0) || ok && e.Status != tc.status {
				t.Errorf("error %#v", err)
			}
		})
	}
}
