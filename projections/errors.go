package projections

import (
	"errors"
	"fmt"

	"github.com/keyledger/keyledger/domain"
)

// The codes of this package's refusals.
const (
	CodeInvalidPageToken = "invalid_page_token"
	CodeBuilding         = "read_store_building"
	CodeBehind           = "read_store_behind"
	CodeStopped          = "read_store_stopped"
)

// ErrCheckpointMoved says that a batch does not continue what the store holds:
// something else has written to it.
var ErrCheckpointMoved = errors.New("the stored checkpoint is not the one that the batch continues")

// HistoryError is the alarm that the log is not the one that the tables were made
// from: the event at the checkpoint is another one, or the log ends before it.
// It wraps eventstore.ErrHistoryReplaced. Nothing is written after it.
type HistoryError struct {
	Checkpoint Checkpoint
	Head       uint64 // the last sequence of the log
	FoundID    string // the id of the event at the checkpoint's sequence, "" if there is none
	cause      error
}

// Error says what was found and what to do.
func (e *HistoryError) Error() string {
	const remedy = "; restore the log that belongs to these tables, or delete the tables to build them from this log"
	if e.FoundID == "" {
		return fmt.Sprintf("history was replaced: the tables hold event %s at seq %d, the log ends at %d%s",
			e.Checkpoint.EventID, e.Checkpoint.Seq, e.Head, remedy)
	}
	return fmt.Sprintf("history was replaced: the tables hold event %s at seq %d, the log holds %s%s",
		e.Checkpoint.EventID, e.Checkpoint.Seq, e.FoundID, remedy)
}

// Unwrap returns eventstore.ErrHistoryReplaced.
func (e *HistoryError) Unwrap() error { return e.cause }

// EventError says that an event cannot be projected. The projector stops before
// it: events are never skipped.
type EventError struct {
	Seq     uint64
	EventID string
	Type    domain.EventType
	Reason  string
}

// Error names the event and the reason.
func (e *EventError) Error() string {
	return fmt.Sprintf("event %s (%s) at seq %d cannot be projected: %s", e.EventID, e.Type, e.Seq, e.Reason)
}

// ErrBuilding returns the answer of reads while the first build runs.
func ErrBuilding() error {
	return domain.NewError(domain.KindUnavailable, CodeBuilding,
		"the tables are being built from the log", "ask again shortly; the node is ready when they are built")
}
