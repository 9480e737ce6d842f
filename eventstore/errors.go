package eventstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	CodeLogBroken      = "log_broken"      // the disk fails
	CodeLogReplaced    = "log_replaced"    // this is not the log that this process knows
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

// DriftError says that a stream is not configured as it must be.
type DriftError struct {
	Stream string // "" is the log's
	Fields []DriftField
}

// DriftField is one difference.
type DriftField struct{ Name, Want, Got string }

// Error implements error.
func (e *DriftError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the stream %s is not configured as it must be", or(e.Stream, StreamName))
	for _, f := range e.Fields {
		fmt.Fprintf(&b, "; %s: want %s, got %s", f.Name, f.Want, f.Got)
	}
	fmt.Fprintf(&b, "; find out who changed it, then set it back with `nats stream edit %s`", or(e.Stream, StreamName))
	return b.String()
}

// The server's error codes that nats.go does not name.
const (
	codeAccountResources      jetstream.ErrorCode = 10002
	codeNoSuitablePeers       jetstream.ErrorCode = 10005
	codeConsumerNameInUse     jetstream.ErrorCode = 10013
	codeInsufficientResources jetstream.ErrorCode = 10023
	codeMaximumConsumers      jetstream.ErrorCode = 10026
	codeStorageExceeded       jetstream.ErrorCode = 10047
	codeStreamNotFound        jetstream.ErrorCode = 10059
	codeReplicasNotSupported  jetstream.ErrorCode = 10074
	codeStoreFailed           jetstream.ErrorCode = 10077
	codeConsumerExists        jetstream.ErrorCode = 10148
	codeDuplicateInProcess    jetstream.ErrorCode = 10158
	codeNotReady              jetstream.ErrorCode = 10163
	codeTooManyRequests       jetstream.ErrorCode = 10167
	codeBatchIncomplete       jetstream.ErrorCode = 10176
	codeBatchDuplicate        jetstream.ErrorCode = 10201
	codeTooManyBatches        jetstream.ErrorCode = 10210
)

// errNotStored marks a failure after which the events certainly are not in the log.
var errNotStored = errors.New("not stored")

// publishError turns what a publish failed with into what a caller can act on.
func publishError(err error) error {
	api, ok := errors.AsType[*jetstream.APIError](err)
	switch {
	case ok:
		return refusal(api)
	case errors.Is(err, ErrConflict):
		return err
	case errors.Is(err, nats.ErrMaxPayload):
		return tooLarge("the event is larger than the NATS server accepts")
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionDraining):
		return fmt.Errorf("%w: %w", errNotStored, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
}

func refusal(api *jetstream.APIError) error {
	switch api.ErrorCode {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant,
		codeBatchDuplicate, codeDuplicateInProcess:
		return fmt.Errorf("%w: %w", ErrConflict, api)
	case codeNotReady, codeTooManyRequests, codeBatchIncomplete, codeTooManyBatches:
		return fmt.Errorf("%w: %w", errNotStored, api)
	case jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return tooLarge("the event with its headers is larger than the stream keeps")
	case codeInsufficientResources, codeStorageExceeded:
		return full(api)
	case codeStoreFailed:
		if strings.Contains(api.Description, "no space") || strings.Contains(api.Description, "maximum") {
			return full(api)
		}
		return unavailable("store", api)
	default:
		return unavailable("store", api)
	}
}

func otherHistory(cause error) error {
	return &domain.Error{
		Kind: domain.KindUnavailable, Code: CodeLogReplaced, Message: "the event log is not the one that this process knows",
		Fix:   "find out what happened to the stream " + StreamName + "; then restart, and rebuild what was made from the old log",
		Cause: cause,
	}
}

// broken is the refusal for a storage that failed.
func broken(cause error) error {
	if text := cause.Error(); strings.Contains(text, "no space left") || strings.Contains(text, "quota exceeded") {
		return full(cause)
	}
	return &domain.Error{
		Kind: domain.KindUnavailable, Code: CodeLogBroken, Message: "the event log's storage has failed",
		Fix: "repair the disk of the NATS server, then restart it", Cause: cause,
	}
}

func full(cause error) error {
	return &domain.Error{
		Kind: domain.KindUnavailable, Code: CodeLogFull, Message: "the event log cannot store more",
		Fix: "free or add disk space on the NATS server or raise its storage limit, then restart it", Cause: cause,
	}
}

// outcome is the label of an append's error in the metrics.
func outcome(err error) string {
	switch {
	case err == nil:
		return "stored"
	case errors.Is(err, ErrConflict):
		return "conflict"
	case errors.Is(err, ErrUnknownOutcome):
		return "unknown"
	default:
		return "refused"
	}
}
