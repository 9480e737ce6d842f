package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience is how long a server may take to start or to stop.
const patience = 60 * time.Second

// superuser is the role that the server is made with. It needs no password: the
// server listens on this machine only, for the length of a test.
const superuser = "keyledger"

// Server is a PostgreSQL server of a test's own. Its methods are for one goroutine.
type Server struct {
	dir      string // data/, and the server's log
	bin      string // where its programs are
	port     int
	as       *syscall.Credential // whom it runs as; nil: as the test
	settings []string            // name=value
	running  *process
}

// MustServer starts a server, which ends with the test. Settings are name=value
// pairs of postgresql.conf; without any it does not sync: nothing outlives the test.
func MustServer(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	s, err := newServer(tb, append([]string{"fsync=off", "full_page_writes=off"}, settings...))
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	s.MustStart(tb)
	tb.Cleanup(s.Kill)
	return s
}

func newServer(tb testing.TB, settings []string) (*Server, error) {
	tb.Helper()
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "keyledger-postgres-") //nolint:usetesting // TempDir is closed to another user
	if err != nil {
		return nil, err
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{dir: dir, bin: bin, settings: settings}
	if s.as, err = owner(dir); err != nil {
		return nil, err
	}
	if s.port, err = freePort(tb.Context()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	initdb := s.command(ctx, "initdb", "--pgdata", s.data(), "--username", superuser, "--auth", "trust",
		"--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return s, nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }
func (s *Server) log() string  { return filepath.Join(s.dir, "log") }

// URL returns the address of a database on the server.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", superuser, s.port, database)
}

// Addr returns where the server listens.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// MustStart starts the server, again after Kill or MustStop: on the same data and
// the same port.
func (s *Server) MustStart(tb testing.TB) {
	tb.Helper()
	p, err := s.start()
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	s.running = p
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
	defer cancel()
	if err := s.await(ctx, p); err != nil {
		text, _ := os.ReadFile(s.log())
		tb.Fatalf("PostgreSQL does not answer: %v\n%s", err, text)
	}
}

// Kill ends the server and every process of it with SIGKILL, as a crash would.
func (s *Server) Kill() {
	if s.running != nil {
		s.running.end(syscall.SIGKILL)
		s.running = nil
	}
}

// MustStop ends the server in order; clients are disconnected.
func (s *Server) MustStop(tb testing.TB) {
	tb.Helper()
	if s.running == nil {
		return
	}
	s.running.end(syscall.SIGINT) // "fast shutdown"
	s.running = nil
}

// Pause stops every process of the server where it stands; connections stay open
// and are not answered. Resume lets them go on.
func (s *Server) Pause() { s.running.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() { s.running.signal(syscall.SIGCONT) }

func (s *Server) await(ctx context.Context, p *process) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return errors.New("it has ended")
		case <-ctx.Done():
			return err
		}
	}
}

// programs returns the directory of PostgreSQL's programs: that of the path, or the
// newest of Debian's.
func programs() (string, error) {
	if found, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(found), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New("initdb and postgres are neither in the path nor in /usr/lib/postgresql: install PostgreSQL (Debian: apt-get install postgresql), or name a server in " + envURL)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

// owner gives dir to the user that the server runs as, since it refuses to run as
// root: postgres, or else nobody.
func owner(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // as whoever runs the test
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2, os.Chown(dir, int(uid), int(gid))); err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("not a TCP address")
	}
	return addr.Port, l.Close()
}
