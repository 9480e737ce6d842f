package projections

import (
	"time"

	"github.com/keyledger/keyledger/domain"
)

// Time in the tables goes by the log's clock: the running maximum of the events'
// times. Nodes' clocks differ, so that an event may be a little older than the one
// before it; by its clock the log never goes back, and "what was true at 03:12" and
// "what happened between three and four" are spans of it without gap or overlap.

// At names a point of the history: by time or by sequence, one of them.
type At struct {
	Time time.Time
	Seq  uint64
}

// Moment is a point of the history: the tables hold what the events up to Seq made,
// and statuses are those of Time.
type Moment struct {
	Seq  uint64 // 0: before the first event
	Time time.Time
}

// CodeBeyondHistory is the code of [ErrBeyondHistory].
const CodeBeyondHistory = "beyond_history"

// ErrBeyondHistory is the answer to a sequence that the tables have not reached.
func ErrBeyondHistory() error {
	return domain.Invalid(CodeBeyondHistory, "/seq", "the log has no such event yet", "use a seq from an answer, or at with a time")
}
