package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/keyledger/keyledger/client"
)

const progressEvery = time.Second

// eventPrinter prints events as they come, in columns of fixed width: a history
// may be longer than what one would hold in memory to line it up.
type eventPrinter struct {
	a        *app
	out      *bufio.Writer
	machine  bool
	heading  bool
	progress bool // standard output is a file and somebody watches standard error
	count    int
	reported time.Time
}

func (a *app) eventPrinter(o outputFlag) *eventPrinter {
	_, watched := terminal(a.stderr)
	_, direct := terminal(a.stdout)
	return &eventPrinter{
		a: a, out: bufio.NewWriterSize(a.stdout, 64<<10), machine: a.machine(o),
		progress: watched && !direct, reported: a.now(),
	}
}

const eventRow = "%-8s %-20s %-16s %-10s %-20s %-20s %s\n"

func (p *eventPrinter) print(e client.EventRecord) error {
	p.count++
	p.report(e.Seq)
	if p.machine {
		_, err := p.out.Write(append(e.Line(), '\n'))
		return outputError(err)
	}
	if !p.heading {
		p.heading = true
		if _, err := fmt.Fprintf(p.out, eventRow, "SEQ", "TIME (UTC)", "EVENT", "ACCOUNT", "KEY", "BY", "WHAT"); err != nil {
			return outputError(err)
		}
	}
	var event storedEvent
	if err := json.Unmarshal(e.Event, &event); err != nil {
		return fmt.Errorf("event %d is not the JSON expected of keyledger", e.Seq)
	}
	_, err := fmt.Fprintf(p.out, eventRow, fmt.Sprint(e.Seq), event.Time.UTC().Format(time.DateTime), clean(strings.TrimPrefix(event.Type, "keyledger.")),
		clean(event.Account), clean(event.Subject), clean(event.Actor), clean(event.what()))
	return outputError(err)
}

// report says how far a long replay has come, at most once a second.
func (p *eventPrinter) report(seq uint64) {
	if !p.progress || p.count%1000 != 0 {
		return
	}
	if now := p.a.now(); now.Sub(p.reported) >= progressEvery {
		p.reported = now
		p.a.errorf("\r%d events, at seq %d", p.count, seq)
	}
}

func (p *eventPrinter) flush() error { return p.out.Flush() }

// done ends the output of a replay.
func (p *eventPrinter) done() error {
	if p.progress && p.count >= 1000 {
		p.a.errorf("\r%d events            \n", p.count)
	}
	if p.count == 0 && !p.machine {
		p.a.errorf("No events.\n")
	}
	return outputError(p.flush())
}

// outputError explains why nothing can be printed. A reader that has gone, such
// as head, is no failure worth words.
func outputError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPIPE):
		return errNo
	default:
		return fmt.Errorf("print the answer: %w", err)
	}
}

// storedEvent is as much of an event as a line for people shows.
type storedEvent struct {
	Type    string    `json:"type"`
	Time    time.Time `json:"time"`
	Subject string    `json:"subject"`
	Account string    `json:"account"`
	Actor   string    `json:"actor"`
	Data    struct {
		Name        *string   `json:"name"`
		Environment string    `json:"environment"`
		Scopes      *[]string `json:"scopes"`
		ReplacedBy  string    `json:"replaced_by"`
		RotatedFrom string    `json:"rotated_from"`
		EndsAt      time.Time `json:"ends_at"`
		ExpiresAt   time.Time `json:"expires_at"`
		Reason      string    `json:"reason"`
		Source      string    `json:"source"`

		Expiry      json.RawMessage `json:"expiry"`
		Description json.RawMessage `json:"description"`
		Metadata    json.RawMessage `json:"metadata"`
		AllowedIPs  json.RawMessage `json:"allowed_ips"`
	} `json:"data"`
}

// what says in a few words what the event did.
func (e storedEvent) what() string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+value)
		}
	}
	if e.Data.Name != nil {
		add("", fmt.Sprintf("%q", *e.Data.Name))
	}
	add("", e.Data.Environment)
	if e.Data.Scopes != nil {
		add("", shortScopes(client.Key{Scopes: *e.Data.Scopes, FullAccess: slices.Contains(*e.Data.Scopes, "*")}))
	}
	add("replaced by ", e.Data.ReplacedBy)
	add("in place of ", e.Data.RotatedFrom)
	add("ends ", instant(&e.Data.EndsAt, ""))
	add("expires ", instant(&e.Data.ExpiresAt, ""))
	add("reason ", e.Data.Reason)
	add("seen at ", e.Data.Source)
	if strings.Contains(e.Type, ".updated.") {
		for _, member := range []struct {
			name  string
			value json.RawMessage
		}{
			{"expiry", e.Data.Expiry}, {"description", e.Data.Description},
			{"metadata", e.Data.Metadata}, {"allowed ips", e.Data.AllowedIPs},
		} {
			if member.value != nil {
				add("new ", member.name)
			}
		}
	}
	return strings.Join(slices.Compact(parts), ", ")
}
