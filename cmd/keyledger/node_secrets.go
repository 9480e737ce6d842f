package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/internal/keyring"
)

func (s settings) keyringPath() string {
	if s.Keyring != "" {
		return s.Keyring
	}
	return filepath.Join(s.DataDir, keyringFile)
}

// openKeyring loads the keyring, or creates it at the very first start of a node
// that runs alone. A new one beside an old log would make every key unknown, and
// nodes with keyrings of their own would not know each other's keys.
func openKeyring(s settings) (keys *keyring.Keyring, created bool, err error) {
	path := s.keyringPath()
	keys, err = keyring.Load(path)
	switch {
	case err == nil:
		return keys, false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, err
	case s.NATSURL != "":
		return nil, false, failf("give every node the same file (--keyring); keyledger keyring create makes the first one",
			"there is no keyring at %s: with --nats-url secrets are given, not generated", path)
	}
	const restore = "put the keyring back from your backup; a new one could not verify a single key"
	for _, name := range []string{jetstreamDir, operatorTokenFile} {
		if _, err := os.Stat(filepath.Join(s.DataDir, name)); !errors.Is(err, fs.ErrNotExist) {
			return nil, false, failf(restore, "the keyring %s is gone, but the data dir holds data (%s)", path, name)
		}
	}
	if hasTables(s.DataDir) {
		return nil, false, failf(restore, "the keyring %s is gone, but the data dir holds data (%s)", path, keyTableFile)
	}
	if keys, err = keyring.Create(path, rand.Reader); err != nil {
		return nil, false, failf("see that the disk is not full and the directory is this user's", "%w", err)
	}
	return keys, true, nil
}

// ensureOperator makes the operator's key at the first start.
func (n *node) ensureOperator(ctx context.Context) error {
	_, created, err := n.handler.Operator(ctx, &n.operator)
	if err != nil {
		return err
	}
	if !created {
		n.operator.fresh = domain.Secret{}
	}
	return nil
}

// operatorVault keeps the operator's token in a file of the data dir.
type operatorVault struct {
	file  string
	fresh domain.Secret // the token, if this process is to show it
}

// Load returns the stored token, or a zero Secret if there is none.
func (v *operatorVault) Load() (domain.Secret, error) {
	token, err := os.ReadFile(v.file)
	if errors.Is(err, fs.ErrNotExist) {
		return domain.Secret{}, nil
	}
	if err != nil {
		return domain.Secret{}, err
	}
	v.fresh = domain.NewSecret(strings.TrimSpace(string(token)))
	return v.fresh, nil
}

// Store keeps the token durably.
func (v *operatorVault) Store(token domain.Secret) error {
	v.fresh = token
	return keyring.WriteSecretFile(v.file, []byte(token.Reveal()+"\n"))
}

// path says where the token is, if it still is.
func (v *operatorVault) path() string {
	if _, err := os.Stat(v.file); err != nil {
		return "not in the data dir (" + operatorTokenFile + " was removed)"
	}
	return v.file
}

// prepareDataDir makes sure that the directory exists and that nobody else can
// look into it: not all files in it are secret by themselves.
func prepareDataDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return failf("create it for this user, or choose another --data-dir", "the data dir cannot be created: %w", err)
		}
		return nil
	}
	if err != nil {
		return failf("give it to this user, or choose another --data-dir", "the data dir cannot be used: %w", err)
	}
	if !info.IsDir() {
		return usagef("choose another --data-dir", "%s is not a directory", dir)
	}
	if owner := ownerOf(info); owner != os.Geteuid() {
		return ownerFault(dir, info.Mode(), owner, os.Geteuid())
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return failf("give it to this user, or choose another --data-dir", "the data dir cannot be read: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if len(entries) > 0 {
		return failf("run chmod 700 on it if it is keyledger's, or choose another --data-dir",
			"others can look into the data dir %s (mode %04o)", dir, info.Mode().Perm())
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory
		return failf("run chmod 700 on it as its owner, or choose another --data-dir", "the data dir cannot be closed to others: %w", err)
	}
	return nil
}

// keyringCommand makes what a node with an external log is given.
type keyringCommand struct {
	Create keyringCreate `cmd:"" help:"Create a keyring for nodes that share a log."`
}

type keyringCreate struct {
	File string `arg:"" help:"Where to write it; the file must not exist."`
}

func (keyringCreate) Help() string {
	return `A keyring holds the secrets that live outside the log: without it no key can be verified, and whoever has it and the log can test guesses. Give all nodes on one log the same file, and keep a backup. A node that runs alone makes its own.

Example:

    keyledger keyring create keyring.json`
}

func (c keyringCreate) Run(a *app) error {
	_, err := keyring.Create(c.File, rand.Reader)
	switch {
	case errors.Is(err, fs.ErrExist):
		return failf("choose another name; a keyring is never replaced", "%s exists already", c.File)
	case err != nil:
		return fmt.Errorf("create the keyring: %w", err)
	}
	a.errorf("Wrote %s. Keep a backup: without it no key can be verified.\n", clean(c.File))
	return nil
}
