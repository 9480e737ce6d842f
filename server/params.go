package server

import (
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// Query parameters arrive as text and are read by the handlers: huma's own reading
// refuses with errors that quote what was sent. These types say in the document
// what the text must be.

// seqParam is a sequence number.
type seqParam string

// Schema implements huma.SchemaProvider.
func (seqParam) Schema(huma.Registry) *huma.Schema {
	zero := 0.0
	return &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &zero}
}

func (p seqParam) read(name string) (uint64, error) {
	if p == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(p), 10, 63) // int64 in the document, and room for the next one
	if err != nil {
		return 0, badParameter(domain.CodeValidation, name, "not a sequence number", "use a whole number from 0")
	}
	return n, nil
}

// timeParam is an instant from 1970 on. What lies before is before everything, and
// outside of what the floors below reckon with.
type timeParam string

// Schema implements huma.SchemaProvider.
func (timeParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Examples: []any{"2030-01-31T12:00:00Z"}}
}

func (p timeParam) read(name string) (time.Time, error) {
	if p == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, string(p))
	if err != nil {
		return time.Time{}, badParameter(domain.CodeValidation, name, "not an instant", "use RFC 3339, for example 2030-01-31T12:00:00Z, with + written as %2B")
	}
	if t.Before(time.Unix(0, 0)) {
		return time.Time{}, badParameter(domain.CodeValidation, name, "an instant before 1970-01-01T00:00:00Z", "use a later one, or leave it out to begin with the first")
	}
	return t, nil
}

// flagParam is true or false.
type flagParam string

// Schema implements huma.SchemaProvider.
func (flagParam) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeBoolean} }

func (p flagParam) read(name string) (bool, error) {
	switch p {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, badParameter(domain.CodeValidation, name, "neither true nor false", "use true or false")
	}
}

// rangeOf reads a span of time from the parameters of its ends, from on and before.
func rangeOf(from timeParam, fromName string, before timeParam, beforeName string) (r projections.TimeRange, err error) {
	if r.From, err = from.read(fromName); err != nil {
		return r, err
	}
	r.Before, err = before.read(beforeName)
	return r, err
}

// sizeParam is a page size. Sizes over the maximum are cut to it (AIP-158).
type sizeParam string

// Schema implements huma.SchemaProvider.
func (sizeParam) Schema(huma.Registry) *huma.Schema {
	zero := 0.0
	return &huma.Schema{Type: huma.TypeInteger, Format: "int32", Minimum: &zero, Default: projections.DefaultPageSize}
}

func (p sizeParam) read() (int, error) {
	if p == "" {
		return projections.DefaultPageSize, nil
	}
	n, err := strconv.ParseUint(string(p), 10, 63)
	if err != nil {
		return 0, badParameter(domain.CodeValidation, "page_size", "not a size", "use 1 to 1000")
	}
	if n == 0 {
		return projections.DefaultPageSize, nil
	}
	return int(min(n, projections.MaxPageSize)), nil
}

// idParam is the id of a key in a path.
type idParam string

// Schema implements huma.SchemaProvider.
func (idParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: "^[A-Za-z0-9_-]{1,64}$", Examples: []any{"key_4fJq0Zr8kLw2TnXb"}}
}

func (p idParam) read() (domain.KeyID, error) {
	id, err := domain.ParseKeyID(string(p))
	if err != nil {
		return "", invalidID()
	}
	return id, nil
}

// commandIDParam is the id of a command in a path.
type commandIDParam string

// Schema implements huma.SchemaProvider.
func (commandIDParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(255), Examples: []any{"ticket-4711"}}
}

func (p commandIDParam) read() (string, error) {
	if !command.ValidID(string(p)) {
		return "", badParameter("invalid_command_id", "id", "not the form of a command's id", "use the id as it was sent, percent-encoded where a path needs that")
	}
	return string(p), nil
}

// readIfMatch reads the version that a change is meant for: nil for any. Weak tags
// are taken as strong, since proxies that compress weaken them on the way. A tag
// that is none of ours matches no version.
func readIfMatch(header string) (*uint64, error) {
	if header == "" || header == "*" {
		return nil, nil //nolint:nilnil // any version is a value of its own
	}
	tag, opened := strings.CutPrefix(strings.TrimPrefix(header, "W/"), `"`)
	tag, closed := strings.CutSuffix(tag, `"`)
	if !opened || !closed || strings.Contains(tag, `"`) {
		return nil, badParameter("invalid_if_match", "If-Match", "not one entity tag", `send one ETag as it was given, for example "42", or *`)
	}
	seq, err := strconv.ParseUint(tag, 10, 64)
	if err != nil {
		seq = 0 // no event has this sequence
	}
	return &seq, nil
}

func etag(seq uint64) string { return `"` + strconv.FormatUint(seq, 10) + `"` }
