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
	CodeUnavailable      = "read_store_unavailable"   // the database is away, or refuses connections
	CodeTimeout          = "read_store_timeout"       // a read took longer than it may
	CodeBuildRunning     = "read_store_build_running" // one build at a time
	CodeFollower         = "read_store_follower"      // another process writes to the tables
	CodeCorrupt          = "read_store_corrupt"       // the tables hold what none of our writers wrote
)

// ErrNoTables says that there are no live tables of this schema version yet.
var ErrNoTables = errors.New("there are no tables yet")

// ErrBehind says that a build has not taken in all that the live tables have.
var ErrBehind = errors.New("the build is behind the live tables")

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

// errCorrupt returns the answer of reads that meet something damaged.
func errCorrupt(doing string, cause error) error {
	return &domain.Error{
		Kind: domain.KindInternal, Code: CodeCorrupt, Message: doing + ": the tables hold something damaged",
		Fix: "run keyledger projections check, then keyledger projections rebuild", Cause: cause,
	}
}

// ErrFollower returns the answer of [Store].Lead while another process leads.
func ErrFollower() error {
	return domain.NewError(domain.KindUnavailable, CodeFollower,
		"another node writes to the tables", "this one takes over when that one ends")
}

// ErrBuildRunning returns the answer of [Store].Build while another build runs.
func ErrBuildRunning() error {
	return domain.NewError(domain.KindConflict, CodeBuildRunning,
		"a build of the tables is running already", "wait for its end: keyledger projections status shows how far it is")
}
