package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// steered is a projector whose state and jobs a test decides.
type steered struct {
	status  projections.Status
	rebuild func(context.Context) error
	check   func(context.Context, func(projections.Difference) error) (projections.CheckResult, error)
}

func (p *steered) Status() projections.Status { return p.status }

func (p *steered) Rebuild(ctx context.Context) error { return p.rebuild(ctx) }

func (p *steered) Check(ctx context.Context, report func(projections.Difference) error) (projections.CheckResult, error) {
	return p.check(ctx, report)
}

func mustSteer(t *testing.T, p *steered) *servertest.Stack {
	t.Helper()
	return servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) { c.Projections = p }})
}

func mustClientOf(t *testing.T, s *servertest.Stack) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{BaseURL: s.URL, Token: client.StaticToken(s.Operator), Retry: client.Retry{Attempts: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestProjections asks the real tables how they are, checks and rebuilds them.
func TestProjections(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	mustHistory(t, s)
	c := mustClientOf(t, s)
	if _, err := c.ListKeys(t.Context(), client.KeyQuery{}); err != nil { // level with the log
		t.Fatal(err)
	}
	before, err := c.Projections(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.State != "live" || before.Database != "sqlite" || before.Place == "" || before.SchemaVersion == 0 || before.Seq != 7 || before.HeadSeq != 7 ||
		before.LagEvents != 0 || !before.Leading || before.SizeBytes == 0 || before.Keys != 3 || before.Entries != 7 || before.Error != nil {
		t.Errorf("the tables are %+v", before)
	}
	checked, err := c.CheckProjections(t.Context(), nil, func(d client.ProjectionsDifference) { t.Errorf("a difference: %+v", d) })
	if err != nil || checked.Seq != 7 || checked.Differences != 0 {
		t.Errorf("the check found %+v, %v", checked, err)
	}
	rebuilt, err := c.RebuildProjections(t.Context(), nil)
	if err != nil || rebuilt.Seq != 7 || rebuilt.Generation <= before.Generation {
		t.Errorf("the rebuild ended with %+v, %v; the generation was %d", rebuilt, err, before.Generation)
	}
	after, err := c.Projections(t.Context())
	if err != nil || after.Generation != rebuilt.Generation || after.Job == nil || after.Job.Kind != "rebuild" || after.Job.Phase != "done" || after.Job.EndedAt == nil {
		t.Errorf("then the tables are %+v, %v", after, err)
	}
}

func TestProjectionsAreOfTheInstance(t *testing.T) {
	s := mustSteer(t, &steered{})
	operator := s.MustManagementKey(t, "acme", domain.ScopeOperate)
	auditor := s.MustManagementKey(t, "_root", domain.ScopeAuditRead, domain.ScopeKeysRead)
	for path, method := range map[string]string{"": "GET", "/rebuild": "POST", "/check": "POST"} {
		r := servertest.Request{Method: method, Path: "/v1/projections" + path, Token: operator.Token}
		mustProblem(t, s.Do(t, r), 403, "ceiling_exceeded")
		r.Token = auditor.Token
		mustProblem(t, s.Do(t, r), 403, "insufficient_scope")
	}
}

func TestProjectionsState(t *testing.T) {
	now := time.Now()
	stopped := &projections.EventError{Seq: 9, EventID: "event-9", Type: domain.TypeKeyCreated, Reason: "no such thing"}
	away := unavailable(projections.CodeUnavailable)
	tests := []struct {
		state, code string
		status      projections.Status
	}{
		{"live", "", projections.Status{Seq: 9, Head: 9, Generation: 1}},
		{"live", "", projections.Status{Seq: 8, Head: 9, Generation: 1, BehindSince: now}},
		{"behind", "", projections.Status{Seq: 8, Head: 9, Generation: 1, BehindSince: now.Add(-time.Minute)}},
		{"building", "", projections.Status{Seq: 8, Head: 9, BehindSince: now.Add(-time.Minute), Job: projections.Job{Kind: projections.JobBuild, Phase: projections.PhaseReading, Began: now}}},
		{"live", "", projections.Status{Seq: 9, Head: 9, Job: projections.Job{Kind: projections.JobRebuild, Phase: projections.PhaseReading, Began: now}}},
		{"unavailable", projections.CodeUnavailable, projections.Status{Seq: 8, Head: 9, Err: away}},
		{"stopped", projections.CodeStopped, projections.Status{Seq: 8, Head: 9, Err: stopped, Stopped: true}},
		{"stopped", projections.CodeStopped, projections.Status{Seq: 8, Head: 9, Err: errors.New("the disk is on fire"), Stopped: true}},
	}
	p := &steered{}
	s := mustSteer(t, p)
	for _, tt := range tests {
		p.status = tt.status
		var got client.Projections
		s.MustDo(t, 200, servertest.Request{Path: "/v1/projections", Token: s.Operator}, &got)
		if got.State != tt.state || (got.Error != nil) != (tt.code != "") || got.LagEvents != 9-tt.status.Seq {
			t.Errorf("%+v is %+v, want %s", tt.status, got, tt.state)
		}
		if got.Error != nil && (got.Error.Code != tt.code || got.Error.Message == "") {
			t.Errorf("the error is %+v, want %s", got.Error, tt.code)
		}
		if errors.Is(tt.status.Err, stopped) && (got.Error.Seq != 9 || got.Error.EventID != "event-9") {
			t.Errorf("the error does not name the event: %+v", got.Error)
		}
	}
}

func TestProjectionsOfADatabaseThatIsAway(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) { c.Describer = away{unavailable(projections.CodeUnavailable)} }})
	var got client.Projections
	s.MustDo(t, 200, servertest.Request{Path: "/v1/projections", Token: s.Operator}, &got)
	if got.State != "unavailable" || got.Error == nil || got.Error.Code != projections.CodeUnavailable || got.HeadSeq == 0 {
		t.Errorf("the tables are %+v", got)
	}
}

