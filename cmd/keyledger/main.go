// Command keyledger is the one binary: the server (serve) and the command line
// for people and scripts.
//
// It is the top floor: it reads flags, wires what the floors below offer, and
// prints. It decides nothing: every rule about keys lives in domain, and every
// command of the command line but serve and doctor goes through the client
// package to a server, like any other program's would. Nothing imports it.
//
// Secrets never come in as arguments, which other processes can see and shells
// remember: they come from standard input, files or the environment.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first signal asks for an orderly end; a second one finds the signals'
	// own effect restored and ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	os.Exit(code)
}
