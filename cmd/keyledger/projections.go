package main

import (
	"context"
	"errors"
	"fmt"
	"time"

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

func (a *app) printProjections(p client.Projections) error {
	t := newTable(a.stdout)
	t.pair("state", p.State)
	if e := p.Error; e != nil {
		t.pair("trouble", e.Message+" ("+e.Code+")")
		if e.Seq != 0 {
			t.pair("at event", fmt.Sprintf("seq %d, id %s", e.Seq, e.EventID))
		}
		t.pair("to do", tablesRemedy(p))
	}
	t.pair("position", fmt.Sprintf("seq %d of %d", p.Seq, p.HeadSeq))
	t.pair("lag", lagWords(p))
	t.pair("rate", grouped(int64(p.EventsPerSecond))+" events/s")
	t.pair("database", p.Database)
	t.pair("place", p.Place)
	t.pair("version", fmt.Sprintf("schema %d, build %d", p.SchemaVersion, p.Generation))
	t.pair("size", fmt.Sprintf("%s: %s keys, %s audit entries", size(p.SizeBytes), grouped(p.Keys), grouped(p.Entries)))
	t.pair("written by", writerWords(p))
	if p.Job != nil {
		t.pair("job", jobSummary(*p.Job, a.now()))
	}
	return t.flush()
}

func lagWords(p client.Projections) string {
	if p.LagEvents == 0 {
		return "none"
	}
	return fmt.Sprintf("%s events, %s", grouped(p.LagEvents), span(secondsOf(p.LagSeconds)))
}

func writerWords(p client.Projections) string {
	switch {
	case p.Leading && p.Leader != "":
		return "this node (" + p.Leader + ")"
	case p.Leading:
		return "this node"
	case p.Leader != "":
		return p.Leader
	default:
		return "nobody at present"
	}
}

// tablesRemedy says what to do about tables that do not follow the log.
func tablesRemedy(p client.Projections) string {
	switch p.State {
	case tablesUnavailable:
		return "see that the database runs and takes connections; the tables catch up by themselves then"
	case tablesStopped:
		return "commands and checks go on; run the release that wrote the event, or see the server's log and docs/operations.md"
	default:
		return "wait: it is tried again by itself"
	}
}

// jobSummary says what runs, or ran last.
func jobSummary(j client.ProjectionsJob, now time.Time) string {
	switch {
	case j.EndedAt == nil:
		return fmt.Sprintf("%s, %s, since %s (%s)", j.Kind, jobWords(j), minute(j.BeganAt), span(max(0, now.Sub(j.BeganAt))))
	case j.Error != nil:
		return fmt.Sprintf("%s of %s failed after %s: %s (%s)", j.Kind, minute(j.BeganAt), span(j.EndedAt.Sub(j.BeganAt)), j.Error.Message, j.Error.Code)
	case j.Kind == "check":
		return fmt.Sprintf("%s of %s, done in %s, %s differences", j.Kind, minute(j.BeganAt), span(j.EndedAt.Sub(j.BeganAt)), grouped(j.Differences))
	default:
		return fmt.Sprintf("%s of %s, done in %s", j.Kind, minute(j.BeganAt), span(j.EndedAt.Sub(j.BeganAt)))
	}
}

// jobWords says how far a job is.
func jobWords(j client.ProjectionsJob) string {
	seq := fmt.Sprintf("seq %s of %s", grouped(j.Seq), grouped(j.TargetSeq))
	if part := percent(j.Seq, j.TargetSeq); part != "" {
		seq += ", " + part
	}
	switch j.Phase {
	case "reading":
		return "reading the log: " + seq
	case "indexing":
		return "making indexes"
	case "catching_up":
		return "catching up: " + seq
	case "comparing":
		return fmt.Sprintf("comparing: %s, %s rows, %s differences", j.Table, grouped(j.Rows), grouped(j.Differences))
	default:
		return j.Phase
	}
}

// tellJob returns what shows the progress of a job.
func (p *progress) tellJob(j client.ProjectionsJob) {
	if j.EndedAt == nil && p.due(j.Phase) {
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
	if !a.json {
		a.errorf("Building the tables anew beside the live ones; reads go on.\n")
	}
	result, err := cl.RebuildProjections(a.ctx, progress.tellJob)
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
			a.errorf("%s differences in %s rows at seq %d, in %s.\n", grouped(r.Differences), grouped(r.Rows), r.Seq, took)
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
