package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// TestEveryRouteIsDocumented holds the routes against the document, both ways.
func TestEveryRouteIsDocumented(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	documented := documentedRoutes(t, s)
	mounted := map[string]bool{}
	for _, route := range s.Server.Routes() {
		mounted[route] = true
		if !documented[route] {
			t.Errorf("%s is not documented", route)
		}
	}
	for route := range documented {
		if !mounted[route] {
			t.Errorf("%s is documented and does not exist", route)
		}
	}
	for _, route := range []string{
		"POST /v1/management-keys", "GET /v1/management-keys", "GET /v1/management-keys/{id}", "POST /v1/management-keys/{id}/revoke",
		"POST /v1/keys", "GET /v1/keys", "GET /v1/keys/{id}", "PATCH /v1/keys/{id}", "POST /v1/keys/{id}/revoke", "POST /v1/keys/{id}/rotate",
		"GET /v1/keys/{id}/events", "GET /v1/events", "GET /v1/scopes", "POST /v1/verify", "GET /v1/audit",
		"GET /v1/commands/{id}", "GET /v1/dead-letters", "GET /v1/dead-letters/{seq}", "POST /v1/dead-letters/{seq}/resend",
		"GET /v1/projections", "POST /v1/projections/rebuild", "POST /v1/projections/check", "GET /healthz", "GET /readyz", "GET /metrics",
	} {
		if !documented[route] {
			t.Errorf("%s is missing", route)
		}
	}
}

// TestDocumentIsSound checks what generators of clients stumble over: references
// that lead nowhere, parameters that paths do not have, answers without words.
func TestDocumentIsSound(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) { c.Version = "9.9.9" }})
	a := s.MustDo(t, 200, servertest.Request{Path: "/openapi.json"}, nil)
	var doc map[string]any
	if err := json.Unmarshal(a.Body, &doc); err != nil {
		t.Fatal(err)
	}
	if doc["openapi"] != "3.1.0" || at(doc, "info", "version") != "9.9.9" || at(doc, "components", "securitySchemes", "managementKey", "scheme") != "bearer" {
		t.Errorf("the head of the document is %v %v", doc["openapi"], doc["info"])
	}
	walk(doc, "", func(path string, node map[string]any) {
		ref, ok := node["$ref"].(string)
		if !ok {
			return
		}
		if at(doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...) == nil {
			t.Errorf("%s: %s leads nowhere", path, ref)
		}
	})
	ids := map[string]bool{}
	pathParameter := regexp.MustCompile(`\{([^}]*)\}`)
	for path, item := range asMap(doc["paths"]) {
		for method, raw := range asMap(item) {
			op, name := asMap(raw), method+" "+path
			id := fmt.Sprint(op["operationId"])
			if ids[id] || op["summary"] == nil || op["tags"] == nil {
				t.Errorf("%s: operation id %q is not unique, or the summary or the tag is missing", name, id)
			}
			ids[id] = true
			var declared []string
			for _, raw := range asList(op["parameters"]) {
				p := asMap(raw)
				if p["in"] == "path" {
					declared = append(declared, fmt.Sprint(p["name"]))
				}
				if p["schema"] == nil || p["description"] == nil {
					t.Errorf("%s: parameter %v has no schema or description", name, p["name"])
				}
			}
			var wanted []string
			for _, m := range pathParameter.FindAllStringSubmatch(path, -1) {
				wanted = append(wanted, m[1])
			}
			if !slices.Equal(declared, wanted) {
				t.Errorf("%s: path parameters %v, declared %v", name, wanted, declared)
			}
			mustHaveAnswers(t, name, op)
		}
	}
	if text := string(a.Body); strings.Contains(text, "ErrorModel") || strings.Contains(text, "422") {
		t.Error("the document knows huma's own errors, which never leave")
	}
}

func mustHaveAnswers(t *testing.T, name string, op map[string]any) {
	t.Helper()
	success := false
	for status, raw := range asMap(op["responses"]) {
		r := asMap(raw)
		success = success || status[0] == '2'
		if r["$ref"] == nil && r["description"] == nil {
			t.Errorf("%s: answer %s has no description", name, status)
		}
	}
	if !success {
		t.Errorf("%s: no answer of success", name)
	}
	if strings.Contains(name, " /v1/") && op["security"] == nil {
		t.Errorf("%s: nothing is said of the credential", name)
	}
}

// at follows names through nested objects.
func at(node any, names ...string) any {
	for _, name := range names {
		m, ok := node.(map[string]any)
		if !ok {
			return nil
		}
		node = m[name]
	}
	return node
}

// asMap returns nil for what is no object; so does asList for what is no list.
func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}

func walk(node any, path string, visit func(path string, node map[string]any)) {
	switch n := node.(type) {
	case map[string]any:
		visit(path, n)
		for name, child := range n {
			walk(child, path+"/"+name, visit)
		}
	case []any:
		for i, child := range n {
			walk(child, fmt.Sprintf("%s/%d", path, i), visit)
		}
	}
}

// TestPages opens what a person sees, without a credential.
func TestPages(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	for path, contentType := range map[string]string{
		"/": "text/html; charset=utf-8", "/docs": "text/html; charset=utf-8", "/docs/style.css": "text/css; charset=utf-8",
	} {
		a := s.MustDo(t, 200, servertest.Request{Path: path}, nil)
		if got := a.Header.Get("Content-Type"); got != contentType {
			t.Errorf("%s: Content-Type %q", path, got)
		}
		if csp := a.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self'") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", path, csp)
		}
		text := string(a.Body)
		for _, foreign := range []string{"http://", "https://", "//unpkg", "<script", "style=", "<style"} {
			if strings.Contains(text, foreign) {
				t.Errorf("%s holds %s: it would load from elsewhere, or break the policy", path, foreign)
			}
		}
	}
	docs := string(s.MustDo(t, 200, servertest.Request{Path: "/docs"}, nil).Body)
	for _, want := range []string{"/v1/keys/{id}/rotate", "POST", "keyledger.keys:write", "token_sha256", "application/problem&#43;json", "Idempotency-Key", `id="schema-Key"`} {
		if !strings.Contains(docs, want) {
			t.Errorf("/docs does not say %s", want)
		}
	}
	for _, link := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(docs, -1) {
		if !strings.Contains(docs, `id="`+link[1]+`"`) {
			t.Errorf("/docs links to #%s, which is not there", link[1])
		}
	}
	head := s.MustDo(t, 200, servertest.Request{Method: http.MethodHead, Path: "/docs"}, nil)
	if len(head.Body) != 0 {
		t.Error("HEAD has a body")
	}
}
