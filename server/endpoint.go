package server

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keyledger/keyledger/domain"
)

// endpoint is one method of one path: what is documented of it, and what the guard
// asks of a request before its handler sees it.
type endpoint struct {
	huma.Operation

	// scope is the management scope that callers need; "" means that any
	// management key will do.
	scope domain.Scope
	open  bool // no credential is needed
	page  bool // a page for people or machines that is always the same

	example any // of the request's body
	answer  any // an example of the answer

	// newBody makes what a JSON body is read into; nil if the endpoint takes none.
	newBody  func() any
	nullable []string // JSON pointers of members that may be null

	track track // of its requests

	query    []string // names of the query parameters, made from the documentation
	repeated []string // those that may be given more than once
}

// endpointOf makes an endpoint that needs a management key with a scope.
func endpointOf(method, path, id, tag, summary string, scope domain.Scope, description string) *endpoint {
	return &endpoint{
		Operation: huma.Operation{
			Method: method, Path: path, OperationID: id, Tags: []string{tag}, Summary: summary, Description: description,
		},
		scope: scope,
	}
}

// created says that success is 201.
func (e *endpoint) created() *endpoint {
	e.DefaultStatus = http.StatusCreated
	return e
}

// takes says what a JSON body is read into, gives an example of it, and names the
// members that may be null.
func (e *endpoint) takes(newBody func() any, example any, nullable ...string) *endpoint {
	e.newBody, e.example, e.nullable = newBody, example, nullable
	return e
}

// answers gives an example of the answer.
func (e *endpoint) answers(example any) *endpoint {
	e.answer = example
	return e
}

// handlerFunc answers a request that the guard let through.
type handlerFunc func(x *exchange, r *http.Request)

// mount puts an endpoint into the mux, behind the guard.
func (s *Server) mount(e *endpoint, h handlerFunc) {
	e.track = s.newTrack(e.Path, e.Method)
	s.endpoints = append(s.endpoints, e)
	s.mux.HandleFunc(e.Method+" "+pattern(e.Path), func(w http.ResponseWriter, r *http.Request) {
		x, ok := w.(*exchange)
		if !ok {
			panic(bug("the mux was called around ServeHTTP"))
		}
		x.endpoint = e
		if err := s.admit(x, r, e); err != nil {
			s.refuse(x, r, err)
			return
		}
		h(x, r)
	})
}

// mountRefusals makes the mux answer with problems where no endpoint matches: 405
// for the other methods of known paths, 404 for everything else.
func (s *Server) mountRefusals() {
	allow := map[string][]string{}
	for _, e := range s.endpoints {
		allow[e.Path] = append(allow[e.Path], e.Method)
		if e.Method == http.MethodGet {
			allow[e.Path] = append(allow[e.Path], http.MethodHead)
		}
	}
	for path, methods := range allow {
		slices.Sort(methods)
		s.mux.HandleFunc(pattern(path), s.refuser(methodNotAllowed(strings.Join(methods, ", "))))
	}
	s.mux.HandleFunc("/", s.refuser(routeNotFound()))
}

// pattern returns the mux's pattern of a path: the root alone, where "/" would
// match everything below it too.
func pattern(path string) string {
	if path == "/" {
		return "/{$}"
	}
	return path
}

func (s *Server) refuser(err error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x, ok := w.(*exchange)
		if !ok {
			panic(bug("the mux was called around ServeHTTP"))
		}
		s.refuse(x, r, err)
	}
}

// checkQuery refuses parameters that the endpoint does not have: a misspelt filter
// would otherwise answer with everything.
func (e *endpoint) checkQuery(query url.Values) error {
	for name, values := range query {
		if !slices.Contains(e.query, name) {
			return badParameter("unknown_parameter", name, "not a parameter of this request", "see GET /docs for the parameters")
		}
		if len(values) > 1 && !slices.Contains(e.repeated, name) {
			return badParameter("repeated_parameter", name, "given more than once", "give it once")
		}
	}
	return nil
}

// withTimeout bounds what the making of an answer takes.
func (s *Server) withTimeout(x *exchange, r *http.Request) (*http.Request, context.CancelFunc) {
	x.request = r
	ctx := context.WithValue(r.Context(), exchangeKey{}, x)
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandlerTimeout)
	return r.WithContext(ctx), cancel
}

// Routes returns "METHOD /path" of everything that the server answers, in the
// order of the documentation's groups.
func (s *Server) Routes() []string {
	routes := make([]string, len(s.endpoints))
	for i, e := range s.endpoints {
		routes[i] = e.Method + " " + e.Path
	}
	return routes
}
