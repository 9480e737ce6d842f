package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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
// accounts are in the server's default account; they are moved. If there are streams
// in both places, nobody but a person can say which are the log.
func (s *Server) makeStore(ctx context.Context, dataDir string) error {
	dir := filepath.Join(dataDir, "jetstream")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	former, now := filepath.Join(dir, server.DEFAULT_GLOBAL_ACCOUNT), filepath.Join(dir, access.AccountLog)
	old, err := streamsIn(former)
	if err != nil || len(old) == 0 {
		return err
	}
	present, err := streamsIn(now)
	if err != nil {
		return err
	}
	if len(present) > 0 {
		return fmt.Errorf("there are streams in %s (%s) and in %s (%s): an older release was started on this data dir, and made a log of its own in the first; "+
			"nothing was lost or changed. Move %s out of the data dir and start again; what was written by the older release meanwhile is in it only",
			former, strings.Join(old, ", "), now, strings.Join(present, ", "), former)
	}
	for _, empty := range []string{filepath.Join(now, streamsDir), now} {
		if err := os.Remove(empty); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(former, now); err != nil {
		return err
	}
	s.logger.logger.InfoContext(ctx, "the streams were moved to an account of their own; older releases do not find them there any more",
		slog.String("from", former), slog.String("to", now), slog.String("streams", strings.Join(old, ", ")))
	return nil
}

// streamsDir is where the server keeps the streams of an account, each in a directory.
const streamsDir = "streams"

func streamsIn(account string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(account, streamsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
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
