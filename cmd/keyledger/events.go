package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/keyledger/keyledger/client"
)

type eventsCommand struct {
	Replay eventsReplay `cmd:"" help:"Print the history up to now."`
	Follow eventsFollow `cmd:"" help:"Print the history and go on with what happens, until Ctrl-C."`
}

// eventFilter holds the flags that select events.
type eventFilter struct {
	Account  string   `placeholder:"ID" help:"Of this account only."`
	Key      string   `placeholder:"ID" help:"Of this key only."`
	Type     []string `placeholder:"TYPE" help:"Of these types only, separated by commas, for example keyledger.key.revoked.v1."`
	FromSeq  uint64   `placeholder:"SEQ" help:"From this seq on."`
	FromTime string   `placeholder:"TIME" help:"From this time on, for example 24h."`
}

func (f eventFilter) query(now time.Time) (client.EventQuery, error) {
	from, err := parseTime("--from-time", f.FromTime, now, ago)
	return client.EventQuery{
		Account: f.Account, KeyID: f.Key, Types: f.Type, FromSeq: f.FromSeq, FromTime: from,
	}, err
}

type eventsReplay struct {
	eventFilter
	connection
}

func (eventsReplay) Help() string {
	return `With --output json every event is one line (NDJSON), {"seq":…,"subject":…,"event":…}, where event holds the bytes as they are stored.

Examples:

    keyledger events replay
    keyledger events replay --key key_4fJq0Zr8kLw2TnXb
    keyledger events replay --type keyledger.key.revoked.v1 --from-time 24h --output json > revoked.ndjson` + timeForms
}

func (c eventsReplay) Run(a *app) error {
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	query, err := c.query(a.now())
	if err != nil {
		return err
	}
	out := a.eventPrinter(c.outputFlag)
	for event, err := range cl.Events(a.ctx, query) {
		if err != nil {
			return errors.Join(err, outputError(out.flush()))
		}
		if err := out.print(event); err != nil {
			return err
		}
	}
	return out.done()
}

type eventsFollow struct {
	FromNow bool `help:"Only what happens from now on; the management key needs keyledger.verify too."`
	eventFilter
	connection
}

func (eventsFollow) Help() string {
	return `A broken connection is made anew and goes on behind the last event that was printed.

Examples:

    keyledger events follow
    keyledger events follow --from-now --type keyledger.key.revoked.v1 --output json` + timeForms
}

func (c eventsFollow) Run(a *app) error {
	if c.FromNow && (c.FromSeq != 0 || c.FromTime != "") {
		return usagef("give one of them", "--from-now, --from-seq and --from-time are ways to say the same")
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	query, err := c.query(a.now())
	if err != nil {
		return err
	}
	if c.FromNow {
		if query.FromSeq, err = behindHead(a, cl); err != nil {
			return err
		}
	}
	out := a.eventPrinter(c.outputFlag)
	for event, err := range cl.Follow(a.ctx, query) {
		if err != nil {
			return err
		}
		if err := out.print(event); err != nil {
			return err
		}
		if err := out.flush(); err != nil {
			return fmt.Errorf("print events: %w", err)
		}
	}
	return nil
}

// behindHead returns the first seq that the server does not know yet. A clock
// could not say where that is: neither this machine's, nor that of the node that
// will decide the next event. The answer to a check says how far the log is known,
// and one without a key tells nothing else.
func behindHead(a *app, cl *client.Client) (uint64, error) {
	head, err := cl.Verify(a.ctx, client.VerifyRequest{})
	if e, ok := errors.AsType[*client.Error](err); ok && e.Status == http.StatusForbidden {
		return 0, failf("use one that holds keyledger.verify too, or say --from-time or --from-seq", "the management key may not ask how far the log is: %w", err)
	}
	return head.AsOfSeq + 1, err
}
