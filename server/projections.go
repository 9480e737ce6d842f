package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/wire"
)

const pathProjections = "/v1/projections"

// infoWithin bounds what the database may take to describe itself.
const infoWithin = 5 * time.Second

// levelWithin is how long tables may be behind the log and yet count as level with
// it: under writes they always are, by the length of one batch.
const levelWithin = time.Second

// projectionRoutes registers what the operator of an instance asks of the tables.
func (s *Server) projectionRoutes() {
	handle(s, endpointOf(http.MethodGet, pathProjections, "get-projections", tagOperations, "Say how the tables are", domain.ScopeOperate,
		"The tables are what lists and the audit log are read from; commands and verification do without them. "+
			"For management keys of the instance.").answers(exampleProjections()), s.getProjections)
	s.jobRoute("rebuild", "rebuild-projections", "Build the tables anew",
		"From the log, beside the live ones, whose place they take in the end; reads go on. It goes on if the caller hangs up. ", s.rebuild)
	s.jobRoute("check", "check-projections", "Compare the tables with the log",
		"Each difference from what the log makes of them is a line. It ends if the caller hangs up. ", s.checkTables)
}

// instanceOnly refuses management keys of one account.
func instanceOnly(a domain.Authority) error {
	if a.Instance() {
		return nil
	}
	return domain.NewError(domain.KindForbidden, domain.CodeCeiling,
		"the management key belongs to one account, and this is about the whole instance", "use an instance management key")
}

type projectionsOutput struct {
	Body client.Projections
}

func (s *Server) getProjections(ctx context.Context, _ *struct{}) (*projectionsOutput, error) {
	if err := instanceOnly(exchangeOf(ctx).authority); err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, infoWithin)
	defer cancel()
	info, infoErr := s.cfg.Describer.Info(bounded)
	status := s.cfg.Projections.Status()
	if head, err := s.cfg.History.Head(bounded); err == nil {
		status.Head = max(status.Head, head)
	}
	out := client.Projections{
		Database: info.Database, Place: info.Place, SchemaVersion: info.SchemaVersion, Generation: status.Generation,
		Leading: status.Leading, Leader: status.Leader, Seq: status.Seq, HeadSeq: status.Head, EventsPerSecond: status.Rate,
		SizeBytes: info.Bytes, Keys: info.Keys, Entries: info.Entries, Job: wireJob(status.Job),
	}
	if status.Head > status.Seq {
		out.LagEvents = status.Head - status.Seq
	}
	if !status.BehindSince.IsZero() {
		out.LagSeconds = max(0, s.now().Sub(status.BehindSince).Seconds())
	}
	out.State = stateOf(status, infoErr, out.LagSeconds)
	if err := errors.Join(status.Err, infoErr); err != nil {
		out.Error = wireProjectionsError(err)
		if status.Stopped && out.Error.Code == codeInternal {
			out.Error.Code = projections.CodeStopped
		}
	}
	return &projectionsOutput{Body: out}, nil
}

// stateOf sums up how the tables are.
func stateOf(status projections.Status, infoErr error, lag float64) string {
	building := status.Job.Running() && status.Job.Kind == projections.JobBuild ||
		domain.CodeOf(status.Err) == projections.CodeBuilding || domain.CodeOf(infoErr) == projections.CodeBuilding
	switch {
	case status.Stopped:
		return "stopped"
	case building:
		return "building"
	case infoErr != nil, domain.KindOf(status.Err) == domain.KindUnavailable:
		return "unavailable"
	case status.Err != nil, lag >= levelWithin.Seconds():
		return "behind"
	default:
		return "live"
	}
}

// codeInternal is the code of errors that have none of their own.
const codeInternal = "internal"

// wireProjectionsError shows an operator what is wrong with the tables or a job: the
// whole of it, which errors of ours keep free of secrets.
func wireProjectionsError(err error) *client.ProjectionsError {
	if err == nil {
		return nil
	}
	w := &client.ProjectionsError{Code: codeInternal, Message: err.Error()}
	if e, ok := errors.AsType[*domain.Error](err); ok {
		w.Code = e.Code
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		w.Code = "cancelled"
	}
	if e, ok := errors.AsType[*projections.EventError](err); ok {
		w.Code, w.Seq, w.EventID = projections.CodeStopped, e.Seq, e.EventID
	}
	return w
}

func wireJob(j projections.Job) *client.ProjectionsJob {
	if j.Kind == "" {
		return nil
	}
	return &client.ProjectionsJob{
		Kind: string(j.Kind), Phase: string(j.Phase), Seq: j.Seq, TargetSeq: j.Target, Table: j.Table, Rows: j.Rows,
		Differences: j.Differences, BeganAt: j.Began.UTC(), EndedAt: wire.Instant(j.Ended), Error: wireProjectionsError(j.Err),
	}
}

func exampleProjections() client.Projections {
	return client.Projections{
		Database: "postgresql", Place: "db.example.com:5432/keyledger", SchemaVersion: 2, Generation: 3, State: "live",
		Leading: true, Leader: "keyledger node-1", Seq: 3_000_000, HeadSeq: 3_000_000, EventsPerSecond: 120.5,
		SizeBytes: 2_400_000_000, Keys: 1_000_000, Entries: 3_000_000,
	}
}
