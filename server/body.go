package server

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
)

const (
	maxBodyBytes = 64 << 10
	maxDepth     = 32
)

// readBody reads a JSON body of at most maxBodyBytes into buf, which it returns
// grown. It returns an empty slice where there is no body.
func readBody(x *exchange, r *http.Request, buf []byte) ([]byte, error) {
	if r.ContentLength == 0 {
		return buf[:0], nil
	}
	if err := checkMediaType(r.Header); err != nil {
		return buf[:0], err
	}
	if r.ContentLength > maxBodyBytes {
		x.Header().Set("Connection", "close") // rather than read what is not wanted
		return buf[:0], bodyTooLarge()
	}
	if n := int(r.ContentLength); n > 0 {
		buf = slices.Grow(buf[:0], n)[:n]
		_, err := io.ReadFull(r.Body, buf)
		return buf, unreadable(err)
	}
	// A chunked body does not say how long it is.
	buf, err := appendAll(buf[:0], io.LimitReader(r.Body, maxBodyBytes+1))
	if err != nil {
		return buf, unreadable(err)
	}
	if len(buf) > maxBodyBytes {
		x.Header().Set("Connection", "close")
		return buf[:0], bodyTooLarge()
	}
	return buf, nil
}

func appendAll(buf []byte, r io.Reader) ([]byte, error) {
	for {
		buf = slices.Grow(buf, 512)
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

func checkMediaType(h http.Header) error {
	if encoding := h["Content-Encoding"]; len(encoding) > 0 && !(len(encoding) == 1 && strings.EqualFold(encoding[0], "identity")) {
		return domain.NewError(domain.KindUnsupported, "unsupported_encoding", "the body is encoded", "send the body without Content-Encoding")
	}
	given := h["Content-Type"]
	if len(given) != 1 { // of two, others on the way may have believed the other one
		return domain.NewError(domain.KindUnsupported, "unsupported_media_type", "the body is not declared as JSON, or declared more than once",
			"send Content-Type: application/json once")
	}
	if given[0] == client.MediaTypeJSON {
		return nil
	}
	mediaType, params, err := mime.ParseMediaType(given[0])
	if charset := params["charset"]; err != nil || mediaType != client.MediaTypeJSON || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return domain.NewError(domain.KindUnsupported, "unsupported_media_type", "the body is not declared as JSON",
			"send Content-Type: application/json, in UTF-8")
	}
	return nil
}

func bodyTooLarge() error {
	return domain.NewError(domain.KindTooLarge, "body_too_large", "the body is larger than 64 KiB", "send less")
}

func unreadable(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return domain.NewError(kindTimeout, "body_timeout", "the body did not arrive in time", "send the whole request within 10 seconds")
	}
	return domain.NewError(domain.KindInvalid, "body_incomplete", "the body ended early", "send as many bytes as Content-Length says")
}

// decodeStrict reads one JSON value into v. Unknown and repeated members, names in
// another case, values of another type, null where nothing can be cleared, text
// that is not UTF-8, nesting over maxDepth and anything after the value are
// refused. Errors point at the member and never quote the body.
//
// nullable are the JSON pointers at which null has a meaning.
func decodeStrict(data []byte, v any, nullable ...string) error {
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
			if depth++; depth > maxDepth {
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

// checkShape refuses nesting over maxDepth and null outside of nullable. What is
// not JSON is left to the decoder.
func checkShape(data []byte, nullable []string) error {
	d := jsontext.NewDecoder(strings.NewReader(string(data)))
	for {
		token, err := d.ReadToken()
		if err != nil {
			return nil //nolint:nilerr // the end, or for the decoder to explain
		}
		if d.StackDepth() > maxDepth {
			return domain.NewError(domain.KindInvalid, "json_too_deep", fmt.Sprintf("the body nests deeper than %d levels", maxDepth), "send flatter JSON")
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
