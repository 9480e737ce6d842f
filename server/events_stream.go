package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// flushBytes is how much of an export is gathered before it is sent.
const flushBytes = 32 << 10

// stream is an answer that goes on for longer than the server's timeouts: each
// piece has its own.
type stream struct {
	x       *exchange
	control *http.ResponseController
	patient time.Duration // for one piece
}

// openStream begins the answer.
func (s *Server) openStream(x *exchange, contentType string) (*stream, error) {
	st := &stream{x: x, control: http.NewResponseController(x), patient: s.cfg.WriteTimeout}
	// The read timeout would otherwise cancel the request while it is answered.
	if err := st.control.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	x.Header().Set("Content-Type", contentType)
	x.WriteHeader(http.StatusOK)
	return st, st.send(nil)
}

// send writes a piece and sees that it leaves.
func (st *stream) send(piece []byte) error {
	// The connection's clock is the real one, whatever Config.Now says.
	if err := st.control.SetWriteDeadline(time.Now().Add(st.patient)); err != nil {
		return err
	}
	if len(piece) > 0 {
		if _, err := st.x.Write(piece); err != nil {
			return err
		}
	}
	return st.control.Flush()
}

// noPages refuses the parameters of pages where there are none.
func noPages(r *http.Request) error {
	for _, name := range [...]string{"page_size", "page_token"} {
		if r.URL.Query().Has(name) {
			return badParameter(domain.CodeValidation, name, "a stream has no pages", "leave it out, or ask for JSON")
		}
	}
	return nil
}

// errCredentialEnded cuts an export off: an end in order would say that this was all.
var errCredentialEnded = errors.New("the credential that the export was asked with has ended")

// exportEvents sends everything up to the end of the log, one event a line, for as
// long as the caller's credential is good.
func (s *Server) exportEvents(x *exchange, r *http.Request, f eventstore.Filter) error {
	if err := noPages(r); err != nil {
		return err
	}
	if headOnly(x, r, client.MediaTypeNDJSON) {
		return nil
	}
	if err := s.limits.acquire(x.authority.Actor); err != nil {
		return err
	}
	defer s.limits.release(x.authority.Actor)
	ctx, cancel := s.streamContext(r)
	defer cancel()
	st, err := s.openStream(x, client.MediaTypeNDJSON)
	if err != nil {
		return err
	}
	every := min(time.Second, s.cfg.Heartbeat)
	checked := time.Now()
	scan, wanted := wide(f)
	var piece []byte
	for event, err := range s.cfg.History.Replay(ctx, scan) {
		if err != nil {
			return err
		}
		// Now and then, what there is leaves, so that callers who ask for little see
		// it come, and the credential is looked at again.
		now := time.Now()
		due := now.Sub(checked) >= every
		if due {
			checked = now
			if !s.stillGood(x, r, domain.ScopeAuditRead) {
				return errCredentialEnded
			}
		}
		if wanted(event) {
			if piece, err = appendRecord(piece, event); err != nil {
				return err
			}
			piece = append(piece, '\n')
			x.seq = event.Seq
		}
		if len(piece) >= flushBytes || due && len(piece) > 0 {
			if err := st.send(piece); err != nil {
				return err
			}
			piece = piece[:0]
		}
	}
	if err := context.Cause(ctx); err != nil { // a shutdown must not look like the end of the log
		return err
	}
	return st.send(piece)
}

// headOnly answers HEAD, which asks for no more than the form of the answer.
func headOnly(x *exchange, r *http.Request, contentType string) bool {
	if r.Method != http.MethodHead {
		return false
	}
	x.Header().Set("Content-Type", contentType)
	x.WriteHeader(http.StatusOK)
	return true
}

// followEvents sends events as they come, until the caller leaves, the server shuts
// down, or the caller's credential ends.
func (s *Server) followEvents(x *exchange, r *http.Request, f eventstore.Filter) error {
	if err := noPages(r); err != nil {
		return err
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		seq, err := seqParam(last).read("Last-Event-ID")
		if err != nil {
			return err
		}
		f.FromSeq = seq + 1
	}
	if headOnly(x, r, client.MediaTypeEventStream) {
		return nil
	}
	if err := s.limits.acquire(x.authority.Actor); err != nil {
		return err
	}
	defer s.limits.release(x.authority.Actor)
	ctx, cancel := s.streamContext(r)
	events, failed := s.pull(ctx, f)
	defer func() {
		cancel()
		for range failed { // until the reader of the log has ended too
		}
	}()
	st, err := s.openStream(x, client.MediaTypeEventStream)
	if err != nil {
		return nil // the caller is gone
	}
	beat := time.NewTicker(s.cfg.Heartbeat)
	defer beat.Stop()
	var piece []byte
	for {
		select {
		case <-ctx.Done():
			_ = st.send([]byte(": the server ends the stream\n\n"))
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				continue
			}
			return err
		case <-beat.C:
			piece = append(piece[:0], ": alive\n\n"...)
		case event := <-events:
			if piece, err = appendServerSent(piece[:0], event); err != nil {
				return err
			}
			x.seq = event.Seq
		}
		if !s.stillGood(x, r, domain.ScopeAuditRead) {
			return nil
		}
		if err := st.send(piece); err != nil {
			return nil // the caller is gone, or too slow
		}
	}
}

// pull reads the log in the background, so that heartbeats can go out meanwhile.
// failed gets one error, nil at a regular end, and is closed.
func (s *Server) pull(ctx context.Context, f eventstore.Filter) (events <-chan eventstore.Event, failed <-chan error) {
	out, end := make(chan eventstore.Event), make(chan error, 1)
	go func() {
		defer close(end)
		for event, err := range s.cfg.History.Follow(ctx, f) {
			if err != nil {
				end <- err
				return
			}
			select {
			case out <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, end
}

// appendServerSent adds an event in the form of WHATWG HTML, 9.2. Stored events are
// one line each.
func appendServerSent(b []byte, e eventstore.Event) ([]byte, error) {
	b = append(b, "id: "...)
	b = strconv.AppendUint(b, e.Seq, 10)
	b = append(append(b, "\nevent: "...), e.Type()...)
	b, err := appendRecord(append(b, "\ndata: "...), e)
	return append(b, "\n\n"...), err
}

// stillGood reports whether the credential that a long answer was asked with still
// holds the scope.
func (s *Server) stillGood(x *exchange, r *http.Request, scope domain.Scope) bool {
	token, err := bearer(r.Header["Authorization"])
	if err != nil {
		return false
	}
	authority, result := s.cfg.Verifier.Authenticate(token)
	return result.Valid() && authority.Account == x.authority.Account && authority.May(scope) == nil
}

// streamContext is the request's context, ended by a shutdown too.
func (s *Server) streamContext(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(s.streams, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}
