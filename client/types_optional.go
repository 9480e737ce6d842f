package client

import (
	"bytes"
	"encoding/json"
)

// Optional is a member that can be absent (the zero value), null, or a value.
// Absent leaves things as they are; null clears them. Tag such members omitzero.
type Optional[T any] struct {
	Set   bool // the member is there
	Value *T   // nil: null
}

// Some returns a member with a value.
func Some[T any](v T) Optional[T] { return Optional[T]{Set: true, Value: &v} }

// Null returns a member that clears.
func Null[T any]() Optional[T] { return Optional[T]{Set: true} }

// IsZero reports whether the member is absent.
func (o Optional[T]) IsZero() bool { return !o.Set }

// MarshalJSON renders the value, or null.
func (o Optional[T]) MarshalJSON() ([]byte, error) { return json.Marshal(o.Value) }

// UnmarshalJSON reads a value or null. That it is called at all says that the
// member is there.
func (o *Optional[T]) UnmarshalJSON(data []byte) error {
	o.Set, o.Value = true, nil
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return nil
	}
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	o.Value = &v
	return nil
}
