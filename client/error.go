package client

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error is a refusal by the server. Get at it with [errors.As]. Code is stable
// and meant for programs; Detail says what is wrong and Fix what to do about it,
// for people. None of them holds a secret.
type Error struct {
	Status    int    // HTTP status; 0 if the answer had begun well and told of the error later
	Code      string // for example "key_not_found"; "" if the answer was not keyledger's
	Title     string
	Detail    string
	Fix       string
	RequestID string // under which the server logged the request
	Fields    []ProblemField
	// RetryAfter is how long the server asks to wait; 0 if it does not say.
	RetryAfter time.Duration
}

// Error says what is wrong, in one line, with code, status and request id.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(cmp.Or(e.Detail, e.Title, http.StatusText(e.Status), "unknown status"))
	for _, f := range e.Fields {
		fmt.Fprintf(&b, "; %s: %s", cmp.Or(f.Pointer, f.Parameter), f.Detail)
	}
	name := e.Code
	if e.Status != 0 {
		name = strings.TrimSpace(strconv.Itoa(e.Status) + " " + e.Code)
	}
	b.WriteString(" (" + name)
	if e.RequestID != "" {
		b.WriteString(", request " + e.RequestID)
	}
	b.WriteString(")")
	return b.String()
}

// readError turns an answer that is not 2xx into an [*Error], whoever wrote it:
// a proxy's HTML page yields its status alone.
func readError(resp *http.Response) *Error {
	e := &Error{
		Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode),
		RequestID: resp.Header.Get(HeaderRequestID), RetryAfter: retryAfter(resp.Header),
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
	if err != nil || !strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return e
	}
	var problem Problem
	if json.Unmarshal(data, &problem) != nil {
		return e
	}
	e.Title = cmp.Or(problem.Title, e.Title)
	e.RequestID = cmp.Or(problem.RequestID, e.RequestID)
	e.Detail, e.Code, e.Fix, e.Fields = problem.Detail, problem.Code, problem.Fix, problem.Errors
	return e
}

// retryAfter reads the header's two forms (RFC 9110, 10.2.3). A date is taken
// against the answer's own Date, so that a wrong clock here does no harm.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return max(0, until.Sub(date))
}

// transportError says that no answer came, so that the call's outcome is unknown.
type transportError struct {
	call string
	err  error
}

func (e *transportError) Error() string { return e.call + ": " + e.err.Error() }
func (e *transportError) Unwrap() error { return e.err }
