package main

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestStaleAddressIsNotDialled kills a server, puts another program where it
// answered, and lets the next server hold the data dir without being ready: the
// operator token must not go to that program.
func TestStaleAddressIsNotDialled(t *testing.T) {
	w := newTestWorld(t)
	p := mustServe(t, mustBuild(t), w.dataDir)
	w.must(t, "keys", "list")
	p.kill()

	var asked atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer other.Close()
	path := filepath.Join(w.dataDir, serverFileName)
	stale, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("a killed server leaves its address: %v", err)
	}
	stale = []byte(strings.Replace(string(stale), p.address.URL, other.URL, 1))
	if err := os.WriteFile(path, stale, 0o600); err != nil {
		t.Fatal(err)
	}

	for name, says := range map[string]string{"nobody": "no server runs on", "a server that starts": "does not answer yet"} {
		t.Run(name, func(t *testing.T) {
			if name != "nobody" {
				unlock, err := lockDataDir(t.Context(), w.dataDir)
				if err != nil {
					t.Fatal(err)
				}
				defer unlock()
			}
			for _, args := range [][]string{{"keys", "list"}, {"verify"}, {"events", "replay"}} {
				if r := w.cli(t, "x", args...); r.code != exitFailed || !strings.Contains(r.stderr, says) {
					t.Errorf("%v: %+v, want %q", args, r, says)
				}
			}
			w.cli(t, "", "doctor")
		})
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the program that took the port was asked %d times", n)
	}
	t.Run("the next server removes it before anything else", func(t *testing.T) {
		w.mustRefuse(t, exitFailed, "address already in use", "--addr", strings.TrimPrefix(other.URL, "http://"))
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the address of the killed server is still there: %v", err)
		}
	})
}

// TestLockWaitsAMoment holds the lock as a command does that asks whether a
// server runs: a start must outlast that, but not a server.
func TestLockWaitsAMoment(t *testing.T) {
	for name, tc := range map[string]struct {
		held time.Duration
		want error
	}{
		"a moment": {lockWithin / 2, nil},
		"a server": {time.Hour, errLocked},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				holder, err := openLocked(dir, os.O_CREATE|os.O_RDWR, syscall.LOCK_SH)
				if err != nil {
					t.Fatal(err)
				}
				release := time.AfterFunc(tc.held, func() { _ = holder.Close() })
				begun := time.Now()
				unlock, err := lockDataDir(t.Context(), dir)
				if !errors.Is(err, tc.want) || time.Since(begun) > lockWithin {
					t.Errorf("%v after %v, want %v", err, time.Since(begun), tc.want)
				}
				if err == nil {
					unlock()
				}
				if release.Stop() {
					_ = holder.Close()
				}
			})
		})
	}
}
