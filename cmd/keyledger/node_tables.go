package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/postgres"
	"github.com/keyledger/keyledger/projections/sqlite"
)

// readStore is the read store of a node, whatever the database.
type readStore interface { //nolint:interfacebloat // the sum of what others ask for, a few methods each
	projections.Store
	projections.Reader
	projections.UsageWriter
	projections.UsageReader
	projections.Describer
	Close() error
}

// openTables opens the read store and makes what keeps it up to date. A database
// that is away now is tried again for as long as it takes: commands and
// verification need no tables.
func (n *node) openTables(ctx context.Context) error {
	store, err := n.openReadStore(ctx)
	if err != nil {
		return err
	}
	n.onClose(func(context.Context) error { return store.Close() })
	n.table = store
	n.tables, err = projections.New(projections.Config{Store: store, Log: n.log, Now: n.now, Logger: n.logger, Registerer: n.metrics})
	return err
}

func (n *node) openReadStore(ctx context.Context) (readStore, error) {
	if n.DatabaseURL == "" {
		return sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(n.DataDir, keyTableFile), Logger: n.logger})
	}
	return postgres.Open(ctx, postgres.Config{URL: n.DatabaseURL, Readers: n.DatabaseConnections, Name: n.name(), Logger: n.logger})
}

// maxReads is how many lists, counts and searches may run at once: less than the
// database has connections for, so that single keys can always be read. 0, for the
// file of the data dir, is the server's default.
func (n *node) maxReads() int {
	if n.DatabaseURL == "" {
		return 0
	}
	return max(1, n.DatabaseConnections-2)
}

// name tells this node from others that use the same database.
func (n *node) name() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("keyledger %s %s", host, n.address.URL)
}

