package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/command"
	"github.com/keyledger/keyledger/deadlines"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/access"
	"github.com/keyledger/keyledger/eventstore/embedded"
	"github.com/keyledger/keyledger/intake"
	"github.com/keyledger/keyledger/internal/keyring"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/verify"
)

// shutdownTimeout bounds how long each part may take to close.
const shutdownTimeout = 10 * time.Second

// node is one keyledger serve process: the floors, wired.
type node struct {
	settings
	logger  *slog.Logger
	now     func() time.Time
	metrics *prometheus.Registry

	listener   net.Listener
	natsServer *embedded.Server // nil on a cluster

	keys     *keyring.Keyring
	conn     *nats.Conn
	clients  *nats.Conn // in the account of producers and auditors; nil if this node does not let them in
	door     *access.Door
	fault    func() error // what the embedded server knows to be wrong with its disk; nil without one
	log      *eventstore.Log
	verifier *verify.Verifier
	table    readStore
	tables   *projections.Projector
	reporter *verify.Reporter
	usage    *projections.UsageFeed
	handler  *command.Handler
	server   *server.Server

	deadlines *deadlines.Worker
	intake    *intake.Intake
	records   *intake.Records

	operator operatorVault
	address  serverFile

	closers []func(context.Context) error // undone last to first
}

// startNode takes what a node needs, in this order: the data dir, its port, the
// keyring, the log, and what is made from the log. What was taken is given back
// if a later step fails.
func startNode(ctx context.Context, s settings, logger *slog.Logger, now func() time.Time) (*node, error) {
	n := &node{settings: s, logger: logger, now: now, metrics: prometheus.NewRegistry()}
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, step := range []func(context.Context) error{
		n.takeDataDir, n.listen, n.loadKeyring, n.makeVerifier, n.openLog, n.openAccess, n.openTables, n.checkHistory, n.makeHandler, n.makeIntake, n.makeDeadlines, n.makeUsage, n.makeServer,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, n.close(ctx))
		}
	}
	return n, nil
}

func (n *node) onClose(f func(context.Context) error) { n.closers = append(n.closers, f) }

// close gives everything back, whatever fails on the way. It does not stop at the
// end of ctx, which is what usually brought it about.
func (n *node) close(ctx context.Context) error {
	var errs []error
	for _, closer := range slices.Backward(n.closers) {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		errs = append(errs, closer(bounded))
		cancel()
	}
	n.closers = nil
	return errors.Join(errs...)
}

// takeDataDir locks the data dir. An address in it is that of a server that was
// killed; this one gives its own when it is ready.
func (n *node) takeDataDir(ctx context.Context) error {
	if err := prepareDataDir(n.DataDir); err != nil {
		return err
	}
	unlock, err := lockDataDir(ctx, n.DataDir)
	if errors.Is(err, errLocked) {
		return failf("stop it, or choose another --data-dir", "the data dir %s is in use by another keyledger serve", n.DataDir)
	}
	if err != nil {
		return failf("give the directory to this user, or choose another --data-dir", "the data dir cannot be used: %w", err)
	}
	n.onClose(func(context.Context) error { unlock(); return nil })
	return removeServerFile(n.DataDir)
}

func (n *node) listen(ctx context.Context) error {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", n.Addr)
	if err != nil {
		return failf("stop what uses it, or choose another --addr", "cannot listen on %s: %w", n.Addr, unwrapListen(err))
	}
	n.address = serverFile{URL: "http://" + reachable(listener.Addr()), PID: os.Getpid()}
	if n.tls != nil {
		listener = tls.NewListener(listener, n.tls)
		n.address.URL = "https://" + reachable(listener.Addr())
	}
	n.listener = listener
	n.onClose(func(context.Context) error {
		if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("close the listener: %w", err)
		}
		return nil
	})
	return nil
}

func (n *node) loadKeyring(ctx context.Context) error {
	keys, created, err := openKeyring(n.settings)
	if err != nil {
		return err
	}
	if created {
		n.logger.InfoContext(ctx, "keyring created; back it up: without it no key can be verified", slog.String("path", n.keyringPath()))
	}
	n.keys = keys
	return nil
}

func (n *node) makeVerifier(context.Context) error {
	v, err := verify.New(verify.Config{
		Catalogue: n.catalogue, Format: n.format, Peppers: n.keys.Peppers(),
		Now: n.now, Logger: n.logger, Registerer: n.metrics,
	})
	n.verifier = v
	return err
}

