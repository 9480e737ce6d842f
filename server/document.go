package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
)

const (
	securityScheme  = "managementKey"
	schemaPrefix    = "#/components/schemas/"
	responsesPrefix = "#/components/responses/"
)

// The groups of operations, in the order of the documentation.
const (
	tagKeys       = "Keys"
	tagCommands   = "Commands over NATS"
	tagManagement = "Management keys"
	tagVerify     = "Verification"
	tagEvents     = "Events"
	tagAudit      = "Audit log"
	tagOperations = "Operation of the server"
)

// newDocument begins the OpenAPI document.
func (s *Server) newDocument(registry huma.Registry) *huma.OpenAPI {
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title:   "keyledger",
			Version: s.cfg.Version,
			Description: "The system of record for API keys. Requests carry a management key: Authorization: Bearer kl_admin_…\n\n" +
				"Bodies are JSON of at most 64 KiB; unknown, repeated and differently spelt members are refused. " +
				"Every refusal is an application/problem+json with a stable code and what to do. " +
				"A command's answer carries the sequence number of its event; reads with min_seq wait for it.",
			License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
		},
		Servers: []*huma.Server{{URL: "/"}},
		Tags: []*huma.Tag{
			{Name: tagKeys, Description: "Customers' keys."},
			{Name: tagVerify, Description: "May this key do this?"},
			{Name: tagEvents, Description: "The history of everything, in one order."},
			{Name: tagAudit, Description: "Who did what to which key, and what changed."},
			{Name: tagCommands, Description: "What became of the commands that services publish on NATS."},
			{Name: tagManagement, Description: "Keys of the control plane."},
			{Name: tagOperations, Description: "What operators watch."},
		},
		Components: &huma.Components{
			Schemas:   registry,
			Responses: problemResponses(registry),
			SecuritySchemes: map[string]*huma.SecurityScheme{securityScheme: {
				Type: "http", Scheme: "bearer", BearerFormat: "kl_admin_…",
				Description: "A management key. What it may do is in its scopes; see GET /v1/scopes.",
			}},
		},
	}
}

// refusals are the statuses that operations refuse with, and when.
//
//nolint:gochecknoglobals // a constant table
var refusals = []struct {
	status int
	when   string
	covers func(e *endpoint) bool
}{
	{http.StatusBadRequest, "The request is not valid.", func(e *endpoint) bool { return !e.page }},
	{http.StatusUnauthorized, "No credential, or not one of a management key that works.", func(e *endpoint) bool { return !e.open }},
	{http.StatusForbidden, "The management key lacks the scope, or may not grant what was asked for.", func(e *endpoint) bool { return !e.open }},
	{http.StatusNotFound, "There is no such thing, or it belongs to another account.", func(e *endpoint) bool { return strings.Contains(e.Path, "{") }},
	{http.StatusRequestTimeout, "The body did not arrive in time.", func(e *endpoint) bool { return e.newBody != nil }},
	{http.StatusConflict, "The key's state, another command, or another key refuses it; or a dead letter is none that can be sent again.", func(e *endpoint) bool { return e.isCommand() || e.Path == pathResend }},
	{http.StatusPreconditionFailed, "The key has changed since the version in If-Match.", func(e *endpoint) bool { return e.isCommand() && strings.Contains(e.Path, "{id}") }},
	{http.StatusRequestEntityTooLarge, "The body, or the event it would make, is too large.", func(e *endpoint) bool { return e.newBody != nil }},
	{http.StatusUnsupportedMediaType, "The body is not declared as JSON, or encoded.", func(e *endpoint) bool { return e.newBody != nil }},
	{http.StatusTooManyRequests, "Too many searches of this management key, or of all, run at once.", (*endpoint).isSearch},
	{http.StatusInternalServerError, "Something is wrong on the server.", func(e *endpoint) bool { return !e.page }},
	{http.StatusServiceUnavailable, "Not now; the same request may succeed later.", func(e *endpoint) bool { return !e.open }},
}

// isCommand reports whether the endpoint changes something.
func (e *endpoint) isCommand() bool { return e.newBody != nil && e.scope != domain.ScopeVerify }

