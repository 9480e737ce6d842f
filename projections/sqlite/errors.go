package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// The codes of this package's errors.
const (
	CodeBusy       = "read_store_busy"       // another process holds the file
	CodeFull       = "read_store_full"       // the disk is full
	CodeUnreadable = "read_store_unreadable" // the operating system refuses
	CodeCorrupt    = "read_store_corrupt"    // the file is damaged, or no database
	CodeForeign    = "read_store_foreign"    // the file is a database of something else
	CodeClosed     = "read_store_closed"     // after Close
	CodeTimeout    = "read_store_timeout"    // the caller's deadline passed
)

// explain turns what went wrong while doing something into an error of domain
// that says what to do. Errors that are explained already only get the context.
func (s *Store) explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	doing = fmt.Sprintf("%s in %s", doing, s.path)
	if _, done := errors.AsType[*domain.Error](err); done || errors.Is(err, projections.ErrCheckpointMoved) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	kind, code, message, fix := s.classify(err)
	if code == "" {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return &domain.Error{Kind: kind, Code: code, Message: message, Fix: fix, Cause: fmt.Errorf("%s: %w", doing, err)}
}

func (s *Store) classify(err error) (kind domain.Kind, code, message, fix string) {
	const tryAgain = "ask again shortly"
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return domain.KindUnavailable, CodeTimeout, "reading the tables took too long", tryAgain
	case errors.Is(err, sql.ErrConnDone) || errors.Is(err, errClosed):
		return domain.KindUnavailable, CodeClosed, "the tables are closed", tryAgain
	}
	failure, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return "", "", "", ""
	}
	switch failure.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return domain.KindUnavailable, CodeBusy, "the tables are locked by another process",
			"find out which process has the file open; one node uses one data directory"
	case sqlite3.SQLITE_FULL:
		return domain.KindUnavailable, CodeFull, "the disk that holds the tables is full",
			"make space; the node goes on by itself"
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM:
		return domain.KindUnavailable, CodeUnreadable, "the file of the tables cannot be read or written",
			"look at the permissions and the health of the disk"
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return domain.KindInternal, CodeCorrupt, "the file of the tables is damaged", s.remedy()
	default:
		return "", "", "", ""
	}
}

// remedy says what to do with a file that is of no use.
func (s *Store) remedy() string {
	return fmt.Sprintf("stop the node, move %s away (with -wal and -shm, if they are there) and start again: the tables are built anew from the log", s.path)
}

var errClosed = errors.New("the store is closed")

func (s *Store) foreign(why string) error {
	return domain.NewError(domain.KindInternal, CodeForeign, s.path+" is not a read store: "+why,
		"move it away, or name another data directory")
}
