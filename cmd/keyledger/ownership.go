package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkOwner refuses a data dir that another user made or can change. Its files say
// where the operator token is sent, and what a server takes for its own secrets:
// whoever can plant them takes the instance over. A directory that does not exist
// is not refused.
func checkOwner(dataDir string) error {
	info, err := os.Stat(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the data dir: %w", err)
	}
	return ownerFault(dataDir, info.Mode(), ownerOf(info), os.Geteuid())
}

// ownerFault says what is wrong with a directory's mode and owner for a user.
func ownerFault(dir string, mode fs.FileMode, owner, user int) error {
	if owner != user {
		return failf("run as the user that it belongs to, or choose another --data-dir",
			"the data dir %s belongs to another user (uid %d, this is %d)", dir, owner, user)
	}
	if mode.Perm()&0o022 != 0 {
		return failf("run chmod 700 on it if nobody has changed it, or choose another --data-dir",
			"others can change the data dir %s (mode %04o)", dir, mode.Perm())
	}
	return nil
}

// ownerOf returns the user id that a file belongs to, -1 if the system does not say.
func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}
