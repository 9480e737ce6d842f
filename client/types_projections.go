package client

import "time"

// Projections says how the tables are that lists and the audit log are read from.
type Projections struct {
	Database      string `json:"database" enum:"sqlite,postgresql"`
	Place         string `json:"place" doc:"The file, or host and database."`
	SchemaVersion int    `json:"schema_version"`
	Generation    uint64 `json:"generation" doc:"Which build of the tables readers see."`

	State   string `json:"state" enum:"live,building,behind,stopped,unavailable" doc:"live: level with the log. building: the first tables are being made. behind: they follow, and are not level. stopped: an event cannot be taken in. unavailable: the database does not answer."`
	Leading bool   `json:"leading" doc:"Whether this node writes to the tables."`
	Leader  string `json:"leader" doc:"Who writes to them, where several nodes share a database."`

	Seq             uint64  `json:"seq" doc:"The last event that the tables have taken in."`
	HeadSeq         uint64  `json:"head_seq" doc:"The last event of the log."`
	LagEvents       uint64  `json:"lag_events"`
	LagSeconds      float64 `json:"lag_seconds" doc:"How long the tables have been behind the log; 0: they are level."`
	EventsPerSecond float64 `json:"events_per_second" doc:"How many events they take in, lately."`

	SizeBytes int64 `json:"size_bytes" doc:"What the tables and their indexes take."`
	Keys      int64 `json:"keys" doc:"Keys in the tables, about."`
	Entries   int64 `json:"entries" doc:"Entries of the audit log, about."`

	Error *ProjectionsError `json:"error,omitempty" nullable:"false" doc:"Why the tables do not follow the log at present. Absent if they do."`
	Job   *ProjectionsJob   `json:"job,omitempty" nullable:"false" doc:"The build, rebuild or check that runs, or the last that ran. Absent if there was none."`
}

// ProjectionsError says what is wrong with the tables, or with a job.
type ProjectionsError struct {
	Code    string `json:"code" example:"read_store_stopped"`
	Message string `json:"message"`
	Seq     uint64 `json:"seq,omitempty" doc:"The event that cannot be taken in."`
	EventID string `json:"event_id,omitempty" doc:"Its id."`
}

// ProjectionsJob is a build, a rebuild or a check of the tables, and how far it is.
type ProjectionsJob struct {
	Kind        string            `json:"kind" enum:"build,rebuild,check"`
	Phase       string            `json:"phase" enum:"reading,indexing,catching_up,comparing,done,failed"`
	Seq         uint64            `json:"seq" doc:"The last event taken in."`
	TargetSeq   uint64            `json:"target_seq" doc:"The end of the log, as far as it is known."`
	Table       string            `json:"table,omitempty" doc:"The table that is being compared."`
	Rows        int64             `json:"rows,omitempty" doc:"How many of its rows have been."`
	Differences int               `json:"differences" doc:"How many were found so far."`
	BeganAt     time.Time         `json:"began_at"`
	EndedAt     *time.Time        `json:"ended_at" doc:"null: it runs."`
	Error       *ProjectionsError `json:"error,omitempty" nullable:"false" doc:"Why it failed. Absent if it did not."`
}

// ProjectionsDifference is one thing that a table has wrong.
type ProjectionsDifference struct {
	Table  string `json:"table" example:"keys"`
	Row    string `json:"row" doc:"Which row, by its primary key and the key that it is about."`
	Column string `json:"column" doc:"Empty: the whole row is missing, or should not be there."`
	Want   string `json:"want" doc:"What the log says."`
	Got    string `json:"got" doc:"What the table says."`
}

// ProjectionsResult is the end of a rebuild or a check.
type ProjectionsResult struct {
	Seq         uint64  `json:"seq" doc:"The last event that was taken into account."`
	Generation  uint64  `json:"generation,omitempty" doc:"Of a rebuild: which build readers see from now on."`
	Rows        int64   `json:"rows,omitempty" doc:"Of a check: how many rows were compared."`
	Differences int     `json:"differences" doc:"Of a check: how many things are wrong."`
	TookSeconds float64 `json:"took_seconds"`
}

// ProjectionsUpdate is one line of the answer to a rebuild or a check: exactly one
// of its members is there. The last line holds the result or the error.
type ProjectionsUpdate struct {
	Progress   *ProjectionsJob        `json:"progress,omitempty" nullable:"false"`
	Difference *ProjectionsDifference `json:"difference,omitempty" nullable:"false"`
	Result     *ProjectionsResult     `json:"result,omitempty" nullable:"false"`
	Error      *ProjectionsError      `json:"error,omitempty" nullable:"false"`
}
