package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// readyWithin bounds what the parts may take to say how they are.
const readyWithin = 2 * time.Second

// operationRoutes registers what operators and their machines look at. They need
// no credential and show nothing of customers.
func (s *Server) operationRoutes() {
	text := map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}
	s.handlePlain(openEndpoint("/healthz", "health", "Say that the process runs", text), func(x *exchange, _ *http.Request) {
		x.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = x.Write([]byte("ok\n"))
	})

	ready := openEndpoint("/readyz", "ready", "Say whether the server can serve, and what of it cannot",
		map[string]*huma.MediaType{client.MediaTypeJSON: {
			Schema:  schemaOf[client.Readiness](s),
			Example: client.Readiness{Ready: true, Parts: []client.ReadinessPart{{Name: "verifier", Ready: true}}},
		}})
	ready.Responses["503"] = &huma.Response{Description: "Not ready: the parts say why", Content: map[string]*huma.MediaType{
		client.MediaTypeJSON: {Schema: schemaOf[client.Readiness](s)},
	}}
	s.handlePlain(ready, s.ready)

	gatherer := promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{DisableCompression: true, Registry: nil})
	s.handlePlain(openEndpoint("/metrics", "metrics", "Show metrics in the form of Prometheus", text), func(x *exchange, r *http.Request) {
		gatherer.ServeHTTP(x, r)
	})
}

// openEndpoint makes an endpoint that needs no credential.
func openEndpoint(path, id, summary string, content map[string]*huma.MediaType) *endpoint {
	e := endpointOf(http.MethodGet, path, id, tagOperations, summary, "", "")
	e.open, e.page = true, true
	e.Responses = map[string]*huma.Response{"200": {Description: http.StatusText(http.StatusOK), Content: content}}
	return e
}

// ready answers GET /readyz.
func (s *Server) ready(x *exchange, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyWithin)
	defer cancel()
	answer := s.readiness(ctx)
	status := http.StatusOK
	if !answer.Ready {
		status = http.StatusServiceUnavailable
		x.Header().Set("Retry-After", "1")
		x.code = "not_ready"
	}
	x.Header()["Content-Type"] = contentJSON
	x.Header()["Cache-Control"] = noStore
	x.WriteHeader(status)
	_ = json.NewEncoder(x).Encode(answer) // the caller is gone if it fails
}

// partError says what is wrong with a part to whoever asks, without a credential: of
// our own errors the message and the code, and never the causes below, which name
// addresses, databases and files. Other errors are what a part says in its own words.
func partError(err error) string {
	if e, ok := errors.AsType[*domain.Error](err); ok {
		return fmt.Sprintf("%s (%s)", e.Message, e.Code)
	}
	if e, ok := errors.AsType[*projections.EventError](err); ok {
		return fmt.Sprintf("the event at seq %d cannot be taken in (%s)", e.Seq, projections.CodeStopped)
	}
	return err.Error()
}

// readiness asks all parts at once.
func (s *Server) readiness(ctx context.Context) client.Readiness {
	answer := client.Readiness{Ready: true, Parts: make([]client.ReadinessPart, len(s.cfg.Parts))}
	var wg sync.WaitGroup
	for i, part := range s.cfg.Parts {
		wg.Go(func() {
			answer.Parts[i] = client.ReadinessPart{Name: part.Name, Ready: true}
			if err := part.Check(ctx); err != nil {
				answer.Parts[i] = client.ReadinessPart{Name: part.Name, Error: partError(err)}
			}
		})
	}
	wg.Wait()
	if s.draining.Load() {
		answer.Parts = append(answer.Parts, client.ReadinessPart{Name: "server", Error: "shutting down"})
	}
	for i, part := range answer.Parts {
		optional := i < len(s.cfg.Parts) && s.cfg.Parts[i].Optional
		answer.Ready = answer.Ready && (part.Ready || optional)
	}
	return answer
}
