package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// The server sends a comment into an idle event stream every few seconds; a
	// connection that is silent for longer is dead and is made anew.
	maxSilence = 60 * time.Second

	// The longest line: one event of at most 40 KiB and its frame, with room to spare.
	maxLine = 1 << 20
)

// EventQuery says which events are wanted. The zero value means all that the
// management key may see, from the first.
type EventQuery struct {
	KeyID    string    // of one key only, whose account is then not asked for
	Account  string    // of one account only; only instance keys may name one
	Types    []string  // of these types only, for example keyledger.key.revoked.v1
	FromSeq  uint64    // from this seq on
	FromTime time.Time // from this time on
}

// Events yields the events of the log in order, up to its end at the time of
// the call. A connection that breaks is resumed behind the last event; an error
// ends the sequence.
func (c *Client) Events(ctx context.Context, q EventQuery) iter.Seq2[EventRecord, error] {
	return c.stream(ctx, q, false)
}

// Follow is [Client.Events] and then goes on with every new event until ctx
// ends, over any number of broken connections: after each it resumes behind the
// last event, as often as it takes. An error that trying again cannot cure ends
// the sequence; the end of ctx does so without an error.
func (c *Client) Follow(ctx context.Context, q EventQuery) iter.Seq2[EventRecord, error] {
	return c.stream(ctx, q, true)
}

// errStopped says that the loop body has had enough.
var errStopped = errors.New("stopped")

func (c *Client) stream(ctx context.Context, q EventQuery, follow bool) iter.Seq2[EventRecord, error] {
	return func(yield func(EventRecord, error) bool) {
		for failures := 0; ; failures++ {
			before := q.FromSeq
			err := c.streamOnce(ctx, &q, follow, yield)
			if q.FromSeq != before {
				failures = 0
			}
			switch {
			case errors.Is(err, errStopped), follow && ctx.Err() != nil, err == nil && !follow:
				return
			case ctx.Err() != nil:
				yield(EventRecord{}, fmt.Errorf("%s: %w", q.call(follow), ctx.Err()))
				return
			case err == nil: // the server closed a stream in order: it is going down
				err = &transportError{call: q.call(follow).String(), err: io.EOF}
			}
			wait, again := c.retry.wait(failures, err)
			if !again || !follow && failures+1 >= c.retry.Attempts {
				yield(EventRecord{}, err)
				return
			}
			c.logger.WarnContext(ctx, "trying again", slog.String("call", q.call(follow).String()),
				slog.Uint64("from_seq", q.FromSeq), slog.String("error", err.Error()), slog.Duration("wait", wait))
			_ = sleep(ctx, wait) // the next round sees that ctx has ended
		}
	}
}

// streamOnce reads one connection to its end and moves q.FromSeq behind every
// event it yields.
func (c *Client) streamOnce(ctx context.Context, q *EventQuery, follow bool, yield func(EventRecord, error) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(c.timeout, func() { cancel(errTimeout) })
	defer idle.Stop()

	spec := q.call(follow)
	resp, err := c.send(ctx, spec, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()

	silence := c.timeout
	if follow {
		silence = max(silence, maxSilence)
	}
	lines := bufio.NewScanner(&watchedReader{r: resp.Body, alive: func() { idle.Reset(silence) }})
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	lines.Split(wholeLines)
	next := nextNDJSON
	if follow {
		next = nextSSE
	}
	for {
		data, ok := next(lines)
		if !ok {
			break
		}
		event, err := parseEvent(spec, data)
		if err != nil {
			return err
		}
		if event.Seq < q.FromSeq {
			continue // sent again by a server that resumed a little earlier than asked
		}
		idle.Stop() // what the loop body does is not the server's silence
		if !yield(event, nil) {
			return errStopped
		}
		q.FromSeq = event.Seq + 1
		idle.Reset(silence)
	}
	if err := lines.Err(); err != nil {
		return &transportError{call: spec.String(), err: unwrapURLError(ctx, err)}
	}
	return nil
}

// call builds the request for the events from q.FromSeq on.
func (q *EventQuery) call(follow bool) call {
	values := url.Values{"type": q.Types}
	if q.Account != "" && q.KeyID == "" {
		values.Set("account", q.Account)
	}
	if q.FromSeq != 0 {
		values.Set("from_seq", strconv.FormatUint(q.FromSeq, 10))
	}
	if !q.FromTime.IsZero() {
		values.Set("from_time", q.FromTime.UTC().Format(time.RFC3339Nano))
	}
	spec := call{method: http.MethodGet, path: []string{"v1", "events"}, query: values, accept: MediaTypeNDJSON}
	if q.KeyID != "" {
		spec.path = []string{"v1", "keys", q.KeyID, "events"}
	}
	if follow {
		spec.accept = MediaTypeEventStream
	}
	return spec
}

func parseEvent(spec call, data []byte) (EventRecord, error) {
	var event EventRecord
	if err := json.Unmarshal(data, &event); err != nil || event.Seq == 0 {
		return EventRecord{}, fmt.Errorf("%s: a line of the answer is not an event", spec)
	}
	return event, nil
}

// wholeLines is [bufio.ScanLines] for connections that can break: what has no
// line end is half of something.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if atEOF && len(data) > 0 && bytes.IndexByte(data, '\n') < 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return bufio.ScanLines(data, atEOF)
}

func nextNDJSON(lines *bufio.Scanner) ([]byte, bool) {
	for lines.Scan() {
		if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
			return line, true
		}
	}
	return nil, false
}

// nextSSE returns the data of the next server-sent event (WHATWG HTML, 9.2).
// Only data counts here: seq and type are in it too. An event that the end of
// the stream cuts off is dropped, as the standard says.
func nextSSE(lines *bufio.Scanner) ([]byte, bool) {
	var data []byte
	seen := false
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) == 0 {
			if seen {
				return data, true
			}
			continue
		}
		value, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			continue
		}
		if seen {
			data = append(data, '\n')
		}
		data = append(data, bytes.TrimPrefix(value, []byte(" "))...)
		seen = true
	}
	return nil, false
}

// watchedReader tells of every read that brought something.
type watchedReader struct {
	r     io.Reader
	alive func()
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.alive()
	}
	return n, err
}

// Line returns the event as one line of an export, {"seq":…,"subject":…,"event":…}
// without a line end, holding the stored bytes exactly. encoding/json would write
// them anew.
func (e EventRecord) Line() []byte {
	subject, err := json.Marshal(e.Subject)
	if err != nil {
		subject = []byte(`""`) // unreachable: a string always marshals
	}
	line := make([]byte, 0, len(e.Event)+len(subject)+48)
	line = append(line, `{"seq":`...)
	line = strconv.AppendUint(line, e.Seq, 10)
	line = append(line, `,"subject":`...)
	line = append(line, subject...)
	line = append(line, `,"event":`...)
	line = append(line, e.Event...)
	return append(line, '}')
}
