package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyledger/keyledger/client"
)

type verifyCommand struct {
	KeyFile     string   `placeholder:"FILE" help:"File that holds the key; - for standard input. Default: standard input, or a question on a terminal."`
	Scopes      []string `placeholder:"SCOPE" help:"Scopes that the key must hold, separated by commas."`
	Environment string   `placeholder:"live|test" help:"Environment that the key must belong to."`
	Account     string   `placeholder:"ID" help:"Account that owns what is asked for; the key must belong to it."`
	IP          string   `name:"ip" placeholder:"ADDRESS" help:"Address that the key is used from."`
	At          string   `placeholder:"TIME" help:"Ask whether the key would have passed at this time of the past; the management key needs keyledger.audit:read too."`
	KeyID       string   `name:"key-id" placeholder:"ID" help:"With --at, in the place of the key: its id."`
	connection
}

func (verifyCommand) Help() string {
	return `The exit code is 0 if the key may pass and 1 if it may not. The key is never an argument: other processes can see those, and shells remember them.

With --at, the key is taken as it was at that time, and the scopes by today's catalogue: of how the catalogue was nothing is kept.

Examples:

    keyledger verify --scopes invoices:read < key.txt
    printf %s "$KEY" | keyledger verify --environment live --output json
    keyledger verify --at "2030-01-02 03:12" --key-id key_4fJq0Zr8kLw2TnXb --scopes invoices:read --ip 203.0.113.7` + timeForms
}

func (c verifyCommand) Run(a *app) error {
	a.machine(c.outputFlag)
	req, err := c.request(a)
	if err != nil {
		return err
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	if c.KeyID == "" {
		if req.Key, err = a.readSecret(c.KeyFile, "Key (not shown): "); err != nil {
			return err
		}
	}
	result, err := cl.Verify(a.ctx, req)
	if err != nil {
		return err
	}
	if err := a.printVerdict(c.outputFlag, req.At, result); err != nil {
		return err
	}
	if !result.Valid {
		return errNo
	}
	return nil
}

// request is what to ask, but for the key.
func (c verifyCommand) request(a *app) (client.VerifyRequest, error) {
	req := client.VerifyRequest{
		Scopes: c.Scopes, Environment: c.Environment, Account: c.Account, IP: c.IP, KeyID: c.KeyID,
	}
	switch {
	case c.KeyID != "" && c.KeyFile != "":
		return req, usagef("give one of them", "--key-id and --key-file name the same")
	case c.KeyID != "" && c.At == "":
		return req, usagef("for a time of the past add --at TIME, for example --at 1m; for how the key is now: keyledger keys show "+c.KeyID+"; to check a key as a service would, leave --key-id out and give the key on standard input",
			"an id alone passes nowhere: --key-id asks about the past, and no --at says when")
	case c.At == "":
		return req, nil
	}
	at, err := parseTime("--at", c.At, a.now(), ago)
	req.At = &at
	return req, err
}

func (a *app) printVerdict(o outputFlag, at *time.Time, r client.VerifyResult) error {
	if a.machine(o) {
		return a.printJSON(r)
	}
	a.printf("%s\n", clean(r.Code))
	t := newTable(a.stdout)
	t.pair("cause", r.Cause)
	t.pair("solution", r.Solution)
	t.pair("key", r.KeyID)
	t.pair("account", r.Account)
	t.pair("environment", r.Environment)
	t.pair("scopes", strings.Join(r.Scopes, ", "))
	if r.Valid {
		t.pair("expires", instant(r.ExpiresAt, "never"))
	}
	t.pair("at", instant(at, ""))
	if at != nil {
		t.pair("scopes by", "today's catalogue")
	}
	t.pair("as of seq", fmt.Sprint(r.AsOfSeq))
	return t.flush()
}
