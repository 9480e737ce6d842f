package main

import (
	"fmt"
	"strings"

	"github.com/keyledger/keyledger/client"
)

type verifyCommand struct {
	KeyFile     string   `placeholder:"FILE" help:"File that holds the key; - for standard input. Default: standard input, or a question on a terminal."`
	Scopes      []string `placeholder:"SCOPE" help:"Scopes that the key must hold, separated by commas."`
	Environment string   `placeholder:"live|test" help:"Environment that the key must belong to."`
	Account     string   `placeholder:"ID" help:"Account that owns what is asked for; the key must belong to it."`
	IP          string   `name:"ip" placeholder:"ADDRESS" help:"Address that the key is used from."`
	connection
}

func (verifyCommand) Help() string {
	return `The exit code is 0 if the key may pass and 1 if it may not. The key is never an argument: other processes can see those, and shells remember them.

Examples:

    keyledger verify --scopes invoices:read < key.txt
    printf %s "$KEY" | keyledger verify --environment live --output json`
}

func (c verifyCommand) Run(a *app) error {
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	key, err := a.readSecret(c.KeyFile, "Key (not shown): ")
	if err != nil {
		return err
	}
	result, err := cl.Verify(a.ctx, client.VerifyRequest{
		Key: key, Scopes: c.Scopes, Environment: c.Environment, Account: c.Account, IP: c.IP,
	})
	if err != nil {
		return err
	}
	if err := a.printVerdict(c.outputFlag, result); err != nil {
		return err
	}
	if !result.Valid {
		return errNo
	}
	return nil
}

func (a *app) printVerdict(o outputFlag, r client.VerifyResult) error {
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
	t.pair("as of seq", fmt.Sprint(r.AsOfSeq))
	return t.flush()
}