// openLog connects to the log: the embedded one, or the cluster that was named.
func (n *node) openLog(ctx context.Context) error {
	if err := n.connect(ctx); err != nil {
		return err
	}
	n.onClose(func(context.Context) error { n.conn.Close(); return nil })
	replicas := 1
	if n.NATSURL != "" {
		replicas = n.NATSReplicas
	}
	log, err := eventstore.Open(ctx, eventstore.Config{
		Conn: n.conn, Replicas: replicas, Fault: n.fault, Logger: n.logger, Registerer: n.metrics,
	})
	n.log = log
	return err
}

func (n *node) connect(ctx context.Context) (err error) {
	if n.NATSURL != "" {
		n.nats.Logger = n.logger
		n.logger.WarnContext(ctx, "keyledger cannot see from here whether the cluster syncs before it answers; set jetstream.sync_interval: always in its servers, or a power cut can lose acknowledged events")
		n.conn, err = eventstore.Connect(ctx, n.nats)
		return err
	}
	// Whoever knows them is in this process, so that they need not outlive it.
	if n.secrets, err = access.NewSecrets(); err != nil {
		return err
	}
	natsServer, err := embedded.Start(ctx, embedded.Config{
		DataDir: n.DataDir, Listen: n.NATSListen, ListenLater: true, Sync: embedded.Sync(n.Sync), Secrets: n.secrets, Logger: n.logger,
	})
	if err != nil {
		return err
	}
	n.onClose(natsServer.Shutdown)
	n.natsServer, n.fault = natsServer, natsServer.Fault
	n.conn, err = natsServer.Connect(ctx)
	return err
}

func (n *node) makeHandler(context.Context) error {
	handler, err := command.New(command.Config{
		Log: n.log, Claims: n.verifier, Pepper: n.keys.Primary(), IDSecret: n.keys.IDSecret(),
		Format: n.format, Catalogue: n.catalogue, Now: n.now, Logger: n.logger, Registerer: n.metrics,
	})
	n.handler = handler
	n.operator = operatorVault{file: filepath.Join(n.DataDir, operatorTokenFile)}
	return err
}

func (n *node) makeServer(context.Context) error {
	s, err := server.New(server.Config{
		Commands: n.handler, Keys: n.reader(), Audit: n.reader(), Usage: n.table, Verifier: n.verifier, History: n.log,
		Projections: n.tables, Describer: n.table, Outcomes: n.records, DeadLetters: n.records,
		MaxReads: n.maxReads(), MaxReadsPerKey: n.maxReads() / 2,
		Tables: n.tables,
		Parts: append([]server.Part{
			{Name: "log", Check: func(context.Context) error { return n.log.Health() }},
			{Name: "verifier", Check: n.verifierReady},
			{Name: "tables", Check: n.tablesReady, Optional: true},
			{Name: "tables built", Check: n.tablesBuilt},
			{Name: "deadlines", Check: func(context.Context) error { return n.deadlines.Health() }, Optional: true},
			{Name: "commands over nats", Check: n.intakeReady, Optional: true},
		}, n.accessPart()...),
		Catalogue: n.catalogue, Version: readBuildInfo().Version, Now: n.now, Logger: n.logger, Metrics: n.metrics,
	})
	n.server = s
	return err
}

// run feeds what is made from the log and answers requests, until ctx ends or
// something cannot go on; then it ends everything in order: requests in flight
// finish while what they read is still fed, and the log closes last. ready is
// called when the node answers from the whole history.
func (n *node) run(ctx context.Context, ready func()) (err error) {
	defer func() { err = errors.Join(err, n.close(ctx)) }()
	doors, closeDoors := context.WithCancel(ctx)
	defer closeDoors()
	feeds, stopFeeds := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFeeds()

	var group errgroup.Group
	feed := func(run func(context.Context) error) {
		group.Go(func() error {
			defer closeDoors() // a node whose feeds have ended must not answer from what they fed
			return run(feeds)
		})
	}
	feed(n.log.Watch)
	feed(func(ctx context.Context) error { return n.verifier.Run(ctx, n.log) })
	feed(n.runTables)
	feed(n.mergeUsage)
	feed(n.runDeadlines)
	feed(n.lookAfterClients)
	group.Go(func() error {
		defer closeDoors()
		return n.welcome(doors, ready)
	})
	endReports := n.startReports(ctx)
	endIntake := n.startIntake(ctx)
	serveErr := n.server.Serve(doors, n.listener)
	endIntake()
	if ctx.Err() != nil {
		n.logger.InfoContext(ctx, "requests are done; closing")
	}
	endReports()
	stopFeeds()
	return errors.Join(group.Wait(), serveErr)
}
