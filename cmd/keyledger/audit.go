package main

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/keyledger/keyledger/client"
)

type auditCommand struct {
	List   auditList   `cmd:"" help:"Show entries of the audit log, newest first."`
	Export auditExport `cmd:"" help:"Write the audit log to a file, oldest first."`
}

// auditFilter holds the flags that select entries.
type auditFilter struct {
	Account   string `placeholder:"ID" help:"Of this account only; only instance keys may name one."`
	Actor     string `placeholder:"ID" help:"Only what this management key did; _system for what keyledger did itself."`
	Action    string `placeholder:"ACTION" help:"Only this: created, imported, updated, rotated, revoked, expiring, expired or leaked; key.revoked is the same as revoked."`
	Key       string `placeholder:"ID" help:"Of this key only."`
	Command   string `placeholder:"NAME" help:"Only what this command did, for example revoke_key."`
	CommandID string `name:"command-id" placeholder:"ID" help:"Only what the command of this id did."`
	RequestID string `name:"request-id" placeholder:"ID" help:"Only what the request of this id did."`
	FromTime  string `placeholder:"TIME" help:"From this time on, for example 24h."`
	ToTime    string `placeholder:"TIME" help:"Up to this time, and not at it."`
	FromSeq   uint64 `placeholder:"SEQ" help:"From this seq on."`
	ToSeq     uint64 `placeholder:"SEQ" help:"Up to this seq."`
}

func (f auditFilter) query(now time.Time) (client.AuditQuery, error) {
	q := client.AuditQuery{
		Account: f.Account, Actor: f.Actor, KeyID: f.Key, Command: f.Command,
		CommandID: f.CommandID, RequestID: f.RequestID, FromSeq: f.FromSeq, ToSeq: f.ToSeq,
	}
	var err error
	if q.Action, err = actionOf(f.Action); err != nil {
		return q, err
	}
	if q.FromTime, err = parseTime("--from-time", f.FromTime, now, ago); err != nil {
		return q, err
	}
	if q.ToTime, err = parseTime("--to-time", f.ToTime, now, ago); err != nil {
		return q, err
	}
	if !q.ToTime.IsZero() && q.ToTime.Before(q.FromTime) || q.ToSeq != 0 && q.ToSeq < q.FromSeq {
		return q, usagef("turn them round", "the end is before the beginning")
	}
	return q, nil
}

// actionOf returns the action of a flag, which may leave out that it is a key's. One
// with a dot is the server's to judge: it may be of a newer release.
func actionOf(text string) (string, error) {
	if text == "" || strings.Contains(text, ".") {
		return text, nil
	}
	actions := []string{"created", "imported", "updated", "rotated", "revoked", "expiring", "expired", "leaked"}
	if !slices.Contains(actions, text) {
		return "", usagef("use one of "+strings.Join(actions, ", "), "--action %q is not an action", text)
	}
	return "key." + text, nil
}

type auditList struct {
	auditFilter
	Limit       int  `default:"100" placeholder:"N" help:"At most so many; 0: all. Default: ${default}."`
	OldestFirst bool `help:"Begin with the oldest."`
	Wide        bool `help:"Show the command, its id, and the request's id too."`
	connection
}

func (auditList) Help() string {
	return `Examples:

    keyledger audit list
    keyledger audit list --from-time 24h --action revoked
    keyledger audit list --account acme --actor key_9bQwXr3LmZ0vTc7K --limit 0 --output json
    keyledger audit list --from-time "2030-01-02 03:00" --to-time "2030-01-02 04:00" --oldest-first

The history of one key reads better with keyledger keys history; all of it is written with keyledger audit export. Times go by the log's clock, which never goes back.` + timeForms
}

func (c auditList) Run(a *app) error {
	a.machine(c.outputFlag)
	query, err := c.query(a.now())
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return usagef("give how many to show at most, or 0 for all", "--limit cannot be negative")
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	query.OldestFirst, query.PageSize = c.OldestFirst, 1000
	if c.Limit > 0 {
		query.PageSize = min(c.Limit, query.PageSize)
	}
	out := a.auditPrinter(auditListColumns(c.Wide))
	shown, more, err := a.printAudit(cl, query, c.Limit, out)
	if err != nil {
		return err
	}
	if err := out.done(); err != nil || a.json {
		return err
	}
	switch {
	case shown == 0:
		a.errorf("No entries.\n")
	case more:
		a.errorf(moreWords)
	}
	return nil
}

// moreWords follow a list that ended at its limit.
const moreWords = "There may be more; --limit 0 shows all.\n"

// auditPages yields the pages of a query. An error ends the sequence.
func auditPages(ctx context.Context, cl *client.Client, q client.AuditQuery) iter.Seq2[client.AuditPage, error] {
	return func(yield func(client.AuditPage, error) bool) {
		for {
			page, err := cl.ListAudit(ctx, q)
			if !yield(page, err) || err != nil || page.NextPageToken == "" {
				return
			}
			q.PageToken = page.NextPageToken
		}
	}
}

