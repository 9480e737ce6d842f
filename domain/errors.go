package domain

import (
	"errors"
	"fmt"
	"strings"
)

// Kind classifies an error by what its receiver can do about it. Doors map kinds
// to their own statuses in one table each.
type Kind string

// The kinds of error. Everything that is not an [Error] counts as KindInternal.
const (
	KindInvalid         Kind = "invalid"         // the request can never succeed as it is
	KindUnauthenticated Kind = "unauthenticated" // no usable credential
	KindForbidden       Kind = "forbidden"       // the credential may not do this
	KindNotFound        Kind = "not_found"       // no such thing, or not the caller's
	KindConflict        Kind = "conflict"        // the present state refuses it
	KindPrecondition    Kind = "precondition"    // the caller's expectation of the state is out of date
	KindTooLarge        Kind = "too_large"       // over a size limit
	KindUnsupported     Kind = "unsupported"     // a media type or encoding that is not read
	KindUnavailable     Kind = "unavailable"     // not now; the same request may succeed later
	KindInternal        Kind = "internal"        // a fault of ours
)

// Error is a refusal that a caller can act on. Code is stable and meant for
// programs; Message says what is wrong and Fix what to do about it, for people.
// None of them ever holds a secret or echoes a credential.
type Error struct {
	Kind    Kind
	Code    string
	Message string
	Fix     string
	// Fields names the offending members of the request; nil if the error is
	// about the request as a whole.
	Fields []FieldError
	// Cause is the underlying error, for logs only: doors do not show it.
	Cause error
}

// FieldError points at one member of a request. Pointer is a JSON pointer
// (RFC 6901), for example "/scopes/2".
type FieldError struct {
	Pointer string
	Detail  string
}

// Error renders the message with the offending fields.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	for _, f := range e.Fields {
		fmt.Fprintf(&b, "; %s: %s", f.Pointer, f.Detail)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// NewError makes an error of the given kind.
func NewError(kind Kind, code, message, fix string) *Error {
	return &Error{Kind: kind, Code: code, Message: message, Fix: fix}
}

// Invalid makes a KindInvalid error about one member of a request.
func Invalid(code, pointer, detail, fix string) *Error {
	return &Error{
		Kind: KindInvalid, Code: code, Message: "the request is not valid", Fix: fix,
		Fields: []FieldError{{Pointer: pointer, Detail: detail}},
	}
}

// KindOf returns the kind of the first [Error] in err's chain, KindInternal if
// there is none, and "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindInternal
}

// CodeOf returns the stable code of the first [Error] in err's chain, "internal"
// if there is none, and "" for nil.
func CodeOf(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return "internal"
}

// The codes that more than one package produces or tests for.
const (
	CodeValidation          = "validation_failed"
	CodeUnknownScope        = "unknown_scope"
	CodeExpiryInPast        = "expiry_in_past"
	CodeSecretInText        = "secret_in_text"
	CodeKeyNotFound         = "key_not_found"
	CodeKeyRevoked          = "key_revoked"
	CodeKeyExpired          = "key_expired"
	CodeKeyRotated          = "key_rotated"
	CodeKeyExists           = "key_exists"
	CodeTokenInUse          = "token_in_use"
	CodeCeiling             = "ceiling_exceeded"
	CodeMissingScope        = "insufficient_scope"
	CodeVersionMismatch     = "version_mismatch"
	CodeIdempotencyConflict = "idempotency_conflict"
	CodeEventTooLarge       = "event_too_large"
	CodeContention          = "contention"
)
