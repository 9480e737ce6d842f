package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x, ok := s.exchanges.Get().(*exchange)
	if !ok {
		x = new(exchange)
	}
	*x = exchange{ResponseWriter: w, start: s.now(), requestID: s.requestID(r)}
	s.metrics.inFlight.Inc()
	defer func() {
		abort := s.recovered(x, r, recover())
		s.metrics.inFlight.Dec()
		s.record(x, r)
		*x = exchange{}
		s.exchanges.Put(x)
		if abort {
			panic(http.ErrAbortHandler) // net/http cuts the connection and says nothing
		}
	}()
	h := w.Header()
	h[headerRequestID] = []string{x.requestID}
	h["X-Content-Type-Options"] = nosniff
	if isAPI(r.URL.Path) {
		h["Cache-Control"] = noStore
	}
	if err := checkPath(r); err != nil {
		s.refuse(x, r, err)
		return
	}
	s.mux.ServeHTTP(x, r)
}

// Header values that every answer has. net/http only reads them.
//
//nolint:gochecknoglobals // constants, if Go had constant slices
var (
	nosniff     = []string{"nosniff"}
	noStore     = []string{"no-store"}
	contentJSON = []string{client.MediaTypeJSON}
)

// headerRequestID is in the form in which net/http keeps it.
const headerRequestID = client.HeaderRequestID

// requestID takes the caller's name for the request, if it can stand in logs and
// events, or makes one.
func (s *Server) requestID(r *http.Request) string {
	if given := r.Header[headerRequestID]; len(given) == 1 && domain.ValidID(given[0]) && !domain.ContainsToken(given[0]) {
		return given[0]
	}
	return s.cfg.NewID()
}

func isAPI(p string) bool { return strings.HasPrefix(p, "/v1/") || p == "/v1" }

// checkPath refuses paths that no route has, before the mux tidies them up: it
// would redirect /v1/keys/.. to another resource, and hand decoded ids to handlers.
func checkPath(r *http.Request) error {
	p := r.URL.Path
	clean := strings.HasPrefix(p, "/") && !strings.Contains(r.URL.EscapedPath(), "%") &&
		(p == "/" || path.Clean(p) == strings.TrimSuffix(p, "/"))
	switch {
	case clean:
		return nil
	case isAPI(p):
		return invalidID()
	default:
		return routeNotFound()
	}
}

// bug is the value of panics of our own. It holds no text of a caller's.
type bug string

// recovered turns a panic into a 500, and says whether the connection must be cut
// because the answer had begun.
func (s *Server) recovered(x *exchange, r *http.Request, p any) (abort bool) {
	if p == nil {
		return false
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return true
	}
	// The value may hold anything, a credential included; only the runtime's
	// messages and our own are known not to.
	what := fmt.Sprintf("%T", p)
	switch p := p.(type) {
	case runtime.Error:
		what = p.Error()
	case bug:
		what = string(p)
	}
	s.logger.ErrorContext(r.Context(), "panic", slog.String("request_id", x.requestID),
		slog.String("panic", what), slog.String("stack", string(debug.Stack())))
	if x.status != 0 {
		return true
	}
	s.refuse(x, r, errors.New("panic"))
	return false
}
