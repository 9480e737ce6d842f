package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// The codes of this package's errors. CodeTimeout and CodeUnavailable of package
// projections go with them.
const (
	CodeBusy       = "read_store_busy"       // another process holds the file
	CodeFull       = "read_store_full"       // the disk is full
	CodeUnreadable = "read_store_unreadable" // the operating system refuses
	CodeCorrupt    = "read_store_corrupt"    // the file is damaged, or no database
	CodeForeign    = "read_store_foreign"    // the file is a database of something else
	CodeClosed     = "read_store_closed"     // after Close
)

// explain turns what went wrong while doing something into an error of domain
// that says what to do. Errors that are explained already only get the context.
func (s *Store) explain(doing string, err error) error {
	path := s.path
	if g := s.live.Load(); g != nil {
		path = g.path
	}
	return explain(path, doing, err)
}

func explain(path, doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errNoTables) {
		return projections.ErrBuilding()
	}
	doing = fmt.Sprintf("%s in %s", doing, path)
	if _, done := errors.AsType[*domain.Error](err); done || errors.Is(err, projections.ErrCheckpointMoved) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	kind, code, message, fix := classify(path, err)
	if code == "" {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return &domain.Error{Kind: kind, Code: code, Message: message, Fix: fix, Cause: fmt.Errorf("%s: %w", doing, err)}
}

func classify(path string, err error) (kind domain.Kind, code, message, fix string) {
	const tryAgain = "ask again shortly"
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return domain.KindUnavailable, projections.CodeTimeout, "reading the tables took too long", tryAgain
	case errors.Is(err, sql.ErrConnDone) || errors.Is(err, errClosed):
		return domain.KindUnavailable, CodeClosed, "the tables are closed", tryAgain
	}
	failure, ok := errors.AsType[*driver.Error](err)
	if !ok {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			return domain.KindUnavailable, CodeUnreadable, unreadable, unreadableFix
		}
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
		return domain.KindUnavailable, CodeUnreadable, unreadable, unreadableFix
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return domain.KindInternal, CodeCorrupt, "the file of the tables is damaged", remedy(path)
	default:
		return "", "", "", ""
	}
}

const (
	unreadable    = "the file of the tables cannot be read or written"
	unreadableFix = "look at the permissions and the health of the disk"
)

// remedy says what to do with a file that is of no use.
func remedy(path string) string {
	return fmt.Sprintf("stop the node, move %s away (with -wal and -shm, if they are there) and start again: the tables are built anew from the log", path)
}

var (
	errClosed   = errors.New("the store is closed")
	errNoTables = errors.New("there are no tables yet")
)

func foreign(path, why string) error {
	return domain.NewError(domain.KindInternal, CodeForeign, path+" is not a read store: "+why,
		"move it away, or name another data directory")
}
