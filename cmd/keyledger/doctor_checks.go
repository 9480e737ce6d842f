package main

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/keyledger/keyledger/internal/keyring"
)

const (
	// Below these a log stops soon, or at any moment.
	warnFreeBytes = 1 << 30
	failFreeBytes = 100 << 20

	maxClockSkew = 5 * time.Second
)

// dataDir looks at the directory, its disk, and whether a server has it open.
func (x *examination) dataDir() {
	dir := x.cmd.DataDir
	mode, open, err := statMode(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.warn("data dir", "start a server (keyledger serve), or name the right --data-dir", "%s does not exist", dir)
		return
	case err != nil:
		x.fail("data dir", "run as the user that the server runs as", "%s", err)
		return
	case open:
		x.fail("data dir", "chmod 700 "+dir, "others can look into %s (mode %04o)", dir, mode)
	default:
		x.writable(dir, mode)
	}
	x.disk(dir)
	if err := checkOwner(dir); err != nil {
		f := explain(err)
		x.fail("data dir", f.do, "%s", f.what)
		return // what it says of a server cannot be trusted
	}
	x.running, err = locked(dir)
	switch {
	case x.running:
		x.address(dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		x.fail("process", "run as the user that the server runs as", "%s", err)
	default:
		x.warn("process", "start one: keyledger serve", "no server runs on %s", dir)
	}
}

// writable asks the kernel instead of trying: a doctor leaves no traces.
func (x *examination) writable(dir string, mode fs.FileMode) {
	const writeAndSearch = 0x2 | 0x1
	if err := syscall.Access(dir, writeAndSearch); err != nil {
		x.fail("data dir", "give it to the user that the server runs as", "%s cannot be written (mode %04o)", dir, mode)
		return
	}
	x.ok("data dir", "%s, mode %04o", dir, mode)
}

func (x *examination) disk(dir string) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		x.warn("disk", "", "free space is not known: %s", err)
		return
	}
	free := stat.Bavail * uint64(stat.Bsize) //nolint:gosec // block sizes are positive
	switch do := "free some space, or give the disk more"; {
	case free < failFreeBytes:
		x.fail("disk", do, "%d MiB free", free>>20)
	case free < warnFreeBytes:
		x.warn("disk", do, "%d MiB free", free>>20)
	default:
		x.ok("disk", "%d GiB free", free>>30)
	}
}

func (x *examination) address(dir string) {
	found, err := findServer(dir)
	if err != nil {
		x.running = false
		x.warn("process", "wait: a server that has just started is still reading its history; look at its log", "a server has %s open but does not answer yet", dir)
		return
	}
	x.ok("process", "pid %d at %s", found.PID, found.URL)
}

// keys looks at the keyring and the operator's token.
func (x *examination) keys() {
	path := x.cmd.Keyring
	if path == "" {
		path = filepath.Join(x.cmd.DataDir, keyringFile)
		if _, err := os.Stat(x.cmd.DataDir); err != nil {
			return // said already
		}
	}
	keys, err := keyring.Load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.fail("keyring", "put it back from your backup", "%s is not there: no key can be verified without it", path)
	case err != nil:
		x.fail("keyring", "", "%s", err)
	default:
		x.keyring = true
		for _, p := range keys.Peppers() {
			x.peppers = append(x.peppers, p.ID())
		}
		x.ok("keyring", "%s, peppers: %s", path, strings.Join(x.peppers, ", "))
	}
	token := filepath.Join(x.cmd.DataDir, operatorTokenFile)
	if mode, open, err := statMode(token); err == nil && open {
		x.fail("operator token", "chmod 600 "+token+"; and since it may be known, make another management key with its scopes and grants (keyledger keys create --management), and with that one revoke this one (keyledger keys revoke --management)", "others can read %s (mode %04o)", token, mode)
	}
}

// server asks the server how it is, and whether it knows us.
func (x *examination) server(ctx context.Context) {
	cl, err := x.cmd.client(x.a)
	if err != nil {
		f := explain(err)
		x.fail("server", f.do, "%s", f.what)
		return
	}
	ready, err := cl.Ready(ctx)
	if err != nil {
		f := explain(err)
		x.fail("server", f.do, "%s", f.what)
		return
	}
	x.ready = ready.Ready
	var without []string
	for _, part := range ready.Parts {
		if !part.Ready {
			without = append(without, part.Name)
		}
	}
	switch {
	case ready.Ready && len(without) > 0:
		x.warn("server", "", "ready for commands and checks, without its %s", strings.Join(without, ", "))
	case ready.Ready:
		x.ok("server", "ready")
	}
	for _, part := range ready.Parts {
		if !part.Ready {
			x.fail("server: "+part.Name, "see the server's log; if it is still reading its history, wait", "%s", part.Error)
		}
	}
	x.clock(ctx)
	if _, err := cl.Scopes(ctx); err != nil {
		f := explain(err)
		x.fail("management key", f.do, "%s", f.what)
		return
	}
	x.ok("management key", "accepted")
	x.servedTables(ctx, cl)
	x.servedPeppers(ctx, cl)
}

// clock compares the server's clock with ours: keys expire by the server's.
func (x *examination) clock(ctx context.Context) {
	address := x.cmd.Server
	if address == "" {
		found, err := findServer(x.cmd.DataDir)
		if err != nil {
			return // it has just ended; the other checks say so
		}
		address = found.URL
	}
	skew, err := clockSkew(ctx, x.a.now, strings.TrimRight(address, "/")+"/healthz")
	switch {
	case err != nil:
		x.warn("clock", "", "the server's clock is not known: %s", err)
	case skew.Abs() > maxClockSkew:
		x.warn("clock", "synchronise both clocks (NTP): keys expire by the server's", "the server's clock is %s off this one's", skew.Round(time.Second))
	default:
		x.ok("clock", "the server's agrees with this one")
	}
}

// clockSkew returns how far the clock behind a Date header is ahead of ours, to
// the second that the header gives.
func clockSkew(ctx context.Context, now func() time.Time, address string) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	if err := resp.Body.Close(); err != nil {
		return 0, err
	}
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, errors.New("no Date in its answer")
	}
	return theirs.Sub(now()), nil
}
