package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyledger/keyledger/client"
)

func (a *app) printProjections(p client.Projections) error {
	t := newTable(a.stdout)
	t.pair("state", p.State)
	if e := p.Error; e != nil {
		t.pair("trouble", troubleWords(p.State, *e))
		if e.Seq != 0 {
			t.pair("at event", fmt.Sprintf("seq %d, id %s", e.Seq, e.EventID))
		}
		t.pair("to do", tablesRemedy(p))
	}
	t.pair("database", p.Database)
	t.pair("place", p.Place)
	if p.State == tablesUnavailable {
		a.printLastKnown(t, p)
		return t.flush()
	}
	t.pair("position", fmt.Sprintf("seq %d of %d", p.Seq, p.HeadSeq))
	t.pair("lag", lagWords(p))
	t.pair("rate", grouped(int64(p.EventsPerSecond))+" events/s")
	t.pair("version", fmt.Sprintf("schema %d, build %d", p.SchemaVersion, p.Generation))
	t.pair("size", fmt.Sprintf("%s: %s keys, %s audit entries", size(p.SizeBytes), grouped(p.Keys), grouped(p.Entries)))
	t.pair("written by", writerWords(p))
	if p.Job != nil {
		t.pair("job", jobSummary(*p.Job, a.now()))
	}
	return t.flush()
}

// printLastKnown says what the server remembers of tables that it cannot ask: how
// large they are, how far behind, and who writes to them is not known now.
func (a *app) printLastKnown(t table, p client.Projections) {
	if p.Seq != 0 {
		t.pair("last known", fmt.Sprintf("seq %d; the log is at %d", p.Seq, p.HeadSeq))
	}
	if p.Job != nil {
		t.pair("job", jobSummary(*p.Job, a.now()))
	}
}

// troubleWords is one sentence of an error, with its code: what was being done and
// what is wrong. What lies behind that is for --output json.
func troubleWords(state string, e client.ProjectionsError) string {
	line, _, _ := strings.Cut(e.Message, "\n")
	if links := strings.Split(line, ": "); state != tablesStopped && len(links) > 2 {
		line = strings.Join(links[:2], ": ")
	}
	return line + " (" + e.Code + ")"
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
		return fmt.Sprintf("%s of %s failed after %s: %s", j.Kind, minute(j.BeganAt), span(j.EndedAt.Sub(j.BeganAt)), troubleWords("", *j.Error))
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
		if j.Table == "" {
			return "comparing"
		}
		return fmt.Sprintf("comparing: %s, %s rows, %s differences", j.Table, grouped(j.Rows), grouped(j.Differences))
	default:
		return j.Phase
	}
}
