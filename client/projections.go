package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Projections says how the tables are that lists and the audit log are read from.
func (c *Client) Projections(ctx context.Context, opts ...CallOption) (Projections, error) {
	var out Projections
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "projections"}, opts: collect(opts)}, &out)
	return out, err
}

// RebuildProjections builds the tables anew from the log beside the live ones and
// puts them in their place. It tells progress, unless that is nil, about every
// second. It is not repeated when it fails; the server goes on with it when ctx ends
// or the connection breaks, and [Client.Projections] shows how far it is.
func (c *Client) RebuildProjections(ctx context.Context, progress func(ProjectionsJob), opts ...CallOption) (ProjectionsResult, error) {
	return c.job(ctx, "rebuild", progress, nil, opts)
}

// CheckProjections compares the tables with what the log makes of them and tells of
// each difference, and of its progress about every second; either may be nil. The
// end of ctx ends the check. Differences are no error: the result counts them.
func (c *Client) CheckProjections(ctx context.Context, progress func(ProjectionsJob), difference func(ProjectionsDifference), opts ...CallOption) (ProjectionsResult, error) {
	return c.job(ctx, "check", progress, difference, opts)
}

func (c *Client) job(ctx context.Context, kind string, progress func(ProjectionsJob), difference func(ProjectionsDifference), opts []CallOption) (ProjectionsResult, error) {
	spec := call{
		method: http.MethodPost, path: []string{"v1", "projections", kind}, accept: MediaTypeNDJSON, opts: collect(opts),
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(c.timeout, func() { cancel(errTimeout) })
	defer idle.Stop()
	resp, err := c.send(ctx, spec, nil)
	if err != nil {
		return ProjectionsResult{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(&watchedReader{r: resp.Body, alive: func() { idle.Reset(max(c.timeout, maxSilence)) }})
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	lines.Split(wholeLines)
	for {
		line, ok := nextNDJSON(lines)
		if !ok {
			break
		}
		var update ProjectionsUpdate
		if err := json.Unmarshal(line, &update); err != nil {
			return ProjectionsResult{}, fmt.Errorf("%s: %w", spec, errNotKeyledger)
		}
		switch {
		case update.Result != nil:
			return *update.Result, nil
		case update.Error != nil:
			return ProjectionsResult{}, &Error{
				Code: update.Error.Code, Detail: update.Error.Message, RequestID: resp.Header.Get(HeaderRequestID),
			}
		case update.Progress != nil && progress != nil:
			progress(*update.Progress)
		case update.Difference != nil && difference != nil:
			difference(*update.Difference)
		}
	}
	err = lines.Err()
	if err == nil { // the last line is a result or an error
		err = io.ErrUnexpectedEOF
	}
	return ProjectionsResult{}, &transportError{call: spec.String(), err: unwrapURLError(ctx, err)}
}
