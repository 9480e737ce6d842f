package postgrestest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// process is the postmaster, in a process group with what it starts.
type process struct {
	pid   int
	ended chan struct{}
}

// command makes a command that runs as the server's user.
func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TZ=UTC"}
	cmd.SysProcAttr = attributes(s.as)
	return cmd
}

func (s *Server) start() (*process, error) {
	args := []string{
		"-D", s.data(), "-h", "127.0.0.1", "-p", fmt.Sprint(s.port), "-k", "",
		"-c", "log_min_messages=warning",
	}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := s.command(context.Background(), "postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is what the test brought about
		close(p.ended)
	}()
	return p, nil
}

// end sends a signal and waits until the postmaster has ended.
func (p *process) end(s syscall.Signal) {
	if s == syscall.SIGKILL {
		p.signal(s)
	} else {
		_ = syscall.Kill(p.pid, s)
	}
	<-p.ended
}

// signal reaches the postmaster and everything that it started: each backend is in
// a session of its own, so that the process group does not reach them.
func (p *process) signal(s syscall.Signal) {
	pids := append([]int{p.pid}, children(p.pid)...)
	for _, pid := range pids {
		_ = syscall.Kill(pid, s)
	}
}

// children returns the processes whose parent is pid, from /proc.
func children(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		var child, parent int
		var state string
		_, after, _ := strings.Cut(string(text), ") ") // past a name, which may hold anything
		if _, err := fmt.Sscan(string(text), &child); err != nil {
			continue
		}
		if _, err := fmt.Sscan(after, &state, &parent); err == nil && parent == pid {
			found = append(found, child)
		}
	}
	return found
}
