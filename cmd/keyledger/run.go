package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/keyledger/keyledger/domain"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // what was asked for did not happen, or the answer is no
	exitUsage  = 2 // it was not asked for properly
)

// commandLine is what kong reads.
type commandLine struct {
	Serve       serveCommand       `cmd:"" help:"Run the server."`
	Keys        keysCommand        `cmd:"" help:"Create, list, change and end keys."`
	Verify      verifyCommand      `cmd:"" help:"Ask whether a key may pass, or would have."`
	Audit       auditCommand       `cmd:"" help:"Read the audit log: who did what, when, and what changed."`
	Commands    commandsCommand    `cmd:"" help:"Say what became of commands that services sent, and look after those that are dead."`
	Events      eventsCommand      `cmd:"" help:"Read the history."`
	Projections projectionsCommand `cmd:"" help:"Look after the tables that lists and the audit log are read from."`
	Doctor      doctorCommand      `cmd:"" help:"Say what is wrong with a data dir, a server or a stream."`
	Keyring     keyringCommand     `cmd:"" help:"Make the keyring of nodes that share a log."`
	NATS        natsCommand        `cmd:"" name:"nats" help:"Make the configuration of NATS servers of your own."`
	Version     versionCommand     `cmd:"" help:"Print the version."`
}

const description = "keyledger is a self-hosted system of record for API keys: every change to a key is an event in one ordered log."

// run is the program without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string) int {
	a := &app{
		ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, env: env,
		now: time.Now, // the one clock of the program, handed down from here
	}
	if err := refuseSecrets(args); err != nil {
		return a.report(err)
	}
	var cli commandLine
	helped := false
	parser, err := kong.New(&cli,
		kong.Name("keyledger"), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.Resolvers(fromEnv(env)), kong.ValueFormatter(withEnvName),
	)
	if err != nil {
		return a.report(fmt.Errorf("build the command line: %w", err))
	}
	if len(args) == 0 {
		parser.Stdout = stderr
		_, _ = parser.Parse([]string{"--help"})
		return exitUsage
	}
	parsed, err := parser.Parse(args)
	switch {
	case helped:
		return exitOK
	case err != nil:
		return a.report(parseFailure(err))
	}
	return a.report(parsed.Run(a))
}

// parseFailure turns kong's complaint into ours.
func parseFailure(err error) error {
	help := "keyledger --help"
	if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context.Selected() != nil {
		help = "keyledger " + strings.TrimPrefix(parse.Context.Selected().FullPath(), "keyledger ") + " --help"
	}
	return usagef("run "+help, "%s", err)
}

// refuseSecrets stops a key that was given as an argument before anything can
// repeat it.
func refuseSecrets(args []string) error {
	if slices.ContainsFunc(args, domain.ContainsToken) {
		return usagef("give it on standard input, in a file or in the environment; and since other processes and the shell's history may hold it now, rotate it (of a management key: make another, and with that one revoke it)",
			"a key was given as an argument")
	}
	return nil
}

// fromEnv fills flags that were not given from the environment variable that
// their fromenv tag names.
func fromEnv(env func(string) string) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if name := flag.Tag.Get("fromenv"); name != "" && env(name) != "" {
			return env(name), nil
		}
		return nil, nil
	})
}

// withEnvName adds the variable's name to a flag's help.
func withEnvName(v *kong.Value) string {
	if name := v.Tag.Get("fromenv"); name != "" {
		return v.Help + " [$" + name + "]"
	}
	return v.Help
}
