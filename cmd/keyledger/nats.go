package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyledger/keyledger/eventstore/access"
	"github.com/keyledger/keyledger/internal/keyring"
)

// The files that keyledger nats setup writes.
const (
	natsSecretsFile = "nats-secrets.json"
	natsConfigFile  = "keyledger.conf"
)

// natsCommand makes what a NATS cluster and its nodes are given.
type natsCommand struct {
	Setup natsSetup `cmd:"" help:"Make the configuration of NATS servers of your own, and the secrets of the nodes on them."`
}

type natsSetup struct {
	Dir      string `required:"" placeholder:"DIR" help:"Where to write the two files; neither may exist."`
	StoreDir string `name:"store-dir" default:"/var/lib/nats" placeholder:"DIR" help:"Where the servers keep their streams. Default: ${default}."`
}

func (natsSetup) Help() string {
	return `Writes two files:

    keyledger.conf      for every NATS server: who may connect, and that it syncs before it acknowledges
    nats-secrets.json   for every node (--nats-secrets); secret, and never replaced

Include the first in each server's nats.conf and start or restart the servers (a reload is not enough), then start the nodes. docs/nats.md has it step by step, and how to change the secrets later.

Example:

    keyledger nats setup --dir ./nats
    nats-server --config nats.conf     # which says: include ./keyledger.conf
    keyledger serve --nats-url nats://nats-1:4222,nats://nats-2:4222,nats://nats-3:4222 --nats-secrets ./nats/nats-secrets.json --keyring keyring.json`
}

// Run writes the files. The secrets come first: a configuration without them would
// let nobody in.
func (c natsSetup) Run(a *app) error {
	if strings.ContainsAny(c.StoreDir, "\"\\\n") {
		return usagef("use a plain path", "--store-dir cannot be written into a configuration")
	}
	secrets, err := access.NewSecrets()
	if err != nil {
		return err
	}
	text, err := secrets.File()
	if err != nil {
		return err
	}
	public, err := secrets.Public()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return failf("choose another --dir", "the directory cannot be made: %w", err)
	}
	config := filepath.Join(c.Dir, natsConfigFile)
	if _, err := os.Stat(config); !errors.Is(err, fs.ErrNotExist) {
		return failf("choose another --dir; what is in use is never replaced", "%s exists already", config)
	}
	files := []struct {
		path string
		body []byte
	}{
		{filepath.Join(c.Dir, natsSecretsFile), text},
		{config, []byte(natsConfig(c.StoreDir, public))},
	}
	for _, f := range files {
		err := keyring.WriteSecretFile(f.path, f.body)
		switch {
		case errors.Is(err, fs.ErrExist):
			return failf("choose another --dir; what is in use is never replaced", "%s exists already", f.path)
		case err != nil:
			return failf("see that the disk is not full and the directory is this user's", "%w", err)
		}
		a.errorf("Wrote %s.\n", clean(f.path))
	}
	a.errorf("Include %s in every server's nats.conf; give every node --nats-secrets.\n", natsConfigFile)
	return nil
}

// natsConfig is the part of a server's configuration that is the same on all.
func natsConfig(storeDir string, public access.Public) string {
	return fmt.Sprintf(`# Made by keyledger nats setup, for every NATS server that nodes of keyledger use.
# Include it in nats.conf, which says what differs between servers: server_name,
# listen, tls, cluster. Nothing in here is secret; nats-secrets.json is.
#
# It makes three accounts. Other accounts may stand beside them, in this block:
# a file of configuration can have only one.

jetstream {
  store_dir: "%s"
  # What is acknowledged is on the disk. Without this line a power cut can lose the
  # whole log, on three servers as well.
  sync_interval: always
}

%s`, storeDir, public.ServerConfig(false))
}