// isSearch reports whether the endpoint's reads are counted; see readLimits.
func (e *endpoint) isSearch() bool {
	switch e.Path {
	case pathAudit, pathVerify:
		return true
	}
	return e.Method == http.MethodGet && (e.Path == pathKeys || e.Path == pathManagementKeys)
}

func responseName(status int) string {
	return strings.ReplaceAll(http.StatusText(status), " ", "")
}

func problemResponses(registry huma.Registry) map[string]*huma.Response {
	schema := registry.Schema(reflect.TypeFor[client.Problem](), true, "")
	responses := map[string]*huma.Response{}
	for _, r := range refusals {
		responses[responseName(r.status)] = &huma.Response{
			Description: r.when,
			Content:     map[string]*huma.MediaType{client.MediaTypeProblem: {Schema: schema}},
		}
	}
	return responses
}

// describe completes an operation's documentation from what the guard does.
func (s *Server) describe(e *endpoint) {
	if e.Responses == nil {
		e.Responses = map[string]*huma.Response{}
	}
	for _, r := range refusals {
		if r.covers(e) {
			e.Responses[strconv.Itoa(r.status)] = &huma.Response{Ref: responsesPrefix + responseName(r.status)}
		}
	}
	if !e.open {
		needs := []string{}
		if e.scope != "" {
			needs = append(needs, string(e.scope))
			e.Description = strings.TrimSpace(e.Description + "\n\nNeeds the scope " + string(e.scope) + ".")
		}
		e.Security = []map[string][]string{{securityScheme: needs}}
	}
	if e.example != nil {
		e.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{client.MediaTypeJSON: {Example: e.example}}}
	}
	if e.answer != nil {
		status := e.DefaultStatus
		if status == 0 {
			status = http.StatusOK
		}
		e.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{client.MediaTypeJSON: {Example: e.answer}},
		}
	}
}

// schemaOf returns a reference to a type's schema, for plain handlers.
func schemaOf[T any](s *Server) *huma.Schema {
	return s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}

// finishDocument renders the document and its page, once all routes are there.
func (s *Server) finishDocument() error {
	schemas := s.api.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel") // huma's own errors, which never leave
	delete(schemas, "ErrorDetail")
	s.openAnswers(schemas)
	for _, e := range s.endpoints {
		for _, p := range e.Parameters {
			if words, ok := commonParameters[p.Name]; ok && p.Description == "" {
				p.Description = words
				p.Schema.Description = words
			}
		}
	}
	var err error
	if s.document, err = json.Marshal(s.api.OpenAPI()); err != nil {
		return fmt.Errorf("render the OpenAPI document: %w", err)
	}
	if s.docs, err = s.renderDocs(); err != nil {
		return fmt.Errorf("render the documentation page: %w", err)
	}
	return nil
}

// openAnswers lets answers have members that the document does not know: later
// releases add some. Requests stay closed.
func (s *Server) openAnswers(schemas map[string]*huma.Schema) {
	requests := map[string]bool{}
	for _, e := range s.endpoints {
		if e.RequestBody == nil {
			continue
		}
		name := refName(e.RequestBody.Content[client.MediaTypeJSON].Schema)
		requests[name] = true
		for _, member := range schemas[name].Properties {
			requests[refName(member)] = true
		}
	}
	for name, schema := range schemas {
		if !requests[name] {
			schema.AdditionalProperties = nil
		}
	}
}

// commonParameters describes the parameters that many operations have.
//
//nolint:gochecknoglobals // a constant table
var commonParameters = map[string]string{
	"id":              "The key's id.",
	"account":         "One tenant only. Only instance keys may name another account than their own.",
	"page_size":       "How many at most; 50 if absent, and never more than 1000.",
	"page_token":      "The next_page_token or prev_page_token of another page. The other parameters must stay the same.",
	"at":              "Answer with what was true at this instant of the past.",
	"seq":             "Answer with what was true just after the event with this sequence number. Either at or seq.",
	"min_seq":         "Answer only once this sequence number has taken effect here; 503 if that takes long.",
	"Idempotency-Key": "Names the command, in 1 to 255 visible ASCII characters. Sent again under the same name, however late, it is not done again: the answer is the first one, without the token.",
	"If-Match":        `The ETag of the version that the change is meant for, for example "42"; 412 if the key has changed since.`,
}
