package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyledger/keyledger/client"
)

// outputFlag chooses between people and programs.
type outputFlag struct {
	Output string `short:"o" default:"table" placeholder:"table|json" enum:"table,json" fromenv:"KEYLEDGER_OUTPUT" help:"table for people (the default), json for programs."`
}

// machine reports whether the output is for programs; errors follow it.
func (a *app) machine(o outputFlag) bool {
	a.json = o.Output == "json"
	return a.json
}

// connection says which server a command talks to, and as whom.
type connection struct {
	Server         string `group:"The server to talk to" placeholder:"URL" fromenv:"KEYLEDGER_SERVER" help:"Its address. Default: that of the server which runs on the data dir."`
	DataDir        string `group:"The server to talk to" default:"./keyledger-data" placeholder:"DIR" fromenv:"KEYLEDGER_DATA_DIR" help:"Data dir of a local server, where its address and operator token are found. Default: ${default}."`
	TokenFile      string `group:"The server to talk to" placeholder:"FILE" help:"File with the management key to use. Without it: the key itself in $$KEYLEDGER_TOKEN, or a file named by [$$KEYLEDGER_TOKEN_FILE]."`
	AllowPlaintext bool   `group:"The server to talk to" fromenv:"KEYLEDGER_ALLOW_PLAINTEXT" help:"Send the management key over http:// beyond this machine, where others can read it."`
	outputFlag
}

// client makes the client of the server that was meant.
//
// The operator token of a data dir goes to the server that runs on that data dir
// and to nobody else: not to a server that was named, nor to whatever took the
// port of a server that has ended.
func (c connection) client(a *app) (*client.Client, error) {
	a.machine(c.outputFlag)
	address, token := c.Server, c.token(a)
	if address == "" {
		found, err := localServer(c.DataDir)
		if err != nil {
			return nil, err
		}
		address = found.URL
		if token == nil {
			token = fileToken(filepath.Join(c.DataDir, operatorTokenFile))
		}
	}
	if token == nil {
		return nil, usagef("set KEYLEDGER_TOKEN, or name a file with --token-file", "no management key was given for %s", address)
	}
	cl, err := client.New(client.Config{
		BaseURL: address, Token: token, AllowPlaintext: c.AllowPlaintext,
		UserAgent: "keyledger/" + readBuildInfo().Version, Logger: slog.New(retryNotes{a}),
	})
	if err != nil {
		return nil, usagef("", "%s", strings.TrimPrefix(strings.ReplaceAll(err.Error(), "set AllowPlaintext", "say --allow-plaintext"), "client: "))
	}
	return cl, nil
}

// token returns the source of the token that was given, or nil if none was. As
// with every setting, a flag counts before the environment; there, the token
// itself counts before the name of a file.
func (c connection) token(a *app) client.TokenSource {
	if c.TokenFile != "" {
		return fileToken(c.TokenFile)
	}
	if token := a.env("KEYLEDGER_TOKEN"); token != "" {
		return client.StaticToken(token)
	}
	if file := a.env("KEYLEDGER_TOKEN_FILE"); file != "" {
		return fileToken(file)
	}
	return nil
}

func fileToken(path string) client.TokenSource {
	return func(context.Context) (string, error) {
		token, err := os.ReadFile(path)
		if err != nil {
			return "", failf("name a file that you may read with --token-file, or set KEYLEDGER_TOKEN", "read the management key: %w", err)
		}
		return strings.TrimSpace(string(token)), nil
	}
}

// localServer finds the server that runs on a data dir.
func localServer(dataDir string) (serverFile, error) {
	if err := checkOwner(dataDir); err != nil {
		return serverFile{}, err
	}
	found, err := findServer(dataDir)
	if err == nil {
		return found, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return serverFile{}, failf("run as the user that the server runs as, or name a server with --server", "look for a server: %w", err)
	}
	if running, err := locked(dataDir); err == nil && running {
		return serverFile{}, failf("wait until it says that it is ready; it is reading its history, and its log says how far",
			"the server on the data dir %s does not answer yet", dataDir)
	}
	return serverFile{}, failf("start one (keyledger serve), or name one (--server URL, or --data-dir of a local one)",
		"no server runs on the data dir %s", dataDir)
}

// retryNotes shows the client's log of repeated attempts to the person who waits.
type retryNotes struct{ a *app }

func (retryNotes) Enabled(context.Context, slog.Level) bool { return true }
func (n retryNotes) WithAttrs([]slog.Attr) slog.Handler     { return n }
func (n retryNotes) WithGroup(string) slog.Handler          { return n }

func (n retryNotes) Handle(_ context.Context, r slog.Record) error {
	if n.a.json {
		return nil
	}
	why := ""
	r.Attrs(func(attr slog.Attr) bool {
		if attr.Key == "error" {
			why = attr.Value.String()
		}
		return true
	})
	n.a.errorf("keyledger: %s; %s…\n", clean(cmp.Or(why, "no answer")), r.Message)
	return nil
}
