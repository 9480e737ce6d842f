package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/sqlite"
)

// log looks at the stream itself where no server stands between: in a cluster
// that was named, or in a data dir that nobody has open.
func (x *examination) log(ctx context.Context) {
	switch {
	case x.cmd.NATSURL != "":
		cfg, _, err := x.cmd.connectConfig()
		if err != nil {
			f := explain(err)
			x.fail("nats", f.do, "%s", f.what)
			return
		}
		conn, err := eventstore.Connect(ctx, cfg)
		if err != nil {
			x.fail("nats", "check --nats-url and the credentials", "%s", firstLine(err))
			return
		}
		defer conn.Close()
		x.ok("nats", "connected to %s", conn.ConnectedUrlRedacted())
		if log, head := x.stream(ctx, conn, x.cmd.NATSReplicas); log != nil {
			x.ownTables(ctx, log, head)
		}
	case x.cmd.Server == "" && !x.running:
		x.closedLog(ctx)
	}
}

// closedLog opens the embedded log of a data dir as a server would, without
// letting anybody in. The lock is held meanwhile, so that no server starts.
func (x *examination) closedLog(ctx context.Context) {
	dir := x.cmd.DataDir
	if _, err := os.Stat(filepath.Join(dir, jetstreamDir)); err != nil {
		if hasTables(dir) {
			x.fail("log", "restore it from your backup", "the log (%s) is gone, but the data dir holds tables", jetstreamDir)
		}
		return
	}
	unlock, err := lockDataDir(ctx, dir)
	if err != nil {
		return // a server has come, or dataDir has said why not
	}
	defer unlock()
	server, err := embedded.Start(ctx, embedded.Config{DataDir: dir})
	if err != nil {
		x.fail("log", "", "%s", firstLine(err))
		return
	}
	defer func() { _ = server.Shutdown(context.WithoutCancel(ctx)) }()
	conn, err := server.Connect(ctx)
	if err != nil {
		x.fail("log", "", "%s", firstLine(err))
		return
	}
	defer conn.Close()
	if log, head := x.stream(ctx, conn, 1); log != nil {
		x.tables(ctx, log, head)
	}
}

// ownTables looks at the tables that a node on a cluster keeps in its data dir.
// They are opened under the lock, as everything in a data dir is.
func (x *examination) ownTables(ctx context.Context, log *eventstore.Log, head uint64) {
	dir := x.cmd.DataDir
	if !hasTables(dir) {
		return // built at the next start
	}
	unlock, err := lockDataDir(ctx, dir)
	switch {
	case errors.Is(err, errLocked):
		x.ok("tables", "a server has %s open and looks after them", dir)
		return
	case err != nil:
		x.fail("tables", "run as the user that the server runs as", "%s", firstLine(err))
		return
	}
	defer unlock()
	x.tables(ctx, log, head)
}

// stream looks at the stream and returns it with the seq of its last event, or
// nil. It is asked for before it is opened, because opening would create it.
func (x *examination) stream(ctx context.Context, conn *nats.Conn, replicas int) (*eventstore.Log, uint64) {
	js, err := jetstream.New(conn)
	if err == nil {
		_, err = js.Stream(ctx, eventstore.StreamName)
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		x.warn("stream", "start a server: it creates the stream", "there is no stream %s", eventstore.StreamName)
		return nil, 0
	case err != nil:
		x.fail("stream", "check that JetStream is enabled, has a leader, and that the credentials may use it", "%s", firstLine(err))
		return nil, 0
	}
	log, err := eventstore.Open(ctx, eventstore.Config{Conn: conn, Replicas: replicas})
	if err != nil {
		x.fail("stream", "", "%s", firstLine(err))
		return nil, 0
	}
	head, err := log.Head(ctx)
	if err != nil {
		x.fail("stream", "", "%s", firstLine(err))
		return nil, 0
	}
	x.ok("stream", "configured as it must be, %d events", head)
	if x.keyring {
		x.loggedPeppers(ctx, log)
	}
	return log, head
}

// tables compares the key table's checkpoint with the log. The caller holds the
// lock of the data dir: opening completes what a killed server left half done.
func (x *examination) tables(ctx context.Context, log *eventstore.Log, head uint64) {
	if !hasTables(x.cmd.DataDir) {
		return // built at the next start
	}
	path := filepath.Join(x.cmd.DataDir, keyTableFile)
	store, err := sqlite.Open(ctx, sqlite.Config{Path: path})
	if err != nil {
		x.fail("tables", "", "%s", firstLine(err))
		return
	}
	defer func() { _ = store.Close() }()
	state, err := store.State(ctx)
	if err != nil {
		x.fail("tables", "", "%s", firstLine(err))
		return
	}
	at := state.At
	same, err := sameHistory(ctx, log, at)
	switch {
	case err != nil:
		x.fail("tables", "", "%s", firstLine(err))
	case !same:
		f := explain(replacedHistory(at, path))
		x.fail("tables", f.do, "%s", f.what)
	default:
		x.ok("tables", "at seq %d of %d", at.Seq, head)
	}
}

// sameHistory reports whether the log holds the event that the tables say they
// have come to.
func sameHistory(ctx context.Context, log *eventstore.Log, at projections.Checkpoint) (bool, error) {
	if at.Seq == 0 {
		return true, nil
	}
	event, err := log.At(ctx, at.Seq)
	switch {
	case errors.Is(err, eventstore.ErrNoEvent):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("compare the tables with the log: %w", err)
	default:
		return event.ID == at.EventID, nil
	}
}

func replacedHistory(at projections.Checkpoint, path string) error {
	return failf("restore the log that belongs to the tables, or remove the tables ("+path+") to build them from this log",
		"history was replaced: the tables know event %s at seq %d, and the log does not hold it", at.EventID, at.Seq)
}