// checkHistory looks before anything is written: a log that is not the one that
// the tables were made from must not get new events. Tables that cannot be read
// now are held against the log by the projector later.
func (n *node) checkHistory(ctx context.Context) error {
	state, err := n.table.State(ctx)
	if domain.KindOf(err) == domain.KindUnavailable {
		n.logger.WarnContext(ctx, "the tables cannot be read now; they are tried again", slog.Any("error", err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("read how far the tables are: %w", err)
	}
	same, err := sameHistory(ctx, n.log, state.At)
	if err == nil && !same {
		return replacedHistory(state.At, n.tablesPlace())
	}
	return err
}

// tablesPlace says where the tables are, for people.
func (n *node) tablesPlace() string {
	if n.DatabaseURL == "" {
		return filepath.Join(n.DataDir, keyTableFile)
	}
	return "the schemas keyledger… in the database"
}

// runTables keeps the tables up to date. An event that cannot be projected stops
// them and nothing else: what they say is refused from then on (tableGuard), while
// commands and verification, which do not need them, go on. Only a log that is not
// theirs ends the node, since it must not be written to.
func (n *node) runTables(ctx context.Context) error {
	err := n.tables.Run(ctx)
	if err == nil || errors.Is(err, eventstore.ErrHistoryReplaced) {
		return err
	}
	n.logger.ErrorContext(ctx, "alarm: the tables have stopped; commands and verification go on without them", slog.Any("error", err))
	<-ctx.Done()
	return nil
}

// awaitTables waits until the tables show the log up to seq, or are known to be out
// of reach: a node is of use without them.
func (n *node) awaitTables(ctx context.Context, seq uint64) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for n.tablesBuilt(ctx) != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := n.tables.WaitFor(ctx, seq)
	if err == nil || ctx.Err() != nil {
		return err
	}
	n.logger.WarnContext(ctx, "the node starts without its tables", slog.Any("error", err))
	return nil
}

// tolerableLag is how long tables may be behind the log before readiness shows it.
const tolerableLag = 5 * time.Second

// tablesReady says whether reads of lists and of history can be answered.
func (n *node) tablesReady(context.Context) error {
	status := n.tables.Status()
	switch {
	case status.Err != nil:
		return fmt.Errorf("the tables stand still at seq %d of %d: %s", status.Seq, status.Head, outline(status.Err))
	case !status.CaughtUp:
		return fmt.Errorf("the tables are being built or catching up; at seq %d of %d", status.Seq, status.Head)
	case !status.BehindSince.IsZero() && n.now().Sub(status.BehindSince) > tolerableLag:
		return fmt.Errorf("the tables have been behind the log for %s; at seq %d of %d",
			n.now().Sub(status.BehindSince).Round(time.Second), status.Seq, status.Head)
	default:
		return nil
	}
}

// outline says what is wrong to those who need no credential to ask: no address,
// path or name of the database, which the log and the projections endpoint tell.
func outline(err error) string {
	if e, ok := errors.AsType[*domain.Error](err); ok {
		return fmt.Sprintf("%s (%s)", e.Message, e.Code)
	}
	if _, ok := errors.AsType[*projections.EventError](err); ok {
		return "an event cannot be taken in (" + projections.CodeStopped + ")"
	}
	return "see the log of the node"
}

// tablesBuilt keeps a node from being ready while it builds its tables or catches
// up at the start. Once they were level with the log, or while their database is out
// of reach, it can do without them.
func (n *node) tablesBuilt(context.Context) error {
	status := n.tables.Status()
	if status.CaughtUp || status.Err != nil {
		return nil //nolint:nilerr // see above
	}
	return fmt.Errorf("at seq %d of %d", status.Seq, status.Head)
}

// tableGuard refuses to read tables that have stopped for good: nobody would see
// from the answer how old it is.
type tableGuard struct {
	projections.Reader
	stopped func() error
}

func (n *node) reader() tableGuard {
	return tableGuard{Reader: n.table, stopped: func() error {
		status := n.tables.Status()
		if !status.Stopped {
			return nil
		}
		return &domain.Error{
			Kind: domain.KindUnavailable, Code: projections.CodeStopped, Cause: status.Err,
			Message: fmt.Sprintf("the tables have stopped at seq %d and are out of date", status.Seq),
			Fix:     "ask the operator to look at keyledger projections status",
		}
	}}
}

// Keys implements projections.KeyReader.
func (g tableGuard) Keys(ctx context.Context, q projections.KeyQuery) (projections.KeyPage, error) {
	if err := g.stopped(); err != nil {
		return projections.KeyPage{}, err
	}
	return g.Reader.Keys(ctx, q)
}

// Key implements projections.KeyReader.
func (g tableGuard) Key(ctx context.Context, id domain.KeyID, at *projections.Moment) (projections.KeyRecord, error) {
	if err := g.stopped(); err != nil {
		return projections.KeyRecord{}, err
	}
	return g.Reader.Key(ctx, id, at)
}

// CountKeys implements projections.KeyReader.
func (g tableGuard) CountKeys(ctx context.Context, q projections.KeyQuery) (projections.Count, error) {
	if err := g.stopped(); err != nil {
		return projections.Count{}, err
	}
	return g.Reader.CountKeys(ctx, q)
}

// Audit implements projections.AuditReader.
func (g tableGuard) Audit(ctx context.Context, q projections.AuditQuery) (projections.AuditPage, error) {
	if err := g.stopped(); err != nil {
		return projections.AuditPage{}, err
	}
	return g.Reader.Audit(ctx, q)
}

// Moment implements projections.AuditReader.
func (g tableGuard) Moment(ctx context.Context, at projections.At) (projections.Moment, error) {
	if err := g.stopped(); err != nil {
		return projections.Moment{}, err
	}
	return g.Reader.Moment(ctx, at)
}

// checkDatabaseURL refuses a password that everybody on the machine can read: the
// arguments of a process are no secret. It may come from the environment or from
// the files of libpq.
func checkDatabaseURL(text, fromEnv string) error {
	if text == "" || text == fromEnv {
		return nil
	}
	const do = "put the whole string into KEYLEDGER_DATABASE_URL, or the password into a file that PGPASSFILE names"
	inside := regexp.MustCompile(`(?i)password\s*=`).MatchString(text) // key=value pairs and query parameters
	if u, err := url.Parse(text); err == nil {
		_, in := u.User.Password()
		inside = inside || in || u.Query().Has("password") || u.Query().Has("sslpassword")
	}
	if inside {
		return usagef(do, "--database-url holds a password, which other processes can read")
	}
	return nil
}