func TestJobThatCannotBegin(t *testing.T) {
	s := mustSteer(t, &steered{
		rebuild: func(context.Context) error { return projections.ErrBuildRunning() },
		check: func(context.Context, func(projections.Difference) error) (projections.CheckResult, error) {
			return projections.CheckResult{}, unavailable(projections.CodeUnavailable)
		},
	})
	mustProblem(t, s.Do(t, servertest.Request{Method: "POST", Path: "/v1/projections/rebuild", Token: s.Operator}), 409, projections.CodeBuildRunning)
	a := s.Do(t, servertest.Request{Method: "POST", Path: "/v1/projections/check", Token: s.Operator})
	mustProblem(t, a, 503, projections.CodeUnavailable)
	_, err := mustClientOf(t, s).RebuildProjections(t.Context(), nil)
	if refusal, ok := errors.AsType[*client.Error](err); !ok || refusal.Status != 409 || refusal.Code != projections.CodeBuildRunning {
		t.Errorf("the client says %v", err)
	}
}

// TestCheckTells follows a check that lasts, finds something, and fails.
func TestCheckTells(t *testing.T) {
	difference := projections.Difference{Table: "keys", Row: "3 key_a", Column: "name", Want: "old", Got: "new"}
	release := make(chan struct{})
	p := &steered{status: projections.Status{Job: projections.Job{Kind: projections.JobCheck, Phase: projections.PhaseComparing, Seq: 7, Target: 9, Began: time.Now()}}}
	p.check = func(ctx context.Context, report func(projections.Difference) error) (projections.CheckResult, error) {
		if err := report(difference); err != nil {
			return projections.CheckResult{}, err
		}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return projections.CheckResult{At: projections.Checkpoint{Seq: 9}, Rows: 12, Differences: 1, Took: time.Second}, ctx.Err()
	}
	s := mustSteer(t, p)
	c := mustClientOf(t, s)
	var found []client.ProjectionsDifference
	released := false
	result, err := c.CheckProjections(t.Context(), func(j client.ProjectionsJob) {
		if j.Kind != "check" || j.Seq != 7 || j.TargetSeq != 9 || j.EndedAt != nil {
			t.Errorf("progress %+v", j)
		}
		if !released {
			released = true
			close(release)
		}
	}, func(d client.ProjectionsDifference) { found = append(found, d) })
	if err != nil || result != (client.ProjectionsResult{Seq: 9, Rows: 12, Differences: 1, TookSeconds: 1}) {
		t.Errorf("result %+v, %v", result, err)
	}
	if len(found) != 1 || found[0] != client.ProjectionsDifference(difference) {
		t.Errorf("found %+v", found)
	}

	p.check = func(_ context.Context, report func(projections.Difference) error) (projections.CheckResult, error) {
		return projections.CheckResult{}, errors.Join(report(difference), unavailable(projections.CodeTimeout))
	}
	_, err = c.CheckProjections(t.Context(), nil, nil)
	if failure, ok := errors.AsType[*client.Error](err); !ok || failure.Code != projections.CodeTimeout || failure.Status != 0 {
		t.Errorf("a check that fails later: %v", err)
	}
}

