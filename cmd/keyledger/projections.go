package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/keyledger/keyledger/client"
)

type projectionsCommand struct {
	Status  projectionsStatus  `cmd:"" help:"Say how the tables are, and how far behind the log."`
	Rebuild projectionsRebuild `cmd:"" help:"Build the tables anew from the log."`
	Check   projectionsCheck   `cmd:"" help:"Compare the tables with the log."`
}

type projectionsStatus struct{ connection }

func (projectionsStatus) Help() string {
	return `The tables are what lists, searches, the audit log and the past are read from; commands and checks of keys do without them. The management key needs keyledger.operate. The exit code is 1 if the tables have stopped or their database is away.

Examples:

    keyledger projections status
    keyledger projections status --output json`
}

// The states of the tables that need somebody.
const (
	tablesStopped     = "stopped"
	tablesUnavailable = "unavailable"
)

func (c projectionsStatus) Run(a *app) error {
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	p, err := cl.Projections(a.ctx)
	if err != nil {
		return err
	}
	p.EventsPerSecond = math.Round(10*p.EventsPerSecond) / 10
	if a.json {
		err = a.printJSON(p)
	} else {
		err = a.printProjections(p)
	}
	if err == nil && (p.State == tablesStopped || p.State == tablesUnavailable) {
		return errNo
	}
	return outputError(err)
}

// tellJob shows the progress of a job.
func (p *progress) tellJob(j client.ProjectionsJob) {
	if j.EndedAt == nil && p.due(j.Phase+" "+j.Table) {
		p.show("%s", jobWords(j))
	}
}

type projectionsRebuild struct{ connection }

func (projectionsRebuild) Help() string {
	return `New tables are made beside the live ones and put in their place at once; reads go on all the while and see the old or the new, never both. The log is only read. It goes on in the server if this command is ended; keyledger projections status shows how far it is. The management key needs keyledger.operate.

Examples:

    keyledger projections rebuild
    keyledger projections rebuild --output json`
}

func (c projectionsRebuild) Run(a *app) error {
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	progress := a.newProgress(true)
	var begun bool
	result, err := cl.RebuildProjections(a.ctx, func(j client.ProjectionsJob) {
		if !begun && !a.json {
			a.errorf("Building the tables anew beside the live ones; reads go on.\n")
		}
		begun = true // and not before: it might have been refused
		progress.tellJob(j)
	})
	progress.clear()
	if err != nil {
		return c.explain(a, err)
	}
	if a.json {
		return outputError(a.printJSON(result))
	}
	a.printf("Rebuilt up to seq %d in %s; readers see build %d now.\n", result.Seq, span(secondsOf(result.TookSeconds)), result.Generation)
	return nil
}

// explain says that a job whose end was not seen goes on.
func (c projectionsRebuild) explain(a *app, err error) error {
	const where = "keyledger projections status shows how far it is"
	if errors.Is(a.ctx.Err(), context.Canceled) {
		if !a.json {
			a.errorf("The server goes on with it if it had begun; %s.\n", where)
		}
		return err
	}
	if _, refused := errors.AsType[*client.Error](err); refused {
		return err
	}
	f := explain(err)
	return &failure{what: "the end of the rebuild was not seen: " + f.what, do: "the server goes on with it if it had begun; " + where, err: err}
}

type projectionsCheck struct{ connection }

func (projectionsCheck) Help() string {
	return `Makes tables from the log beside the live ones and compares them, row by row and column by column; reads go on. Each difference is one line. The exit code is 0 if there are none and 1 if there are; keyledger projections rebuild mends them. Ctrl-C ends the check. The management key needs keyledger.operate.

Examples:

    keyledger projections check
    keyledger projections check --output json`
}

func (c projectionsCheck) Run(a *app) error {
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	progress := a.newProgress(true)
	out := a.differencePrinter(progress)
	var broken error
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	result, err := cl.CheckProjections(ctx, progress.tellJob, func(d client.ProjectionsDifference) {
		if broken == nil {
			if broken = out.add(d); broken != nil {
				cancel() // nobody reads on
			}
		}
	})
	progress.clear()
	switch {
	case broken != nil:
		return broken
	case err != nil:
		return err
	}
	if err := out.done(result); err != nil {
		return err
	}
	if result.Differences > 0 {
		return errNo
	}
	return nil
}

// differencePrinter prints differences as they are found.
type differencePrinter struct {
	add  func(client.ProjectionsDifference) error
	done func(client.ProjectionsResult) error
}

func (a *app) differencePrinter(progress *progress) differencePrinter {
	if a.json {
		list := newJSONList(a.stdout, "differences")
		return differencePrinter{
			add:  func(d client.ProjectionsDifference) error { return list.add(d) },
			done: func(r client.ProjectionsResult) error { return list.done(member{"result", r}) },
		}
	}
	return differencePrinter{
		add: func(d client.ProjectionsDifference) error {
			progress.clear()
			_, err := fmt.Fprintln(a.stdout, clean(differenceWords(d)))
			return outputError(err)
		},
		done: func(r client.ProjectionsResult) error {
			took := span(secondsOf(r.TookSeconds))
			if r.Differences == 0 {
				_, err := fmt.Fprintf(a.stdout, "The tables are what the log says: %s rows at seq %d, in %s.\n", grouped(r.Rows), r.Seq, took)
				return outputError(err)
			}
			differences := grouped(r.Differences) + " differences"
			if r.Differences == 1 {
				differences = "1 difference"
			}
			a.errorf("%s in %s rows at seq %d, in %s.\n", differences, grouped(r.Rows), r.Seq, took)
			a.errorf("  to do: mend them with keyledger projections rebuild\n")
			return nil
		},
	}
}

func differenceWords(d client.ProjectionsDifference) string {
	switch {
	case d.Column == "" && d.Got == "":
		return fmt.Sprintf("%s %s: the row is missing; the log says %s", d.Table, d.Row, d.Want)
	case d.Column == "":
		return fmt.Sprintf("%s %s: there should be no such row; the table says %s", d.Table, d.Row, d.Got)
	default:
		return fmt.Sprintf("%s %s, %s: the log says %s, the table says %s", d.Table, d.Row, d.Column, d.Want, d.Got)
	}
}
