package projections

import (
	"context"

	"github.com/keyledger/keyledger/domain"
)

// KeyReader reads the key table. Implementations are safe for concurrent use, every
// read sees whole batches only, and all are bounded in rows and time. Where the
// tables cannot be read at present (the first build runs: [CodeBuilding]; the
// database is away: [CodeUnavailable], [CodeTimeout]) the error is of KindUnavailable.
type KeyReader interface {
	// Keys returns one page of the keys that match. A page token that is mangled or
	// belongs to another query is a KindInvalid error with [CodeInvalidPageToken].
	Keys(context.Context, KeyQuery) (KeyPage, error)
	// Key returns a key as it is, or as it was at a moment; domain.KeyNotFound if
	// there is or was none.
	Key(ctx context.Context, id domain.KeyID, at *Moment) (KeyRecord, error)
	// CountKeys counts the keys that match, whatever the page.
	CountKeys(context.Context, KeyQuery) (Count, error)
}

// AuditReader reads the audit log, as KeyReader does the keys.
type AuditReader interface {
	// Audit returns one page of the entries that match.
	Audit(context.Context, AuditQuery) (AuditPage, error)
	// Moment turns a time or a sequence into the moment that it names: for a time
	// the last event whose clock is not later, for a sequence the clock at that event.
	// A sequence beyond the tables is [ErrBeyondHistory].
	Moment(context.Context, At) (Moment, error)
}

// Reader is what doors ask of a store.
type Reader interface {
	KeyReader
	AuditReader
}
