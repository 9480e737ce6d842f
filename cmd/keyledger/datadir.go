package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// The files of a data dir. It has mode 0700: whoever can read it is the operator.
const (
	keyringFile       = "keyring.json"
	operatorTokenFile = "operator.token"
	serverFileName    = "server.json"
	lockFile          = "lock"
	keyTableFile      = "keys.db" // the base of the tables' file names, see package sqlite
	jetstreamDir      = "jetstream"
)

// hasTables reports whether a data dir holds tables, of any release.
func hasTables(dataDir string) bool {
	found, err := filepath.Glob(filepath.Join(dataDir, "keys*.db"))
	return err == nil && len(found) > 0
}

// serverFile tells the command line where the server of a data dir answers. It is
// there from when the server is ready until it ends.
type serverFile struct {
	URL     string `json:"url"`
	NATSURL string `json:"nats_url,omitempty"`
	PID     int    `json:"pid"`
}

// findServer returns what the running server of a data dir says of itself, or an
// error that is [fs.ErrNotExist] if none answers there.
//
// A server that was killed leaves its file behind, its port may be another
// program's by now, and its process id another process's. So the file counts only
// while its writer holds the lock on it, which ends with the writer.
func findServer(dataDir string) (serverFile, error) {
	f, err := os.Open(filepath.Join(dataDir, serverFileName))
	if err != nil {
		return serverFile{}, err
	}
	defer func() { _ = f.Close() }() // and with it our lock, if we got it
	switch err := tryLock(f, syscall.LOCK_SH); {
	case err == nil:
		return serverFile{}, fmt.Errorf("the server that wrote %s has ended: %w", f.Name(), fs.ErrNotExist)
	case !errors.Is(err, errLocked):
		return serverFile{}, err
	}
	var out serverFile
	if err := json.NewDecoder(f).Decode(&out); err != nil || out.URL == "" {
		return serverFile{}, fmt.Errorf("%s is not what a server writes there", f.Name())
	}
	return out, nil
}

// writeServerFile replaces the file as a whole: a reader sees the old or the new
// one. The new one is locked before it can be seen, until remove is called or the
// process ends, however it ends.
func writeServerFile(dataDir string, content serverFile) (remove func() error, err error) {
	data, err := json.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("write the server's address: %w", err)
	}
	path := filepath.Join(dataDir, serverFileName)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the server's address: %w", err)
	}
	err = tryLock(f, syscall.LOCK_EX)
	if err == nil {
		_, err = f.Write(append(data, '\n'))
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write the server's address: %w", err)
	}
	return func() error { return errors.Join(removeServerFile(dataDir), f.Close()) }, nil
}

// removeServerFile says that no server answers.
func removeServerFile(dataDir string) error {
	if err := os.Remove(filepath.Join(dataDir, serverFileName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the server's address: %w", err)
	}
	return nil
}

// errLocked says that another process runs on the data dir.
var errLocked = errors.New("in use by another process")

const (
	// A command that asks whether a server runs holds the lock for a moment.
	lockWithin = time.Second
	lockEvery  = 10 * time.Millisecond
)

// lockDataDir keeps every other server off the data dir until the process ends,
// however it ends, or unlock is called. It waits up to lockWithin for the lock.
func lockDataDir(ctx context.Context, dataDir string) (unlock func(), err error) {
	deadline := time.NewTimer(lockWithin)
	defer deadline.Stop()
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for {
		f, err := openLocked(dataDir, os.O_CREATE|os.O_RDWR, syscall.LOCK_EX)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, errLocked) {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return nil, errLocked
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// locked reports whether somebody runs on the data dir, ready or not. It leaves
// nothing behind.
func locked(dataDir string) (bool, error) {
	f, err := openLocked(dataDir, os.O_RDONLY, syscall.LOCK_SH)
	if errors.Is(err, errLocked) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, f.Close()
}

func openLocked(dataDir string, mode, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dataDir, lockFile), mode, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f, how); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// tryLock locks an open file until it is closed, or returns errLocked at once.
func tryLock(f *os.File, how int) error {
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}
