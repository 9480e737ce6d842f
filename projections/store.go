package projections

import (
	"context"
	"time"

	"github.com/keyledger/keyledger/domain"
)

// Checkpoint is the last event that a set of tables has taken in. The zero value
// says that there was none. The id tells a log that was replaced from the one that
// the rows were made from.
type Checkpoint struct {
	Seq     uint64
	EventID string
	Clock   time.Time // the log's clock at the event, UTC, whole microseconds
}

// Store is a read store as the [Projector] drives it. It holds at most one set of
// tables that readers see, the live ones, and one that is being built. A set has
// the schema version of this release: sets of other versions are left to the
// releases that made them, or removed where there can be none (a single node's file).
//
// Its errors are of KindUnavailable where they may pass (busy, disk full, database
// away): the projector tries again. Any other stops it.
type Store interface {
	// Lead makes the caller the one process that writes to the live tables, or
	// returns [ErrFollower] while another is. What it returns is for one goroutine.
	Lead(context.Context) (Lead, error)
	// Build begins a set of tables beside the live ones, in the place of any that was
	// given up. While another process builds one, it returns [ErrBuildRunning].
	Build(context.Context) (Build, error)
	// State says what readers see. It is cheap, and safe for concurrent use.
	State(context.Context) (State, error)
}

// State is what readers of a store see at present.
type State struct {
	Live       bool       // there are live tables of this schema version
	At         Checkpoint // of the live tables
	Generation uint64     // which build they come from; 0 without any
	// Leader names the process that writes to them, where several share the database.
	Leader string
}

// Info describes a store, for people.
type Info struct {
	Database      string // "sqlite" or "postgresql"
	SchemaVersion int
	Place         string // the file, or host and database; never a credential
	Bytes         int64  // what the live tables and their indexes take
	Keys, Entries int64  // rows of the live tables, about
}

// Describer describes a store. It may take a moment.
type Describer interface {
	Info(context.Context) (Info, error)
}

// Writer takes in batches. It is called from one goroutine at a time.
type Writer interface {
	// Checkpoint returns the stored checkpoint, when every batch given is written. Of
	// the live tables it is [ErrNoTables] while there are none.
	Checkpoint(context.Context) (Checkpoint, error)
	// Load returns what the tables know about the keys and macs asked for. A lead
	// whose tables were swapped for others gets [ErrCheckpointMoved].
	Load(context.Context, Lookup) (Known, error)
	// Write applies a batch in one transaction, or nothing of it. It returns
	// [ErrCheckpointMoved] unless the stored checkpoint is the batch's From: another
	// process wrote, or the tables were swapped for others. After another error the
	// batch may or may not be applied (a commit whose answer was lost): the checkpoint
	// tells. A build may still be writing the batch when Write returns, and give the
	// error to the next call; a build that failed to write is of no use any more.
	Write(context.Context, Batch) error
}

// Lead writes to the live tables.
type Lead interface {
	Writer
	// Close gives up the lead. It must be called, after errors too.
	Close(context.Context) error
}

// Build is a set of tables that readers do not see yet.
type Build interface {
	Writer
	Finisher
	// Compare opens a view of the live tables as they are now, to hold them against
	// what was built.
	Compare(context.Context) (Comparison, error)
}

// Finisher ends a build.
type Finisher interface {
	// Complete makes indexes, which takes a while, and what is written durable. Batches
	// may be written afterwards, at the price of those to the live tables.
	Complete(context.Context) error
	// Swap puts the tables in the place of the live ones, at once for every reader:
	// no read fails, none sees both. It returns [ErrBehind] and changes nothing if the
	// live tables have taken in more. The build must be complete, and is over then.
	Swap(context.Context) error
	// Discard removes the tables, unless they were swapped in. It must be called in
	// any case, and gives back what the build holds.
	Discard(context.Context) error
}

// Comparison is a view of the live tables at one instant. Close it.
type Comparison interface {
	// At is where the live tables are in this view. The build must be brought to the
	// very same event before Differences is called.
	At() Checkpoint
	// Differences holds every table of the view against the build's, row by row and
	// column by column, and yields what differs in the order of the rows. It ends with
	// the error of yield. progress is called with the table at hand and how many of its
	// rows were looked at, now and then and at the end of each.
	Differences(ctx context.Context, progress func(table string, rows int64), yield func(Difference) error) error
	Close() error
}

// Difference is one thing that a live table has wrong.
type Difference struct {
	Table  string
	Row    string // by its primary key, with the key's id where the row is about one
	Column string // "" if the whole row is missing or should not be there
	Want   string // as the log has it; "" for a row that should not be there
	Got    string // as the live table has it; "" for a row that is missing
}

// Lookup names keys by id, and macs by hash.
type Lookup struct {
	Keys []domain.KeyID
	Macs []MacHash
}

// Known is the answer to a [Lookup]. What is not in the maps is not in the store.
// LastUsedAt of records need not be set.
type Known struct {
	Keys  map[domain.KeyID]KeyRecord // current versions
	Voids map[domain.KeyID][]VoidKey // void claims of the ids, in any order
	Macs  map[MacHash]domain.KeyID   // which key holds the mac
}

// Batch is the effect of consecutive events on the tables.
type Batch struct {
	From, To Checkpoint
	// Ended are rows of earlier batches that a newer version ends.
	Ended []EndedVersion
	// Versions are new rows, in order of their Seq, which is unique.
	Versions []KeyVersion
	Audit    []AuditEntry // in order of Seq
	Macs     []MacClaim   // hashes not in the store yet
	Voids    []VoidKey    // accounts and ids not in the store yet
}

// KeyVersion is a row that holds over [Seq, ToSeq); ToSeq 0 marks the current one.
// LastUsedAt is not part of a version.
type KeyVersion struct {
	KeyRecord
	ToSeq uint64
}

// EndedVersion ends the current row of a key, the one that began at FromSeq, at ToSeq.
type EndedVersion struct {
	Key            domain.KeyID
	CreatedSeq     uint64
	FromSeq, ToSeq uint64
}

// MacClaim says that a key holds a mac since Seq.
type MacClaim struct {
	Hash MacHash
	Key  domain.KeyID
	Seq  uint64
}

// VoidKey says that an account's claim of a key id, at Seq, was void. The account
// has no key of that id, and no later event makes one.
type VoidKey struct {
	Account domain.AccountID
	Key     domain.KeyID
	Seq     uint64
	Reason  VoidReason
}
