package eventstore

import (
	"time"

	"github.com/keyledger/keyledger/domain"
)

// MaxEventBytes is the largest body of an event.
const MaxEventBytes = 32 << 10

// Event is one stored event. It must not be written to: Raw and what Data points
// at may be shared. The strings outside Data share memory with each other, some
// 400 bytes: clone what is kept for long.
type Event struct {
	// Seq is the place in the one total order, from 1, without gaps.
	Seq uint64
	// ID is unique over all events; Source names who wrote it (CloudEvents).
	ID     string
	Source string
	// Time is when the event's command was decided: UTC, microseconds.
	Time        time.Time
	Aggregate   Aggregate
	Actor       domain.ActorID
	Command     domain.CommandName
	CommandID   string
	CommandHash string
	RequestID   string
	TraceParent string
	Data        domain.Event
	// Raw is the stored body.
	Raw []byte
}

// Type returns the stored name of what happened, after upcasting.
func (e Event) Type() domain.EventType { return e.Data.Type() }

// Meta is what all events of one append have in common.
type Meta struct {
	Time        time.Time // cut to microseconds, UTC
	Actor       domain.ActorID
	Command     domain.CommandName
	CommandID   string
	CommandHash string // "" if there is nothing to compare
	RequestID   string // "" if there was no request
	TraceParent string // W3C Trace Context, "" if there is none
}

// Change is the events that an append adds to one aggregate, provided that its
// last event is still the one with ExpectedSeq (0: it has no event yet).
type Change struct {
	Aggregate   Aggregate
	ExpectedSeq uint64
	Events      []domain.Event
}

// History is the events of one aggregate in order. LastSeq is what a [Change]
// decided upon it expects; 0 if there are no events.
type History struct {
	Events  []Event
	LastSeq uint64
}

// Batch is a run of consecutive events. Handlers must not keep the slice.
type Batch struct {
	Events []Event
	// CaughtUp says that nothing waits behind these events. A tail of a log that
	// has nothing to give begins with an empty batch that is caught up.
	CaughtUp bool
}

// Consistency says who may answer a read.
type Consistency int

const (
	// Nearest lets any replica answer. On a replicated stream the answer may lack
	// the latest events; an append decided upon it then conflicts.
	Nearest Consistency = iota
	// Leader asks the stream's leader. Use it before a refusal that rests on what
	// is missing: no such key, no change, a version that does not match.
	Leader
)
