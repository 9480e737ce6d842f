package server

import (
	"context"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// pastParams is a point of the past that a request names, by at or by seq.
type pastParams struct {
	asked bool
	projections.At
}

// readPast reads the parameters at and seq.
func readPast(at timeParam, seq seqParam) (p pastParams, err error) {
	if at != "" && seq != "" {
		return p, badParameter(domain.CodeValidation, "seq", "given together with at", "give an instant or a sequence number, not both")
	}
	p.asked = at != "" || seq != ""
	if p.Time, err = at.read("at"); err != nil {
		return p, err
	}
	p.Seq, err = seq.read("seq")
	return p, err
}

// clockDifference is how far a caller's clock may be ahead of ours: an instant that
// is present for the caller is present.
const clockDifference = 5 * time.Second

// notAhead returns the instant, or the present for one that is less than
// clockDifference ahead. future says that it is further ahead.
func (s *Server) notAhead(at time.Time) (_ time.Time, future bool) {
	now := s.now()
	if !at.After(now) {
		return at, false
	}
	return now, at.Sub(now) > clockDifference
}

// moment finds what the point of the past means. The tables come level with the end
// of the log first, so that what was acknowledged anywhere before the request counts.
func (s *Server) moment(ctx context.Context, p pastParams) (*projections.Moment, error) {
	var future bool
	if p.Time, future = s.notAhead(p.Time); future {
		return nil, badParameter(domain.CodeValidation, "at", "an instant of the future", "leave it out for what is true now; the server's clock decides")
	}
	if _, err := s.awaitHead(ctx, &s.tables); err != nil {
		return nil, err
	}
	if p.Time.IsZero() && p.Seq == 0 { // before the first event
		return &projections.Moment{Time: time.Unix(0, 0).UTC()}, nil
	}
	m, err := s.cfg.Audit.Moment(ctx, p.At)
	if err != nil {
		return nil, fromTables(err)
	}
	return &m, nil
}
