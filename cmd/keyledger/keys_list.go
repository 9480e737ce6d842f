package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/keyledger/keyledger/client"
)

// pastFlags ask for how things were.
type pastFlags struct {
	At  string  `xor:"past" placeholder:"TIME" help:"As it was at this time."`
	Seq *uint64 `xor:"past" placeholder:"SEQ" help:"As it was just after this event of the log."`
}

// moment returns the time or the seq that was asked for, zero if none was.
func (p pastFlags) moment(now time.Time) (at time.Time, seq uint64, err error) {
	if p.Seq != nil {
		if *p.Seq == 0 {
			return at, 0, usagef("give the seq of an event, as tables and answers show it", "--seq 0 is not an event: the first is 1")
		}
		return at, *p.Seq, nil
	}
	at, err = parseTime("--at", p.At, now, ago)
	return at, 0, err
}

type keysList struct {
	Account       string `placeholder:"ID" help:"Of this account only; only instance keys may name one."`
	Environment   string `placeholder:"live|test" help:"Of this environment only."`
	Status        string `placeholder:"STATUS" help:"active, revoked or expired only."`
	Scope         string `placeholder:"SCOPE" help:"Only keys that hold it: by name, by resource:* or by full access."`
	Search        string `placeholder:"TEXT" help:"Only keys with this in name, description or metadata."`
	CreatedBy     string `placeholder:"ID" help:"Only keys that this management key made."`
	CreatedAfter  string `placeholder:"TIME" help:"Only keys made at this time or later."`
	CreatedBefore string `placeholder:"TIME" help:"Only keys made before."`

	ExpiringAfter  string `placeholder:"TIME" help:"Only keys that expire at this time or later, for example now."`
	ExpiringBefore string `placeholder:"TIME" help:"Only keys that expire before, for example now+7d."`
	UsedAfter      string `placeholder:"TIME" help:"Only keys whose last use was at this time or later."`
	UsedBefore     string `placeholder:"TIME" help:"Only keys whose last use was before."`
	UnusedSince    string `placeholder:"TIME" help:"Only keys made before and not used since, for example 90d."`

	Sort    sortOrder `placeholder:"ORDER" help:"created_at, name, expires_at or last_used_at; turned round with - before it: --sort -name. Default: -created_at, the newest first."`
	Reverse bool      `help:"Turn the order round."`
	Limit   int       `placeholder:"N" help:"At most so many. Default: all."`
	Count   bool      `help:"Print how many there are, and not which."`
	pastFlags
	Management bool `help:"List the management keys."`
	connection
}

func (keysList) Help() string {
	return `Examples:

    keyledger keys list
    keyledger keys list --status active --environment live --scope payouts:write
    keyledger keys list --search POS --output json
    keyledger keys list --sort name --reverse
    keyledger keys list --status active --unused-since 90d --sort last_used_at
    keyledger keys list --status active --expiring-before now+7d --sort expires_at
    keyledger keys list --at "2030-01-02 03:12" --status active --count

Of the past nothing is known of use, and it is listed in the order of creation.` + timeForms
}

// sortOrder is an order of keys. It may begin with a dash and yet be an argument of
// its own, which kong takes for a flag otherwise.
type sortOrder string

// Decode reads the flag's value.
func (o *sortOrder) Decode(ctx *kong.DecodeContext) error {
	text, _ := ctx.Scan.Pop().Value.(string) // what is no text is the end of the line
	if text == "" || strings.HasPrefix(text, "--") {
		return errors.New("an order is missing: --sort name, or --sort -name for the other way round")
	}
	*o = sortOrder(text)
	return nil
}

// order is the order that was asked for, "" for the server's own.
func (c keysList) order() string {
	order := string(c.Sort)
	if !c.Reverse {
		return order
	}
	if turned, ok := strings.CutPrefix(cmp.Or(order, "-created_at"), "-"); ok {
		return turned
	}
	return "-" + order
}

