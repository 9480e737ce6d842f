package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

const (
	pathEvents    = "/v1/events"
	pathKeyEvents = "/v1/keys/{id}/events"

	// maxPageBytes ends a page early: events can be large.
	maxPageBytes = 1 << 20
)

// eventRoutes registers the routes of history. They are plain handlers: what is
// stored leaves byte for byte.
func (s *Server) eventRoutes() {
	about := "As JSON, a page of {events, next_page_token}. A page searches the log for a few seconds at most: " +
		"it may hold fewer events than page_size, or none, and yet have a next_page_token; the end is where that is empty. With Accept: application/x-ndjson, everything up to the present end, " +
		"one event a line. With Accept: text/event-stream, server-sent events that go on with what is new: " +
		"the id is the sequence number, and Last-Event-ID resumes behind it; comments keep an idle stream alive. " +
		"A management key has only so many streams and exports open at once; beyond that the answer is 503 with the code too_many_streams."
	s.handlePlain(s.eventEndpoint(pathEvents, "list-events", "Read or follow the log", about), func(x *exchange, r *http.Request) {
		s.events(x, r, "")
	})
	s.handlePlain(s.eventEndpoint(pathKeyEvents, "list-key-events", "Read or follow the history of a key", about), func(x *exchange, r *http.Request) {
		s.events(x, r, idParam(r.PathValue("id")))
	})
}

func (s *Server) eventEndpoint(path, id, summary, about string) *endpoint {
	e := endpointOf(http.MethodGet, path, id, tagEvents, summary, domain.ScopeAuditRead, about)
	if path == pathKeyEvents {
		e.Parameters = append(e.Parameters, &huma.Param{Name: "id", In: "path", Required: true, Schema: idParam("").Schema(nil)})
	} else {
		e.Parameters = append(e.Parameters, queryParam("account", "", &huma.Schema{Type: huma.TypeString}))
	}
	exploded := true
	types := queryParam("type", "Events of this type only; may be given more than once.",
		&huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Examples: []any{string(domain.TypeKeyRevoked)}}})
	types.Explode = &exploded
	e.Parameters = append(e.Parameters, types,
		queryParam("from_seq", "Events from this sequence number on.", seqParam("").Schema(nil)),
		queryParam("from_time", "Events from this instant on.", timeParam("").Schema(nil)),
		queryParam("page_size", "", sizeParam("").Schema(nil)),
		queryParam("page_token", "", &huma.Schema{Type: huma.TypeString}),
		queryParam("min_seq", "", seqParam("").Schema(nil)),
		&huma.Param{Name: "Last-Event-ID", In: "header", Description: "Resumes a stream of server-sent events behind this sequence number.", Schema: seqParam("").Schema(nil)},
	)
	e.repeated = []string{"type"}
	record := client.EventRecord{Seq: 42, Subject: "keyledger.events.default.key." + exampleID, Event: json.RawMessage(exampleEvent)}
	e.Responses = map[string]*huma.Response{"200": {Description: "The events, oldest first", Content: map[string]*huma.MediaType{
		client.MediaTypeJSON:        {Schema: schemaOf[client.EventPage](s), Example: client.EventPage{Events: []client.EventRecord{record}, NextPageToken: ""}},
		client.MediaTypeNDJSON:      {Schema: schemaOf[client.EventRecord](s)},
		client.MediaTypeEventStream: {Schema: &huma.Schema{Type: huma.TypeString}},
	}}}
	return e
}

const exampleEvent = `{"specversion":"1.0","id":"0197…","source":"keyledger","type":"keyledger.key.revoked.v1",` +
	`"subject":"` + exampleID + `","time":"2030-01-15T09:30:00Z","data":{"reason":"laptop lost","revoked_at":"2030-01-15T09:30:00Z"}}`

func queryParam(name, about string, schema *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: about, Schema: schema}
}

// events answers both routes, in the form that the caller asks for.
func (s *Server) events(x *exchange, r *http.Request, key idParam) {
	bounded, cancel := s.withTimeout(x, r)
	defer cancel()
	filter, err := s.eventFilter(bounded.Context(), bounded, key)
	if err != nil {
		s.refuse(x, r, err)
		return
	}
	switch accepted(r.Header.Get("Accept"), client.MediaTypeNDJSON, client.MediaTypeEventStream) {
	case client.MediaTypeEventStream:
		err = s.followEvents(x, r, filter)
	case client.MediaTypeNDJSON:
		err = s.exportEvents(x, r, filter)
	default:
		err = s.pageEvents(bounded.Context(), x, bounded, filter)
	}
	s.endLong(x, r, err)
}

// endLong refuses, or breaks off, an answer that may have begun.
func (s *Server) endLong(x *exchange, r *http.Request, err error) {
	if err == nil {
		return
	}
	if x.status == 0 {
		s.refuse(x, r, err)
		return
	}
	// The answer has begun. A cut connection is the only way left to tell the
	// caller that this was not all.
	x.cause = err
	panic(http.ErrAbortHandler)
}

// accepted chooses among the forms of an answer: the first of JSON and others that
// the header names without q=0, or JSON.
func accepted(accept string, others ...string) string {
	for part := range strings.SplitSeq(accept, ",") {
		mediaType, parameters, _ := strings.Cut(part, ";")
		mediaType = strings.ToLower(strings.TrimSpace(mediaType))
		if refused(parameters) {
			continue
		}
		if mediaType == client.MediaTypeJSON || slices.Contains(others, mediaType) {
			return mediaType
		}
	}
	return client.MediaTypeJSON
}

