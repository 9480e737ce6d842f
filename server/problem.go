package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// Kinds of refusal that only an HTTP door has.
const (
	kindMethod  domain.Kind = "method_not_allowed"
	kindTimeout domain.Kind = "request_timeout"
	kindTooMany domain.Kind = "too_many_requests"
)

// statusOf is the one table from kinds of error to HTTP statuses.
func statusOf(k domain.Kind) int {
	switch k {
	case domain.KindInvalid:
		return http.StatusBadRequest
	case domain.KindUnauthenticated:
		return http.StatusUnauthorized
	case domain.KindForbidden:
		return http.StatusForbidden
	case domain.KindNotFound:
		return http.StatusNotFound
	case kindMethod:
		return http.StatusMethodNotAllowed
	case kindTimeout:
		return http.StatusRequestTimeout
	case kindTooMany:
		return http.StatusTooManyRequests
	case domain.KindConflict:
		return http.StatusConflict
	case domain.KindPrecondition:
		return http.StatusPreconditionFailed
	case domain.KindTooLarge:
		return http.StatusRequestEntityTooLarge
	case domain.KindUnsupported:
		return http.StatusUnsupportedMediaType
	case domain.KindUnavailable:
		return http.StatusServiceUnavailable
	case domain.KindInternal:
		return http.StatusInternalServerError
	default:
		return http.StatusInternalServerError
	}
}

// refusal is an error with what only HTTP says about it.
type refusal struct {
	err        *domain.Error
	parameters bool          // the pointers name parameters, not members of the body
	challenge  string        // WWW-Authenticate
	allow      string        // Allow
	retryAfter time.Duration // Retry-After; 0: the default of its kind
}

// Error returns the text of the error.
func (r *refusal) Error() string { return r.err.Error() }

// Unwrap returns the error.
func (r *refusal) Unwrap() error { return r.err }

// problem is a refusal as it leaves: it is the answer's body, and huma writes it
// when a handler returns it.
type problem struct {
	client.Problem

	headers http.Header
}

// Error returns the detail.
func (p *problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *problem) GetHeaders() http.Header { return p.headers }

// ContentType implements huma.ContentTypeFilter.
func (p *problem) ContentType(string) string { return client.MediaTypeProblem }

// problemOf translates an error, and notes in the exchange what the log says of it.
// The cause of an error, and everything about an internal one, stays in the log.
func (s *Server) problemOf(x *exchange, r *http.Request, err error) *problem {
	e, known := errors.AsType[*domain.Error](err)
	switch {
	case known:
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e = domain.NewError(domain.KindUnavailable, "timeout", "the answer took too long",
			"send the request again; a command with the same Idempotency-Key is not done twice")
	default:
		e = domain.NewError(domain.KindInternal, "internal", "something is wrong on the server",
			"try again; if it goes on, give the operator the request_id")
	}
	status := statusOf(e.Kind)
	x.code = e.Code
	if status >= http.StatusInternalServerError {
		x.cause = err
	}
	p := &problem{
		Problem: client.Problem{
			Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: e.Message,
			Instance: r.URL.EscapedPath(), Code: e.Code, Fix: e.Fix, RequestID: x.requestID,
		},
		headers: http.Header{},
	}
	if e.Kind == domain.KindInternal {
		p.Detail = "something is wrong on the server"
	}
	if e.Kind == domain.KindInternal && e.Code == projections.CodeCorrupt { // its own words name files
		p.Detail = "the tables that this is read from are damaged; nothing is lost, since they are made from the log"
		p.Fix = "run keyledger projections check, then keyledger projections rebuild, or tell the operator to"
	}
	// No path of ours needs escapes, and a key can hide behind them.
	if strings.Contains(p.Instance, "%") || domain.ContainsToken(p.Instance) {
		p.Instance = ""
	}
	extra, special := errors.AsType[*refusal](err)
	for _, f := range e.Fields {
		field := client.ProblemField{Pointer: f.Pointer, Detail: f.Detail}
		if special && extra.parameters {
			field.Pointer, field.Parameter = "", strings.TrimPrefix(f.Pointer, "/")
		}
		p.Errors = append(p.Errors, field)
	}
	retry := time.Duration(0)
	if e.Kind == domain.KindUnavailable {
		retry = time.Second
	}
	if special {
		if extra.challenge != "" {
			p.headers.Set("WWW-Authenticate", extra.challenge)
		}
		if extra.allow != "" {
			p.headers.Set("Allow", extra.allow)
		}
		retry = max(retry, extra.retryAfter)
	}
	if retry > 0 {
		p.headers.Set("Retry-After", strconv.Itoa(int(retry.Round(time.Second)/time.Second)))
	}
	return p
}

// refuse answers a request that no handler behind huma answers.
func (s *Server) refuse(x *exchange, r *http.Request, err error) {
	p := s.problemOf(x, r, err)
	maps.Copy(x.Header(), p.headers)
	body, err := json.Marshal(p.Problem)
	if err != nil { // strings and numbers always marshal
		s.logger.ErrorContext(r.Context(), "marshal problem", slog.String("error", err.Error()))
	}
	x.Header().Set("Content-Type", client.MediaTypeProblem)
	x.WriteHeader(p.Status)
	_, _ = x.Write(body) // the caller is gone if it fails
}

// badParameter refuses a parameter of the path, the query or a header.
func badParameter(code, name, detail, fix string) error {
	return &refusal{err: domain.Invalid(code, name, detail, fix), parameters: true}
}

// aboutParameters turns the pointers of an error into names of query parameters:
// the floors below point into a query as if it were a body.
func aboutParameters(err error) error {
	if e, ok := errors.AsType[*domain.Error](err); ok && e.Kind == domain.KindInvalid {
		return &refusal{err: e, parameters: true}
	}
	return err
}

// tablesRetry is what callers are told to wait when the tables cannot be read.
const tablesRetry = 2 * time.Second

// fromTables prepares an error of the tables for its way out: pointers become
// parameters, and callers of what is away for now are told when to come back.
func fromTables(err error) error {
	if e, ok := errors.AsType[*domain.Error](err); ok && e.Kind == domain.KindUnavailable {
		return &refusal{err: &domain.Error{Kind: e.Kind, Code: e.Code, Message: e.Message, Fix: e.Fix, Cause: err}, retryAfter: tablesRetry}
	}
	return aboutParameters(err)
}

func invalidID() error {
	return badParameter("invalid_id", "id", "not the form of an id",
		"use the id as it was given, for example key_ and 16 letters and digits; nothing in a path needs percent-encoding")
}

func routeNotFound() error {
	return domain.NewError(domain.KindNotFound, "route_not_found", "there is nothing at this path", "see GET /docs for the paths of the API")
}

func methodNotAllowed(allow string) error {
	return &refusal{
		err:   domain.NewError(kindMethod, "method_not_allowed", "the path does not take this method", "use "+allow),
		allow: allow,
	}
}
