package server

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// The documentation page is made of the OpenAPI document, by html/template: no
// script, nothing loaded from elsewhere.

//go:embed docs.html
var docsHTML string

//go:embed index.html
var indexHTML string

type docsPage struct {
	Title, Version string
	About          []string
	Groups         []docsGroup
	Schemas        []docsSchema
	Problems       []docsProblem
}

type docsGroup struct {
	Name, About string
	Operations  []docsOperation
}

type docsOperation struct {
	ID, Method, Path, Summary string
	About                     []string
	Parameters                []docsParameter
	Body                      *docsMedia
	Answers                   []docsAnswer
}

type docsParameter struct{ Name, In, Type, About string }

type docsMedia struct{ Type, Schema, Example string }

type docsAnswer struct {
	Status, About string
	Media         []docsMedia
}

type docsSchema struct {
	Name    string
	Members []docsMember
}

type docsMember struct {
	Name, Type, About string
	Required          bool
}

type docsProblem struct {
	Status int
	Title  string
	When   string
}

// renderDocs makes the page at /docs.
func (s *Server) renderDocs() ([]byte, error) {
	doc := s.api.OpenAPI()
	data := docsPage{Title: doc.Info.Title, Version: doc.Info.Version, About: paragraphs(doc.Info.Description)}
	for _, tag := range doc.Tags {
		group := docsGroup{Name: tag.Name, About: tag.Description}
		for _, e := range s.endpoints {
			if slices.Contains(e.Tags, tag.Name) {
				group.Operations = append(group.Operations, docsOperationOf(&e.Operation))
			}
		}
		data.Groups = append(data.Groups, group)
	}
	schemas := doc.Components.Schemas.Map()
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		data.Schemas = append(data.Schemas, docsSchemaOf(name, schemas[name]))
	}
	for _, r := range refusals {
		data.Problems = append(data.Problems, docsProblem{Status: r.status, Title: responseName(r.status), When: r.when})
	}
	return render("docs", docsHTML, data)
}

// index makes the page at /.
func (s *Server) index() []byte {
	body, err := render("index", indexHTML, docsPage{Version: s.cfg.Version})
	if err != nil {
		panic(err) // a template and a string: a test renders it
	}
	return body
}

func render(name, text string, data any) ([]byte, error) {
	t, err := template.New(name).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse page %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("render page %s: %w", name, err)
	}
	return b.Bytes(), nil
}

func paragraphs(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n\n")
}

func docsOperationOf(op *huma.Operation) docsOperation {
	d := docsOperation{
		ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary, About: paragraphs(op.Description),
	}
	for _, p := range op.Parameters {
		d.Parameters = append(d.Parameters, docsParameter{Name: p.Name, In: p.In, Type: typeName(p.Schema), About: p.Description})
	}
	if op.RequestBody != nil {
		if media := docsMediaOf(op.RequestBody.Content); len(media) > 0 {
			d.Body = &media[0]
		}
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		r := op.Responses[status]
		about := r.Description
		if r.Ref != "" {
			about = strings.TrimPrefix(r.Ref, responsesPrefix)
		}
		d.Answers = append(d.Answers, docsAnswer{Status: status, About: about, Media: docsMediaOf(r.Content)})
	}
	return d
}

func docsMediaOf(content map[string]*huma.MediaType) []docsMedia {
	var out []docsMedia
	for _, name := range slices.Sorted(maps.Keys(content)) {
		m := docsMedia{Type: name, Schema: refName(content[name].Schema)}
		if example := content[name].Example; example != nil {
			m.Example = indented(example)
		}
		out = append(out, m)
	}
	return out
}

// indented renders an example. Stored events keep their bytes, which json.Indent
// would not; examples are for people.
func indented(example any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(example); err != nil {
		return ""
	}
	return strings.TrimSpace(b.String())
}

func docsSchemaOf(name string, schema *huma.Schema) docsSchema {
	d := docsSchema{Name: name}
	for _, member := range slices.Sorted(maps.Keys(schema.Properties)) {
		p := schema.Properties[member]
		d.Members = append(d.Members, docsMember{
			Name: member, Type: typeName(p), About: p.Description, Required: slices.Contains(schema.Required, member),
		})
	}
	return d
}

// typeName says in a few words what a schema takes.
func typeName(s *huma.Schema) string {
	if s == nil {
		return "anything"
	}
	name := s.Type
	switch {
	case s.Ref != "":
		name = refName(s)
	case s.Type == huma.TypeArray:
		name = "list of " + typeName(s.Items)
	case s.Type == huma.TypeObject && s.AdditionalProperties != nil && len(s.Properties) == 0:
		name = "object of strings"
	case s.Type == "":
		name = "object"
	case s.Format == "date-time":
		name = "instant (RFC 3339)"
	case s.Format == "date":
		name = "date"
	}
	if len(s.Enum) > 0 {
		words := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			words[i] = fmt.Sprint(v)
		}
		name = "one of " + strings.Join(words, ", ")
	}
	if s.Nullable {
		name += " or null"
	}
	return name
}

func refName(s *huma.Schema) string {
	if s == nil {
		return ""
	}
	return strings.TrimPrefix(s.Ref, schemaPrefix)
}
