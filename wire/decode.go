package wire

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
)

// MaxBytes is how long what a caller sends may be, MaxDepth how deep it may nest.
const (
	MaxBytes = 64 << 10
	MaxDepth = 32
)

// Decode reads one JSON value into v. Unknown and repeated members, names in
// another case, values of another type, null where nothing can be cleared, text
// that is not UTF-8, nesting over MaxDepth and anything after the value are
// refused. Errors point at the member and never quote the body.
//
// nullable are the JSON pointers at which null has a meaning.
func Decode(data []byte, v any, nullable ...string) error {
	if len(data) == 0 {
		return domain.NewError(domain.KindInvalid, "body_missing", "the request has no body", "send a JSON object; see GET /docs")
	}
	if suspicious(data) {
		if err := checkShape(data, nullable); err != nil {
			return err
		}
	}
	if err := json.Unmarshal(data, v, json.RejectUnknownMembers(true)); err != nil {
		return jsonProblem(err)
	}
	return nil
}

// suspicious reports whether data may nest too deeply or hold null, in one pass
// that needs no memory. It may be wrong about data that is not JSON.
func suspicious(data []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		c := data[i]
		switch {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		case c == 'n':
			return true
		}
	}
	return false
}

// checkShape refuses nesting over MaxDepth and null outside of nullable. What is
// not JSON is left to the decoder.
func checkShape(data []byte, nullable []string) error {
	d := jsontext.NewDecoder(strings.NewReader(string(data)))
	for {
		token, err := d.ReadToken()
		if err != nil {
			return nil //nolint:nilerr // the end, or for the decoder to explain
		}
		if d.StackDepth() > MaxDepth {
			return domain.NewError(domain.KindInvalid, "json_too_deep", fmt.Sprintf("the body nests deeper than %d levels", MaxDepth), "send flatter JSON")
		}
		if at := string(d.StackPointer()); token.Kind() == jsontext.KindNull && !slices.Contains(nullable, at) {
			return domain.Invalid(domain.CodeValidation, safePointer(at), "null", "leave the member out, or give it a value")
		}
	}
}

// jsonProblem explains why the decoder refused. It does not use the decoder's
// texts, which quote the input.
func jsonProblem(err error) error {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return domain.Invalid("duplicate_member", safePointer(string(e.JSONPointer)), "given twice", "give each member once")
		}
		return domain.NewError(domain.KindInvalid, "malformed_json", fmt.Sprintf("the body is not JSON: it breaks off or goes wrong near byte %d", e.ByteOffset),
			"send one JSON object in UTF-8 and nothing after it")
	}
	e, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return domain.NewError(domain.KindInvalid, "malformed_json", "the body is not what this request takes", "see GET /docs")
	}
	at := safePointer(string(e.JSONPointer))
	if errors.Is(err, json.ErrUnknownName) {
		return domain.Invalid("unknown_member", at, "not a member of this request; names are case-sensitive", "see GET /docs for the members")
	}
	return domain.Invalid(domain.CodeValidation, at, "not of the form wanted", "send "+wanted(e.GoType))
}

// safePointer keeps a pointer short and free of credentials: its names are the
// caller's words.
func safePointer(pointer string) string {
	const longest = 200
	if domain.ContainsToken(pointer) || len(pointer) > longest {
		return ""
	}
	return pointer
}

// wanted says in words what JSON a Go type is read from.
func wanted(t reflect.Type) string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == nil:
		return "what GET /docs says"
	case t == reflect.TypeFor[time.Time](), t == reflect.TypeFor[client.Optional[time.Time]]():
		return "an instant as in RFC 3339, for example 2030-01-31T12:00:00Z"
	case t == reflect.TypeFor[client.Optional[string]]():
		return "a string"
	case t.Kind() == reflect.String:
		return "a string"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Map, t.Kind() == reflect.Struct:
		return "an object"
	default:
		return "what GET /docs says"
	}
}
