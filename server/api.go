package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/wire"
)

// newAPI makes the huma API: typed routes, and the document that is generated from
// them. Nothing of huma's own is served: its pages load scripts from elsewhere.
func (s *Server) newAPI() huma.API {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[client.Optional[string]](), reflect.TypeFor[*string]())
	registry.RegisterTypeAlias(reflect.TypeFor[client.Optional[time.Time]](), reflect.TypeFor[*time.Time]())
	format := huma.Format{
		Marshal: marshalJSON,
		// huma gets only bodies that wire.Decode has accepted. This is the same
		// decoder, so that there is no second opinion on what they mean.
		Unmarshal: func(data []byte, v any) error { return wire.Decode(data, v, "/expires_on", "/expires_at") },
	}
	return huma.NewAPI(huma.Config{
		OpenAPI:       s.newDocument(registry),
		Formats:       map[string]huma.Format{client.MediaTypeJSON: format, "json": format},
		DefaultFormat: client.MediaTypeJSON,
		Transformers:  []huma.Transformer{ownProblemsOnly},
	}, adapter{s})
}

func marshalJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// ownProblemsOnly keeps huma's own errors from leaving: they quote what was sent.
// Everything that could lead to one is refused before huma sees it, so that one
// that turns up here is a bug, and becomes a 500.
func ownProblemsOnly(ctx huma.Context, _ string, v any) (any, error) {
	if e, ok := v.(*huma.ErrorModel); ok {
		panic(bug("huma refused what the guard had accepted: " + ctx.Operation().OperationID + ": " + e.Detail))
	}
	return v, nil
}

// adapter connects huma to the mux, behind the guard.
type adapter struct{ s *Server }

// metaEndpoint is under which an operation carries its endpoint to the adapter.
const metaEndpoint = "endpoint"

// Handle implements huma.Adapter.
func (a adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	e, ok := op.Metadata[metaEndpoint].(*endpoint)
	if !ok {
		panic(bug("an operation was registered without its endpoint"))
	}
	a.s.mount(e, func(x *exchange, r *http.Request) {
		r, cancel := a.s.withTimeout(x, r)
		defer cancel()
		if e.newBody != nil {
			if err := checkBody(x, r, e); err != nil {
				a.s.refuse(x, r, err)
				return
			}
		}
		handler(humago.NewContext(op, r, x))
	})
}

// ServeHTTP implements huma.Adapter.
func (a adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.s.ServeHTTP(w, r) }

// checkBody refuses a body that is not strictly what the endpoint takes, and puts
// it back for huma to read.
func checkBody(x *exchange, r *http.Request, e *endpoint) error {
	data, err := readBody(x, r, nil)
	if err != nil {
		return err
	}
	if len(data) > 0 || e.RequestBody.Required {
		if err := wire.Decode(data, e.newBody(), e.nullable...); err != nil {
			return err
		}
	}
	r.Header["Content-Type"] = contentJSON // in the one spelling that huma knows
	r.Body = io.NopCloser(bytes.NewReader(data))
	return nil
}

// handle registers a typed route. Its handler's errors become problems.
func handle[I, O any](s *Server, e *endpoint, handler func(context.Context, *I) (*O, error)) {
	op := &e.Operation
	op.Metadata = map[string]any{metaEndpoint: e}
	op.SkipValidateParams = true // huma's refusals quote what was sent; ours do not
	op.SkipValidateBody = true
	op.BodyReadTimeout = -1 // the body has been read
	s.describe(e)
	huma.Register(s.api, *op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			x := exchangeOf(ctx)
			return nil, s.problemOf(x, x.request, err)
		}
		return out, nil
	})
	e.Operation = *s.documented(e)
	for _, p := range e.Parameters {
		if p.In == "query" {
			e.query = append(e.query, p.Name)
		}
	}
}

// handlePlain mounts a route that does without huma and documents it all the same.
func (s *Server) handlePlain(e *endpoint, handler handlerFunc) {
	s.describe(e)
	s.api.OpenAPI().AddOperation(&e.Operation)
	for _, p := range e.Parameters {
		if p.In == "query" {
			e.query = append(e.query, p.Name)
		}
	}
	s.mount(e, handler)
}

// documented returns the operation as huma completed it.
func (s *Server) documented(e *endpoint) *huma.Operation {
	item := s.api.OpenAPI().Paths[e.Path]
	all := []*huma.Operation{item.Get, item.Post, item.Patch, item.Put, item.Delete}
	return all[slices.IndexFunc(all, func(op *huma.Operation) bool { return op != nil && op.Method == e.Method })]
}
