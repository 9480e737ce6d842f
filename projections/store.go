package projections

import (
	"context"

	"github.com/keyledger/keyledger/domain"
)

// Checkpoint is the last event that a store has taken in. The zero value says
// that there was none. The id tells a log that was replaced from the one that
// the rows were made from.
type Checkpoint struct {
	Seq     uint64
	EventID string
}

// Reader is what doors ask of a store. Implementations are safe for concurrent
// use. Every read sees whole batches only. While the first build runs, reads
// return a KindUnavailable error with [CodeBuilding].
type Reader interface {
	// Keys returns one page of the keys that match, newest first by creation.
	// A page token that is mangled or belongs to another query is a KindInvalid
	// error with [CodeInvalidPageToken].
	Keys(context.Context, KeyQuery) (KeyPage, error)
	// Key returns the current version of a key, or domain.KeyNotFound.
	Key(context.Context, domain.KeyID) (KeyRecord, error)
	// Audit returns one page of the audit log, newest first.
	Audit(context.Context, AuditQuery) (AuditPage, error)
}

// Writer is what the [Projector] asks of a store. It is called from one
// goroutine at a time. An error of KindUnavailable is one that may pass (busy,
// disk full): the projector tries again. Any other stops it.
type Writer interface {
	// Checkpoint returns the stored checkpoint, when every batch given is written.
	Checkpoint(context.Context) (Checkpoint, error)
	// Load returns what the store knows about the keys and macs asked for.
	Load(context.Context, Lookup) (Known, error)
	// Write applies a batch in one transaction, or nothing of it. It returns
	// [ErrCheckpointMoved] unless the stored checkpoint is the batch's From. After
	// another error the batch may or may not be applied (a commit whose answer was
	// lost), or a build that is not finished be empty again: the checkpoint tells.
	// A build may still be writing the batch when Write returns, and give the error to
	// the next call.
	Write(context.Context, Batch) error
}

// Store is a read store as the projector needs it. Writes to an empty store may
// go to a form that is fast to build and that readers do not see.
type Store interface {
	Writer
	// FinishBuild makes what was written readable and durable. The projector calls
	// it when it has caught up with the log for the first time. It does nothing
	// on a store that is not being built.
	FinishBuild(context.Context) error
}

// Lookup names keys by id, and macs by hash.
type Lookup struct {
	Keys []domain.KeyID
	Macs []MacHash
}

// Known is the answer to a [Lookup]. What is not in the maps is not in the store.
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
type KeyVersion struct {
	KeyRecord
	ToSeq uint64
}

// EndedVersion ends the current row of a key, the one that began at FromSeq, at ToSeq.
type EndedVersion struct {
	Key            domain.KeyID
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