// TestWhoseJobEnds hangs up on a check, which ends, and on a rebuild, which goes on
// until the server stops.
func TestWhoseJobEnds(t *testing.T) {
	checkEnded, rebuilding, rebuildEnded := make(chan struct{}), make(chan struct{}), make(chan struct{})
	p := &steered{status: projections.Status{Job: projections.Job{Kind: projections.JobCheck, Began: time.Now()}}}
	p.check = func(ctx context.Context, _ func(projections.Difference) error) (projections.CheckResult, error) {
		<-ctx.Done()
		close(checkEnded)
		return projections.CheckResult{}, ctx.Err()
	}
	p.rebuild = func(ctx context.Context) error {
		close(rebuilding)
		<-ctx.Done()
		close(rebuildEnded)
		return ctx.Err()
	}
	s := mustSteer(t, p)
	hangUp := func(path string) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		resp, err := http.DefaultClient.Do(s.NewRequest(t, ctx, servertest.Request{Method: "POST", Path: path, Token: s.Operator}))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // a test's
		line, err := bufio.NewReader(resp.Body).ReadBytes('\n')
		var update client.ProjectionsUpdate
		if err != nil || json.Unmarshal(bytes.TrimSpace(line), &update) != nil || update.Progress == nil {
			t.Fatalf("%s says %s, %v", path, line, err)
		}
	}
	hangUp("/v1/projections/check")
	select {
	case <-checkEnded:
	case <-time.After(10 * time.Second):
		t.Fatal("the check went on without its caller")
	}
	hangUp("/v1/projections/rebuild")
	<-rebuilding
	select {
	case <-rebuildEnded:
		t.Fatal("the rebuild ended with its caller")
	case <-time.After(200 * time.Millisecond):
	}
	s.MustStop(t)
	select {
	case <-rebuildEnded:
	default:
		t.Error("the server stopped before its rebuild")
	}
}

// TestCheckEndsWithItsCredential revokes the key that a check was asked with.
func TestCheckEndsWithItsCredential(t *testing.T) {
	p := &steered{status: projections.Status{Job: projections.Job{Kind: projections.JobCheck, Began: time.Now()}}}
	ended := make(chan struct{})
	p.check = func(ctx context.Context, _ func(projections.Difference) error) (projections.CheckResult, error) {
		defer close(ended)
		<-ctx.Done()
		return projections.CheckResult{}, ctx.Err()
	}
	s := mustSteer(t, p)
	operator := s.MustManagementKey(t, "_root", domain.ScopeOperate)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := http.DefaultClient.Do(s.NewRequest(t, ctx, servertest.Request{Method: "POST", Path: "/v1/projections/check", Token: operator.Token}))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // a test's
	s.MustDo(t, 200, servertest.Request{Method: "POST", Path: "/v1/management-keys/" + operator.Key.ID + "/revoke", Token: s.Operator}, nil)
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
	}
	if lines.Err() == nil || ctx.Err() != nil {
		t.Errorf("the check ended with %v, %v", lines.Err(), ctx.Err())
	}
	<-ended
}