// printAudit prints entries until there are no more, or limit of them if that is
// not 0; more says that it ended at the limit and not at the log's end.
func (a *app) printAudit(cl *client.Client, q client.AuditQuery, limit int, out auditPrinter) (shown int, more bool, err error) {
	p := a.newProgress(false)
	defer p.clear()
	for page, err := range auditPages(a.ctx, cl, q) {
		if err != nil {
			return shown, false, err
		}
		for i, entry := range page.Entries {
			if err := out.add(entry); err != nil {
				return shown, false, err
			}
			if shown++; shown == limit {
				return shown, i+1 < len(page.Entries) || page.NextPageToken != "", nil
			}
		}
		// A search that finds little stands somewhere far into the log.
		if page.SearchedToSeq != 0 && p.due("") {
			p.show("%s found, searching at seq %s…", grouped(shown), grouped(page.SearchedToSeq))
		}
	}
	return shown, false, nil
}

// auditPrinter prints entries as they come.
type auditPrinter struct {
	add  func(client.AuditEntry) error
	done func() error
}

// auditColumns says what is shown of an entry to people.
type auditColumns struct {
	headings []string
	cells    func(client.AuditEntry) []string
}

func (a *app) auditPrinter(columns auditColumns) auditPrinter {
	if a.json {
		list := newJSONList(a.stdout, "entries")
		return auditPrinter{
			add:  func(e client.AuditEntry) error { return list.add(e) },
			done: func() error { return list.done() },
		}
	}
	rows := newRows(a.stdout, columns.headings...)
	return auditPrinter{
		add:  func(e client.AuditEntry) error { return rows.add(columns.cells(e)...) },
		done: rows.done,
	}
}

func auditListColumns(wide bool) auditColumns {
	c := auditColumns{
		headings: []string{"SEQ", "TIME (UTC)", "ACCOUNT", "BY", "ACTION", "KEY", "WHAT"},
		cells: func(e client.AuditEntry) []string {
			return []string{number(e.Seq), second(e.Time), e.Account, e.Actor, e.Action, e.Subject, orDash(auditDetails(e))}
		},
	}
	return c.widened(wide, false)
}

// historyColumns are those of one key's history.
func historyColumns(wide bool) auditColumns {
	c := auditColumns{
		headings: []string{"SEQ", "TIME (UTC)", "BY", "WHAT"},
		cells: func(e client.AuditEntry) []string {
			return []string{number(e.Seq), second(e.Time), e.Actor, auditWhat(e)}
		},
	}
	return c.widened(wide, true)
}

// widened puts columns about the command before the last one.
func (c auditColumns) widened(wide, account bool) auditColumns {
	if !wide {
		return c
	}
	insert := func(cells []string, more ...string) []string {
		last := len(cells) - 1
		return append(append(cells[:last:last], more...), cells[last])
	}
	narrow := c.cells
	if account {
		c.headings = insert(c.headings, "ACCOUNT", "COMMAND", "COMMAND ID", "REQUEST ID")
	} else {
		c.headings = insert(c.headings, "COMMAND", "COMMAND ID", "REQUEST ID")
	}
	c.cells = func(e client.AuditEntry) []string {
		more := []string{orDash(e.Command), orDash(e.CommandID), orDash(e.RequestID)}
		if account {
			more = append([]string{e.Account}, more...)
		}
		return insert(narrow(e), more...)
	}
	return c
}

type keysHistory struct {
	ID   string `arg:"" help:"The key's id, key_…"`
	Wide bool   `help:"Show the account, the command, its id, and the request's id too."`
	connection
}

func (keysHistory) Help() string {
	return `One line for each event, oldest first: who did what, and what changed. Events without effect (an account's claim of an id that another holds, for example) begin with VOID; what people wrote, names and reasons, stands in quotation marks. The management key needs keyledger.audit:read.

Examples:

    keyledger keys history key_4fJq0Zr8kLw2TnXb
    keyledger keys history key_4fJq0Zr8kLw2TnXb --wide
    keyledger keys history key_4fJq0Zr8kLw2TnXb --output json`
}

func (c keysHistory) Run(a *app) error {
	a.machine(c.outputFlag)
	if strings.TrimSpace(c.ID) == "" {
		return usagef("give the key's id, key_…", "the id is empty")
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	out := a.auditPrinter(historyColumns(c.Wide))
	shown, _, err := a.printAudit(cl, client.AuditQuery{KeyID: c.ID, OldestFirst: true, PageSize: 1000}, 0, out)
	if err != nil {
		return err
	}
	if shown == 0 {
		return failf("check the id (keyledger keys list), and which accounts the management key may see", "there is no key %s", c.ID)
	}
	return out.done()
}
