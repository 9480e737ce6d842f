package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// The files of a data dir. It has mode 0700: whoever can read it is the operator.
const (
	keyringFile       = "keyring.json"
	operatorTokenFile = "operator.token"
	serverFileName    = "server.json"
	lockFile          = "lock"
	keyTableFile      = "keys.db"
	jetstreamDir      = "jetstream"
)

// serverFile tells the command line where the server of a data dir answers.
type serverFile struct {
	URL     string `json:"url"`
	NATSURL string `json:"nats_url,omitempty"`
	PID     int    `json:"pid"`
}

func readServerFile(dataDir string) (serverFile, error) {
	path := filepath.Join(dataDir, serverFileName)
	data, err := os.ReadFile(path)
	if err != nil {
		return serverFile{}, err
	}
	var out serverFile
	if err := json.Unmarshal(data, &out); err != nil || out.URL == "" {
		return serverFile{}, fmt.Errorf("%s is not what a server writes there", path)
	}
	return out, nil
}

// writeServerFile replaces the file as a whole: a reader sees the old or the new one.
func writeServerFile(dataDir string, content serverFile) error {
	data, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("write the server's address: %w", err)
	}
	path := filepath.Join(dataDir, serverFileName)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the server's address: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the server's address: %w", err)
	}
	return nil
}

// errLocked says that another process runs on the data dir.
var errLocked = errors.New("in use by another process")

// lockDataDir keeps every other server off the data dir until the process ends,
// however it ends, or unlock is called.
func lockDataDir(dataDir string) (unlock func(), err error) {
	f, err := flock(dataDir, os.O_CREATE|os.O_RDWR, syscall.LOCK_EX)
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// locked reports whether a server runs on the data dir. It leaves nothing behind.
func locked(dataDir string) (bool, error) {
	f, err := flock(dataDir, os.O_RDONLY, syscall.LOCK_SH)
	if errors.Is(err, errLocked) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, f.Close()
}

func flock(dataDir string, mode, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dataDir, lockFile), mode, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errLocked
	}
	return nil, fmt.Errorf("lock %s: %w", dataDir, err)
}

// removeServerFile says that the server has ended.
func removeServerFile(dataDir string) error {
	if err := os.Remove(filepath.Join(dataDir, serverFileName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the server's address: %w", err)
	}
	return nil
}