// refused reports whether the parameters of a media type hold q=0: not this one
// (RFC 9110, 12.4.2). Other weights do not change which form is the first named.
func refused(parameters string) bool {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if weight, err := strconv.ParseFloat(value, 64); strings.EqualFold(name, "q") && err == nil && weight == 0 {
			return true
		}
	}
	return false
}

// eventFilter reads what part of the log is asked for, within the caller's reach.
func (s *Server) eventFilter(ctx context.Context, r *http.Request, key idParam) (eventstore.Filter, error) {
	query := r.URL.Query()
	var f eventstore.Filter
	var err error
	if f.FromSeq, err = seqParam(query.Get("from_seq")).read("from_seq"); err != nil {
		return f, err
	}
	if f.FromTime, err = timeParam(query.Get("from_time")).read("from_time"); err != nil {
		return f, err
	}
	for _, name := range query["type"] {
		if !knownType(domain.EventType(name)) {
			return f, badParameter(domain.CodeValidation, "type", "not a type of event", "use a stored name, for example "+string(domain.TypeKeyRevoked))
		}
		f.Types = append(f.Types, domain.EventType(name))
	}
	if err := s.awaitAsked(ctx, &s.verifier, seqParam(query.Get("min_seq"))); err != nil {
		return f, err
	}
	if key == "" {
		f.Account, err = s.reach(ctx, domain.AccountID(query.Get("account")))
		return f, err
	}
	target, err := s.target(ctx, domain.KeyTypeAPI, key)
	f.Account, f.Key = target.Account, target.ID
	return f, err
}

func knownType(t domain.EventType) bool {
	switch t {
	case domain.TypeKeyCreated, domain.TypeKeyImported, domain.TypeKeyUpdated, domain.TypeKeyRotated,
		domain.TypeKeyRevoked, domain.TypeKeyExpiring, domain.TypeKeyExpired, domain.TypeKeyLeaked:
		return true
	}
	return false
}

// pageEvents answers one page.
func (s *Server) pageEvents(ctx context.Context, x *exchange, r *http.Request, f eventstore.Filter) error {
	query := r.URL.Query()
	size, err := sizeParam(query.Get("page_size")).read()
	if err != nil {
		return err
	}
	if token := query.Get("page_token"); token != "" {
		if f.FromSeq, err = readPosition(token); err != nil {
			return err
		}
	}
	scan, wanted := wide(f)
	start := time.Now() // what is bounded is the work, whatever Config.Now says
	body := []byte(`{"events":[`)
	next := ""
	n := 0
	begun := false // every page gets on by one event at least
	for event, err := range s.cfg.History.Replay(ctx, scan) {
		if err != nil {
			return err
		}
		want := wanted(event)
		full := n == size || len(body) > maxPageBytes
		if want && full || begun && time.Since(start) > s.cfg.ScanTime {
			next = position(event.Seq)
			break
		}
		begun = true
		if !want {
			continue
		}
		if n > 0 {
			body = append(body, ',')
		}
		if body, err = appendRecord(body, event); err != nil {
			return err
		}
		n++
	}
	body = append(append(append(body, `],"next_page_token":"`...), next...), `"}`...)
	x.Header()["Content-Type"] = contentJSON
	_, _ = x.Write(body) // the caller is gone if it fails
	return nil
}

// wide returns a filter without what the log does not look up but reads past, and
// the rest of f: who reads with it sees how far the reading has come, however rare
// is what was asked for.
func wide(f eventstore.Filter) (scan eventstore.Filter, wanted func(eventstore.Event) bool) {
	scan = f
	scan.Types = nil
	if f.FromSeq > 0 {
		scan.FromTime = time.Time{} // the log enters by the one or by the other
	}
	return scan, func(e eventstore.Event) bool {
		return !e.Time.Before(f.FromTime) && (len(f.Types) == 0 || slices.Contains(f.Types, e.Type()))
	}
}

// appendRecord adds the line that exports and proofs are made of: the stored bytes
// as they are, never marshalled again. Subjects are made of characters that JSON
// takes as they are.
func appendRecord(b []byte, e eventstore.Event) ([]byte, error) {
	subject, err := e.Aggregate.Subject()
	if err != nil {
		return b, err
	}
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, e.Seq, 10)
	b = append(append(append(b, `,"subject":"`...), subject...), `","event":`...)
	return append(append(b, e.Raw...), '}'), nil
}

// Page tokens of events hold a position and nothing else: the filter and the
// caller's reach are read anew for every page.
const positionPrefix = "seq:"

func position(seq uint64) string {
	return base64.RawURLEncoding.EncodeToString(strconv.AppendUint([]byte(positionPrefix), seq, 10))
}

func readPosition(token string) (uint64, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	digits, ok := strings.CutPrefix(string(text), positionPrefix)
	seq, parseErr := strconv.ParseUint(digits, 10, 64)
	if err != nil || !ok || parseErr != nil || position(seq) != token {
		return 0, badParameter("invalid_page_token", "page_token", "not a page token of events", "send next_page_token as it was given, or leave it out to begin again")
	}
	return seq, nil
}
