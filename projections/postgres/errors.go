package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

var (
	errClosed    = errors.New("the store is closed")
	errNoVersion = errors.New("there is no such current version: the tables are not what the projector made")
	errTwice     = errors.New("a row is there already: the batch does not continue what was built")
	errBuildGone = errors.New("the build is not among those that are known any more: it was removed")
	errAcquire   = errors.New("no connection became free in time")
)

// SQLSTATEs (PostgreSQL, appendix A).
const (
	stateUndefinedTable = "42P01"
	stateInvalidSchema  = "3F000"
	stateNoPrivilege    = "42501"
	stateCanceled       = "57014" // statement_timeout, or an operator
	stateLockTimeout    = "55P03"
)

// missing reports whether tables were not there: they were dropped by hand, or this
// was about a set that was retired long ago.
func missing(err error) bool {
	state := sqlState(err)
	return state == stateUndefinedTable || state == stateInvalidSchema
}

func sqlState(err error) string {
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
		return failure.Code
	}
	return ""
}

// explain turns what went wrong while doing something into an error of domain
// that says what to do. Errors that are explained already, and those of the contract,
// only get the context. None holds a password: pgx leaves it out of its own.
func (s *Store) explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s in PostgreSQL (%s): %w", doing, s.place, err)
	if _, done := errors.AsType[*domain.Error](err); done || errors.Is(err, context.Canceled) ||
		errors.Is(err, projections.ErrCheckpointMoved) || errors.Is(err, projections.ErrBehind) || errors.Is(err, projections.ErrNoTables) {
		return err
	}
	code, message, fix := classify(err)
	if code == "" {
		return err
	}
	return &domain.Error{Kind: domain.KindUnavailable, Code: code, Message: message, Fix: fix, Cause: err}
}

func classify(err error) (code, message, fix string) {
	const tryAgain = "ask again shortly"
	switch {
	case errors.Is(err, errClosed):
		return projections.CodeUnavailable, "the tables are closed", tryAgain
	case errors.Is(err, errBuildGone):
		return projections.CodeUnavailable, "the build was removed while it ran", "build again"
	case errors.Is(err, errAcquire):
		return projections.CodeUnavailable, "all connections to PostgreSQL are in use", tryAgain
	}
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
		code, message, fix = classifyState(failure.Code)
		if code == "" && (failure.SeverityUnlocalized == "FATAL" || failure.SeverityUnlocalized == "PANIC") {
			// Whatever ended the session, the next may do better.
			return projections.CodeUnavailable, closedConnection, reconnects
		}
		return code, message, fix
	}
	// What the driver says of a connection that broke or was never made. A deadline
	// that passed while connecting is one too, so it is looked for last.
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	switch {
	case connecting:
		return projections.CodeUnavailable, "PostgreSQL cannot be reached", "see that it runs and can be reached from this node; the node goes on by itself"
	case errors.Is(err, context.DeadlineExceeded):
		return projections.CodeTimeout, "reading the tables took too long", "ask for less, or again shortly"
	case network, pgconn.SafeToRetry(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return projections.CodeUnavailable, "the connection to PostgreSQL broke", "ask again shortly; the node connects again by itself"
	}
	return "", "", ""
}

const (
	closedConnection = "PostgreSQL is stopping, starting or closed the connection"
	reconnects       = "ask again shortly; the node connects again by itself"
)

func classifyState(state string) (code, message, fix string) {
	const unavailable = projections.CodeUnavailable
	switch state {
	case stateCanceled:
		return projections.CodeTimeout, "reading the tables took too long", "ask for less, or again shortly"
	case stateLockTimeout:
		return unavailable, "PostgreSQL waited too long for a lock", "ask again shortly"
	case stateUndefinedTable, stateInvalidSchema:
		return unavailable, "tables were dropped", "ask again shortly; the node makes them anew from the log"
	case stateNoPrivilege:
		return unavailable, "the role may not do this in the database", "GRANT CREATE ON DATABASE <database> TO <role>, and let the role own the schemas keyledger and keyledger_*"
	case "53300":
		return unavailable, "PostgreSQL has no connections left", "raise max_connections, or lower what others use"
	case "53100":
		return unavailable, "the disk of PostgreSQL is full", "make space; the node goes on by itself"
	case "40001", "40P01":
		return unavailable, "PostgreSQL broke off a transaction that met another", "ask again"
	case "28000", "28P01":
		return unavailable, "PostgreSQL refuses the connection", "check user, password and pg_hba.conf"
	case "3D000":
		return unavailable, "PostgreSQL has no such database", "make the database, or name another"
	case "55000":
		return unavailable, "PostgreSQL does not take connections to the database", "allow them again (ALTER DATABASE ... ALLOW_CONNECTIONS)"
	case "25006":
		return unavailable, "the database is read-only: a standby, or set so", "connect to the primary"
	}
	switch class := state[:min(2, len(state))]; {
	case strings.HasPrefix(state, "57P0"), class == "08":
		return unavailable, closedConnection, reconnects
	case class == "53", class == "58":
		return unavailable, "PostgreSQL is out of resources", "look at its memory, disk and log"
	}
	return "", "", ""
}
