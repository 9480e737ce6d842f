package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/keyledger/keyledger/client"
)

// maxQuietLag is how long the tables may be behind the log without a word:
// projecting lingers for a tenth of a second, and a takeover takes seconds.
const maxQuietLag = 10

// servedTables asks the server how its tables are: the troubles that projections
// status shows.
func (x *examination) servedTables(ctx context.Context, cl *client.Client) {
	const check = "tables"
	p, err := cl.Projections(ctx)
	if e, ok := errors.AsType[*client.Error](err); ok && e.Status == http.StatusForbidden {
		x.warn(check, "use a management key with keyledger.operate", "it was not asked how they are: %s", explain(err).what)
		return
	}
	if err != nil {
		f := explain(err)
		x.fail(check, f.do, "%s", f.what)
		return
	}
	trouble := ""
	if p.Error != nil {
		trouble = ": " + troubleWords(p.State, *p.Error)
	}
	switch {
	case p.State == tablesStopped && p.Error != nil && p.Error.Seq != 0:
		x.fail(check, tablesRemedy(p), "stopped before the event at seq %d%s", p.Error.Seq, trouble)
	case p.State == tablesStopped:
		x.fail(check, tablesRemedy(p), "stopped at seq %d of %d%s", p.Seq, p.HeadSeq, trouble)
	case p.State == tablesUnavailable:
		x.fail(check, tablesRemedy(p), "the %s database does not answer (%s)%s", p.Database, p.Place, trouble)
	case p.State == "building":
		words := "the first ones are being made"
		if p.Job != nil {
			words += ": " + jobWords(*p.Job)
		}
		x.warn(check, "wait; keyledger projections status shows how far it is", "%s", words)
	case p.LagSeconds > maxQuietLag || p.Error != nil:
		x.warn(check, "see keyledger projections status; they catch up by themselves once they can", "at seq %d of %d, behind by %s%s", p.Seq, p.HeadSeq, lagWords(p), trouble)
	default:
		x.ok(check, "at seq %d of %d, %s", p.Seq, p.HeadSeq, p.Database)
	}
}
