package projections

import "time"

// JobKind is what a [Job] does.
type JobKind string

// The kinds.
const (
	JobBuild   JobKind = "build"   // the first tables of this schema version
	JobRebuild JobKind = "rebuild" // new tables beside the live ones, then the swap
	JobCheck   JobKind = "check"   // new tables to hold the live ones against
)

// JobPhase is how far a [Job] is.
type JobPhase string

// The phases, in order; a check compares and does not index, swap or catch up.
const (
	PhaseReading    JobPhase = "reading"     // the log, from its beginning
	PhaseIndexing   JobPhase = "indexing"    // the new tables
	PhaseCatchingUp JobPhase = "catching_up" // with what was written meanwhile, up to the swap
	PhaseComparing  JobPhase = "comparing"   // the live tables with the new ones
	PhaseDone       JobPhase = "done"
	PhaseFailed     JobPhase = "failed"
)

// Job is a build, a rebuild or a check: the one that runs, or the last that ran.
type Job struct {
	Kind   JobKind
	Phase  JobPhase
	Seq    uint64 // the last event taken in
	Target uint64 // the end of the log, as far as it is known
	// Table and Rows say what is being compared, and how many rows of it have been.
	Table       string
	Rows        int64
	Differences int // found so far
	Began       time.Time
	Ended       time.Time // zero while it runs
	Err         error     // why it failed
}

// Running reports whether the job has not ended.
func (j Job) Running() bool { return j.Kind != "" && j.Ended.IsZero() }