func (c keysList) query(now time.Time) (client.KeyQuery, error) {
	q := client.KeyQuery{
		Account: c.Account, Environment: c.Environment, Status: c.Status, Scope: c.Scope, Text: c.Search,
		CreatedBy: c.CreatedBy, Sort: c.order(),
	}
	var errs []error
	for _, f := range []struct {
		into       *time.Time
		flag, text string
		sense      timeSense
	}{
		{&q.CreatedAfter, "--created-after", c.CreatedAfter, ago}, {&q.CreatedBefore, "--created-before", c.CreatedBefore, ago},
		{&q.ExpiringAfter, "--expiring-after", c.ExpiringAfter, eitherWay}, {&q.ExpiringBefore, "--expiring-before", c.ExpiringBefore, eitherWay},
		{&q.UsedAfter, "--used-after", c.UsedAfter, ago}, {&q.UsedBefore, "--used-before", c.UsedBefore, ago},
		{&q.UnusedSince, "--unused-since", c.UnusedSince, ago},
	} {
		var err error
		*f.into, err = parseTime(f.flag, f.text, now, f.sense)
		errs = append(errs, err)
	}
	var err error
	q.At, q.Seq, err = c.moment(now)
	return q, cmp.Or(append(errs, err)...)
}

func (c keysList) Run(a *app) error {
	a.machine(c.outputFlag)
	query, err := c.query(a.now())
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return usagef("give how many to list at most", "--limit cannot be negative")
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	list := cl.ListKeys
	if c.Management {
		list = cl.ListManagementKeys
	}
	if c.Count {
		return a.countKeys(list, query)
	}
	query.PageSize = 1000
	if c.Limit > 0 {
		query.PageSize = min(c.Limit, query.PageSize)
	}
	return a.printKeys(keyPages(a.ctx, list, query), c.Limit)
}

// listKeys is a list of the client: of keys, or of management keys.
type listKeys func(context.Context, client.KeyQuery, ...client.CallOption) (client.KeyPage, error)

func (a *app) countKeys(list listKeys, q client.KeyQuery) error {
	q.Count, q.PageSize = true, 1
	page, err := list(a.ctx, q)
	if err != nil {
		return err
	}
	if page.Count == nil {
		return failf("see keyledger version, and GET /healthz of the server", "the server does not count: it is of an older release")
	}
	if a.json {
		return a.printJSON(struct {
			Count   client.KeyCount `json:"count"`
			AsOfSeq *uint64         `json:"as_of_seq,omitempty"`
		}{*page.Count, page.AsOfSeq})
	}
	a.pastNote(page.AsOfSeq)
	if page.Count.AtLeast {
		a.errorf("At least; counting ended there.\n")
	}
	_, err = fmt.Fprintln(a.stdout, page.Count.Keys)
	return outputError(err)
}

// keyPages yields the pages of a list. An error ends the sequence.
func keyPages(ctx context.Context, list listKeys, q client.KeyQuery) iter.Seq2[client.KeyPage, error] {
	return func(yield func(client.KeyPage, error) bool) {
		for {
			page, err := list(ctx, q)
			if !yield(page, err) || err != nil || page.NextPageToken == "" {
				return
			}
			q.PageToken = page.NextPageToken
		}
	}
}

// pastNote says which past a list is of.
func (a *app) pastNote(asOf *uint64) {
	if asOf != nil && !a.json {
		a.errorf("As of seq %d.\n", *asOf)
	}
}

// keyPrinter prints keys as they come, in one of two ways.
type keyPrinter struct {
	add  func(client.Key) error
	done func(asOf *uint64) error
}

