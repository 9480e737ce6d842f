package main

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/verify"
)

// makeUsage makes what reports how keys are used on this node, and what merges the
// reports of all nodes into the tables, where this one writes to them.
func (n *node) makeUsage(context.Context) (err error) {
	n.reporter, err = n.verifier.NewReporter(verify.ReporterConfig{
		Publisher: n.log, Name: n.reporterName(), Every: n.usageEvery, Logger: n.logger, Registerer: n.metrics,
	})
	if err != nil {
		return err
	}
	n.usage, err = projections.NewUsageFeed(projections.UsageConfig{
		Store: n.table, Log: n.log, Leads: func() bool { return n.tables.Status().Leading }, Now: n.now, Logger: n.logger, Registerer: n.metrics,
	})
	return err
}

// startReports reports until the returned function is called, which is when no door
// lets anybody in any more: then it reports once more.
func (n *node) startReports(ctx context.Context) (stop func()) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.reporter.Run(running); err != nil {
			n.logger.WarnContext(ctx, "when keys were last used is lost, of this node since its last report", slog.Any("error", err))
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// mergeUsage merges reports. Whatever is wrong with them is tried again, and keeps
// nothing else from going on.
func (n *node) mergeUsage(ctx context.Context) error {
	n.usage.Run(ctx)
	return nil
}

// reporterName tells the reports of this node from those of others: its host and
// port, as far as they fit into a subject.
func (n *node) reporterName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	port := ""
	if u, err := url.Parse(n.address.URL); err == nil {
		_, port, _ = net.SplitHostPort(u.Host)
	}
	const longest = 48
	name := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' {
			return r
		}
		return '-'
	}, host)
	return "node_" + name[:min(len(name), longest)] + "_" + port
}
