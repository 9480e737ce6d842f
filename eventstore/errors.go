package eventstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/keyledger/keyledger/domain"
)

var (
	// ErrConflict says that an aggregate has changed since it was loaded; nothing
	// was stored. A lost acknowledgement of an earlier try looks the same: load
	// again from the leader and look for the command's id before deciding anew.
	ErrConflict = errors.New("the aggregate has changed")
	// ErrUnknownOutcome says that no acknowledgement came: the events may be
	// stored, now or in a moment, or not. Do as for ErrConflict; the expectation
	// of the next try is what keeps a late arrival from being stored twice.
	ErrUnknownOutcome = errors.New("no acknowledgement: the outcome is unknown")
	// ErrNoEvent says that no event has this seq.
	ErrNoEvent = errors.New("no such event")
	// ErrHistoryReplaced says that the log is not the one that was read before:
	// it ends earlier, begins later, has a gap or was made anew. Nothing that was
	// derived from the old one can be trusted to match.
	ErrHistoryReplaced = errors.New("the history of the log was replaced")
)

// The codes of this package's refusals.
const (
	CodeLogUnavailable = "log_unavailable" // no leader, no connection, no answer
	CodeLogFull        = "log_full"        // the disk or the storage limit is full
)

// UnknownTypeError says that an event's type is not one this release can read. It
// is never skipped: a newer release wrote it.
type UnknownTypeError struct {
	Seq  uint64
	Type domain.EventType
}

// Error implements error.
func (e *UnknownTypeError) Error() string {
	return fmt.Sprintf("event %d has the unknown type %q: it was written by a newer release; upgrade this node", e.Seq, e.Type)
}

// DriftError says that the stream is not configured as the log requires.
type DriftError struct{ Fields []DriftField }

// DriftField is one difference.
type DriftField struct{ Name, Want, Got string }

// Error implements error.
func (e *DriftError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the stream %s is not configured as it must be", StreamName)
	for _, f := range e.Fields {
		fmt.Fprintf(&b, "; %s: want %s, got %s", f.Name, f.Want, f.Got)
	}
	fmt.Fprintf(&b, "; find out who changed it, then set it back with `nats stream edit %s`", StreamName)
	return b.String()
}
