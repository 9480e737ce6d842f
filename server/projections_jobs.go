package server

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// progressEvery is how often a job says how far it is.
const progressEvery = time.Second

// jobRoute registers a job on the tables. What goes wrong in the first second is
// refused as everywhere; later it is the answer's last line.
func (s *Server) jobRoute(name, id, summary, about string, start func(*http.Request) *job) {
	e := endpointOf(http.MethodPost, pathProjections+"/"+name, id, tagOperations, summary, domain.ScopeOperate, about+
		"The answer has one object a line: {progress} about every second, and at last {result} or {error}; an answer without either broke off. "+
		"For management keys of the instance.")
	e.Responses = map[string]*huma.Response{
		"200": {Description: "The job, as it goes on", Content: map[string]*huma.MediaType{client.MediaTypeNDJSON: {
			Schema: schemaOf[client.ProjectionsUpdate](s), Example: client.ProjectionsUpdate{Result: &client.ProjectionsResult{Seq: 3_000_000, TookSeconds: 42.5}},
		}}},
		"409": {Ref: responsesPrefix + responseName(http.StatusConflict)},
	}
	s.handlePlain(e, func(x *exchange, r *http.Request) {
		err := instanceOnly(x.authority)
		if err == nil {
			err = s.follow(x, r, start)
		}
		s.endLong(x, r, err)
	})
}

// job is a rebuild or a check that runs.
type job struct {
	differences chan client.ProjectionsDifference
	ended       chan jobEnd // gets one
	// leave is called when nobody follows it any more.
	leave func()
}

type jobEnd struct {
	result client.ProjectionsResult
	err    error
}

// rebuild starts a rebuild. It belongs to the server, and not to its caller.
func (s *Server) rebuild(*http.Request) *job {
	j := &job{ended: make(chan jobEnd, 1), leave: func() {}}
	s.jobs.Go(func() {
		began := time.Now()
		err := s.cfg.Projections.Rebuild(s.streams)
		status := s.cfg.Projections.Status()
		j.ended <- jobEnd{client.ProjectionsResult{
			Seq: status.Seq, Generation: status.Generation, TookSeconds: time.Since(began).Seconds(),
		}, err}
	})
	return j
}

// checkTables starts a check, which ends with its caller.
func (s *Server) checkTables(r *http.Request) *job {
	ctx, cancel := s.streamContext(r)
	done := make(chan struct{})
	j := &job{
		differences: make(chan client.ProjectionsDifference), ended: make(chan jobEnd, 1),
		leave: func() { cancel(); <-done },
	}
	go func() {
		defer close(done)
		result, err := s.cfg.Projections.Check(ctx, func(d projections.Difference) error {
			select {
			case j.differences <- client.ProjectionsDifference(d):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		j.ended <- jobEnd{client.ProjectionsResult{
			Seq: result.At.Seq, Rows: result.Rows, Differences: result.Differences, TookSeconds: result.Took.Seconds(),
		}, err}
	}()
	return j
}

// follow starts a job and tells of it until it ends, the caller leaves, or the
// caller's credential does.
func (s *Server) follow(x *exchange, r *http.Request, start func(*http.Request) *job) error {
	j := start(r)
	defer j.leave()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	f := jobFollower{s: s, x: x}
	for {
		select {
		case end := <-j.ended:
			return f.end(end)
		case d := <-j.differences:
			if err := f.tell(client.ProjectionsUpdate{Difference: &d}); err != nil {
				return err
			}
		case <-tick.C:
			if !s.stillGood(x, r, domain.ScopeOperate) {
				return errCredentialEnded
			}
			if progress := wireJob(s.cfg.Projections.Status().Job); progress != nil {
				if err := f.tell(client.ProjectionsUpdate{Progress: progress}); err != nil {
					return err
				}
			}
		case <-r.Context().Done():
			return context.Cause(r.Context())
		}
	}
}

// jobFollower writes the lines of an answer about a job.
type jobFollower struct {
	s      *Server
	x      *exchange
	stream *stream
	line   bytes.Buffer
}

func (f *jobFollower) end(end jobEnd) error {
	switch {
	case end.err == nil:
		return f.tell(client.ProjectionsUpdate{Result: &end.result})
	case f.stream == nil:
		return fromTables(end.err)
	default:
		f.x.cause = end.err
		return f.tell(client.ProjectionsUpdate{Error: wireProjectionsError(end.err)})
	}
}

func (f *jobFollower) tell(update client.ProjectionsUpdate) (err error) {
	if f.stream == nil {
		if f.stream, err = f.s.openStream(f.x, client.MediaTypeNDJSON); err != nil {
			return err
		}
	}
	f.line.Reset()
	if err := marshalJSON(&f.line, update); err != nil {
		return err
	}
	return f.stream.send(f.line.Bytes())
}
