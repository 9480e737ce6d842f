package main

import (
	"fmt"
	"time"

	"github.com/keyledger/keyledger/client"
)

type commandsCommand struct {
	Show        commandsShow       `cmd:"" help:"Say what became of a command."`
	DeadLetters deadLettersCommand `cmd:"" name:"dead-letters" help:"Look at commands that can never be carried out, and send them again."`
}

type commandsShow struct {
	ID      string `arg:"" help:"The command's id: of the CloudEvent, or its idempotency key."`
	Account string `placeholder:"ID" help:"The account that it was about; only instance keys may name one. Default: the key's own, or default."`
	connection
}

func (commandsShow) Help() string {
	return `A command that a service published on NATS was carried out (done), refused, or is dead: it can never be carried out as it is. What is known of it is kept for 7 days; what a command changed is found by its id for ever. One that still waits for a node is not found. The exit code is 0 if it was done, and 1 otherwise.

Examples:

    keyledger commands show 0198c0de-5c1e-7000-8000-000000000001
    keyledger commands show ticket-4711 --account acme --output json

Keys of the instance, as the operator's, name the account with --account: without it they ask about the account default.`
}

func (c commandsShow) Run(a *app) error {
	if c.ID == "" {
		return usagef("give the id of the CloudEvent, or the idempotency key", "the id of the command is empty")
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	o, err := cl.CommandOutcome(a.ctx, c.Account, c.ID)
	if err != nil {
		return err
	}
	if a.machine(c.outputFlag) {
		err = a.printJSON(o)
	} else {
		t := newTable(a.stdout)
		t.pair("Command", o.Command)
		t.pair("Id", o.ID)
		t.pair("Outcome", outcomeWords(o))
		t.pair("Why", o.Message)
		t.pair("To do", o.Fix)
		t.pair("Key", o.KeyID)
		if o.Seq > 0 {
			t.pair("Seq", number(o.Seq))
		}
		t.pair("Producer", o.Producer)
		t.pair("Time", instant(o.Time, ""))
		err = t.flush()
	}
	if err == nil && o.Outcome != client.OutcomeDone {
		return errNo
	}
	return outputError(err)
}

func outcomeWords(o client.CommandOutcome) string {
	switch {
	case o.Code != "":
		return o.Outcome + " (" + o.Code + ")"
	case o.Replayed:
		return o.Outcome + " (before; it was sent again)"
	default:
		return o.Outcome
	}
}

type deadLettersCommand struct {
	List   deadLettersList   `cmd:"" help:"List dead letters."`
	Show   deadLettersShow   `cmd:"" help:"Show one dead letter, with what it said."`
	Resend deadLettersResend `cmd:"" help:"Send a dead command again."`
}

type deadLettersList struct {
	Account string `placeholder:"ID" help:"Of this account only; only instance keys may name one."`
	Limit   int    `placeholder:"N" help:"At most so many. Default: all."`
	connection
}

func (deadLettersList) Help() string {
	return `Oldest first. Commands are put aside when they can never be carried out as they are: they are no CloudEvents, of no known type, too large, in somebody else's name. They are kept for 90 days.

Examples:

    keyledger commands dead-letters list
    keyledger commands dead-letters list --account acme --output json`
}

func (c deadLettersList) Run(a *app) error {
	if c.Limit < 0 {
		return usagef("give a number from 1", "--limit cannot be negative")
	}
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	letters := cl.DeadLetters(a.ctx, client.DeadLetterQuery{Account: c.Account})
	if a.machine(c.outputFlag) {
		list := newJSONList(a.stdout, "dead_letters")
		for l, err := range letters {
			if err != nil {
				return err
			}
			if err := list.add(l); err != nil {
				return err
			}
			if list.count == c.Limit {
				break
			}
		}
		return list.done()
	}
	out := newRows(a.stdout, "SEQ", "TIME (UTC)", "ACCOUNT", "PRODUCER", "COMMAND", "ID", "WHY")
	for l, err := range letters {
		if err != nil {
			return err
		}
		if err := out.add(number(l.Seq), minute(l.Time), l.Account, l.Producer, l.Command, orDash(l.ID), l.Code); err != nil {
			return err
		}
		if out.count == c.Limit {
			break
		}
	}
	if out.count == 0 {
		a.errorf("There are no dead letters.\n")
	}
	return out.done()
}

type deadLettersShow struct {
	Seq uint64 `arg:"" help:"The letter's seq, as the list shows it."`
	connection
}

func (deadLettersShow) Help() string {
	return `What looks like a token was taken out before it was kept.

Examples:

    keyledger commands dead-letters show 3
    keyledger commands dead-letters show 3 --output json`
}

func (c deadLettersShow) Run(a *app) error {
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	l, err := cl.DeadLetter(a.ctx, c.Seq)
	if err != nil {
		return err
	}
	if a.machine(c.outputFlag) {
		return outputError(a.printJSON(l))
	}
	t := newTable(a.stdout)
	t.pair("Seq", number(l.Seq))
	t.pair("Time", l.Time.UTC().Format(time.RFC3339))
	t.pair("Why", l.Code)
	t.pair("", l.Message)
	t.pair("To do", l.Fix)
	t.pair("Id", l.ID)
	t.pair("Subject", l.Subject)
	t.pair("Producer", l.Producer)
	if l.Redacted {
		t.pair("Note", "it held what looks like a token, which was taken out; it cannot be sent again")
	}
	if err := t.flush(); err != nil {
		return outputError(err)
	}
	if l.Body == "" {
		a.printf("\n(%d bytes that are not text)\n", l.BodyBytes)
		return nil
	}
	a.printf("\n%s\n", clean(l.Body))
	return nil
}

type deadLettersResend struct {
	Seq uint64 `arg:"" help:"The letter's seq, as the list shows it."`
	Yes bool   `short:"y" help:"Do not ask."`
	connection
}

func (deadLettersResend) Help() string {
	return `Publishes the command again as its producer sent it, once what was wrong has been put right here (a scope, the account, a fault of the server). It keeps its id, so it is carried out once at most. What was wrong with the command itself, its producer has to put right, and send as a new command.

Examples:

    keyledger commands dead-letters resend 3
    keyledger commands dead-letters resend 3 --yes --output json`
}

func (c deadLettersResend) Run(a *app) error {
	cl, err := c.client(a)
	if err != nil {
		return err
	}
	err = a.confirm(c.Yes, func() (string, error) {
		l, err := cl.DeadLetter(a.ctx, c.Seq)
		return clean(fmt.Sprintf("Send %s of %s again, in the name of %s? It was put aside as %s.", l.Command, minute(l.Time), l.Producer, l.Code)), err
	})
	if err != nil {
		return err
	}
	sent, err := cl.ResendDeadLetter(a.ctx, c.Seq)
	if err != nil {
		return err
	}
	if a.machine(c.outputFlag) {
		return outputError(a.printJSON(sent))
	}
	a.printf("Sent again on %s.\n", clean(sent.Subject))
	if sent.ID != "" {
		a.errorf("keyledger commands show %s --account %s says what became of it.\n", clean(sent.ID), clean(sent.Account))
	}
	return nil
}
