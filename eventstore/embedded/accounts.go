package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/keyledger/keyledger/eventstore/access"
)

// accounts says who may connect, as the configuration of a cluster does; nodes only
// from within the process.
func (s *Server) accounts(opts *server.Options, cfg Config) error {
	public, err := s.secrets.Public()
	if err != nil {
		return err
	}
	if err := opts.ProcessConfigString(public.ServerConfig(true)); err != nil {
		return fmt.Errorf("configure the accounts: %w", err)
	}
	at := slices.IndexFunc(opts.Accounts, func(a *server.Account) bool { return a.Name == access.AccountLog })
	if at < 0 {
		return errors.New("configure the accounts: that of the log is missing")
	}
	for user, password := range cfg.Users {
		opts.Users = append(opts.Users, &server.User{Username: user, Password: password, Account: opts.Accounts[at]})
		opts.AuthCallout.AuthUsers = append(opts.AuthCallout.AuthUsers, user)
	}
	if cfg.Secrets == nil {
		opts.AuthCallout = nil // nobody could answer, and who asks would wait
	}
	return nil
}

// makeStore makes the directory of the streams. Streams of before there were
// accounts are in the server's default account; they are moved.
func makeStore(dataDir string) error {
	dir := filepath.Join(dataDir, "jetstream")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	former, now := filepath.Join(dir, server.DEFAULT_GLOBAL_ACCOUNT), filepath.Join(dir, access.AccountLog)
	if _, err := os.Stat(now); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(former, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// probe finds out whether the port can be had, long before it is used.
func probe(ctx context.Context, opts *server.Options) error {
	port := max(opts.Port, 0) // any
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(opts.Host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}