func (a *app) keyPrinter() keyPrinter {
	if a.json {
		list := newJSONList(a.stdout, "keys")
		return keyPrinter{
			add: func(k client.Key) error { return list.add(k) },
			done: func(asOf *uint64) error {
				if asOf == nil {
					return list.done()
				}
				return list.done(member{"as_of_seq", *asOf})
			},
		}
	}
	// The columns of the product's page.
	rows := newRows(a.stdout, "NAME", "ENVIRONMENT", "CREATED (UTC)", "LAST USED (UTC)", "SCOPES", "STATUS", "ID")
	return keyPrinter{
		add: func(k client.Key) error {
			lastUsed, environment := "-", "-"
			if k.LastUsedAt != nil {
				lastUsed = minute(*k.LastUsedAt)
			}
			if k.Environment != "" {
				environment = k.Environment
			}
			return rows.add(k.Name, environment, minute(k.CreatedAt), lastUsed, shortScopes(k), k.Status+remark(k), k.ID)
		},
		done: func(asOf *uint64) error {
			if rows.count == 0 {
				a.errorf("No keys.\n")
			}
			a.pastNote(asOf)
			return rows.done()
		},
	}
}

// printKeys lists keys, at most limit of them if that is not 0.
func (a *app) printKeys(pages iter.Seq2[client.KeyPage, error], limit int) error {
	out, count := a.keyPrinter(), 0
	var asOf *uint64
	p := a.newProgress(false)
	defer p.clear()
	for page, err := range pages {
		if err != nil {
			return err
		}
		asOf = page.AsOfSeq
		for i, key := range page.Keys {
			if err := out.add(key); err != nil {
				return err
			}
			if count++; count == limit {
				err := out.done(asOf)
				if err == nil && !a.json && (i+1 < len(page.Keys) || page.NextPageToken != "") {
					a.errorf(moreWords)
				}
				return err
			}
		}
		if _, direct := terminal(a.stdout); p.due("") && !direct {
			p.show("%s keys…", grouped(count))
		}
	}
	p.clear()
	return out.done(asOf)
}

type keysShow struct {
	ID         string `arg:"" help:"The key's id, key_…"`
	Management bool   `help:"It is a management key."`
	pastFlags
	connection
}

func (keysShow) Help() string {
	return `Examples:

    keyledger keys show key_4fJq0Zr8kLw2TnXb
    keyledger keys show key_4fJq0Zr8kLw2TnXb --output json
    keyledger keys show key_4fJq0Zr8kLw2TnXb --at 2030-01-02T03:12:00Z` + timeForms
}

func (c keysShow) Run(a *app) error {
	a.machine(c.outputFlag)
	at, seq, err := c.moment(a.now())
	if err != nil {
		return err
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	var opts []client.CallOption
	if !at.IsZero() {
		opts = append(opts, client.WithAt(at))
	}
	if seq != 0 {
		opts = append(opts, client.WithSeq(seq))
	}
	key, err := getKey(a, cl, c.Management, c.ID, opts...)
	if e, ok := errors.AsType[*client.Error](err); ok && e.Status == http.StatusNotFound && len(opts) > 0 {
		return c.notThen(at, seq, err)
	}
	if err != nil {
		return err
	}
	return a.printKey(c.outputFlag, key, len(opts) > 0)
}

// notThen says that a key was not there at the moment that was asked for: it may be
// there now, or never have been.
func (c keysShow) notThen(at time.Time, seq uint64, err error) error {
	when := fmt.Sprintf("at seq %d", seq)
	if seq == 0 {
		when = "at " + at.UTC().Format(time.RFC3339Nano)
	}
	return &failure{
		what: fmt.Sprintf("there was no key %s %s (404 key_not_found)", c.ID, when),
		do:   fmt.Sprintf("see when it was created: keyledger keys history %s; if it is not there either, check the id (keyledger keys list)", c.ID),
		err:  err,
	}
}

func getKey(a *app, cl *client.Client, management bool, id string, opts ...client.CallOption) (client.Key, error) {
	if management {
		return cl.ManagementKey(a.ctx, id, opts...)
	}
	return cl.Key(a.ctx, id, opts...)
}
