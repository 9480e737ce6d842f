package server

import (
	_ "embed"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// routes registers every route.
func (s *Server) routes() {
	s.keyRoutes()
	s.usageRoutes()
	s.verifyRoutes()
	s.eventRoutes()
	s.auditRoutes()
	s.commandRoutes()
	s.scopeRoutes()
	s.managementKeyRoutes()
	s.operationRoutes()
	s.projectionRoutes()
	s.pageRoutes()
	s.mountRefusals()
}

const contentHTML = "text/html; charset=utf-8"

// pagePolicy lets our own pages use our own style sheet, and nothing else.
const pagePolicy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed style.css
var styleSheet []byte

// pageRoutes registers what a person sees in a browser, and the document that the
// pages are made of.
func (s *Server) pageRoutes() {
	html := map[string]*huma.MediaType{"text/html": {Schema: &huma.Schema{Type: huma.TypeString}}}
	s.handlePlain(openEndpoint("/", "index", "Say what this is", html), func(x *exchange, _ *http.Request) {
		page(x, contentHTML, s.index())
	})
	s.handlePlain(openEndpoint("/docs", "docs", "Show this API to people", html), func(x *exchange, _ *http.Request) {
		page(x, contentHTML, s.docs)
	})
	s.handlePlain(openEndpoint("/docs/style.css", "docs-style", "The pages' style sheet",
		map[string]*huma.MediaType{"text/css": {Schema: &huma.Schema{Type: huma.TypeString}}}), func(x *exchange, _ *http.Request) {
		page(x, "text/css; charset=utf-8", styleSheet)
	})
	s.handlePlain(openEndpoint("/openapi.json", "openapi", "Describe this API to programs (OpenAPI 3.1)",
		map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}}), func(x *exchange, _ *http.Request) {
		page(x, "application/json", s.document)
	})
}

func page(x *exchange, contentType string, body []byte) {
	x.Header().Set("Content-Security-Policy", pagePolicy)
	x.Header().Set("Referrer-Policy", "no-referrer")
	x.Header().Set("Content-Type", contentType)
	_, _ = x.Write(body) // the caller is gone if it fails
}
