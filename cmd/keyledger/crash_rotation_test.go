package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore/access"
	"github.com/keyledger/keyledger/internal/soak"
)

// TestKilledInsideARotation kills the server at one system call after another of a
// rotation, which writes three events in one atomic batch. Chance, as in TestSoak,
// seldom hits the microseconds between them. After the restart the rotation must be
// in the log as a whole or not at all, and a repeat must have one outcome.
func TestKilledInsideARotation(t *testing.T) {
	tracer, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("this test needs strace (make test installs it): %v", err)
	}
	program := mustBuild(t)
	hit := 0
	for _, at := range []struct {
		call  string
		nth   int  // counted for each thread by itself, so that only the first is sure to come
		block bool // of the log's own block only, not of the staged batch
	}{
		{"pwrite64", 1, false}, {"pwrite64", 1, true}, {"pwrite64", 2, true}, {"pwrite64", 3, true},
		{"fsync", 1, false}, {"fsync", 2, false}, {"fsync", 3, false}, {"fsync", 1, true}, {"fsync", 2, true},
		{"renameat", 1, false}, {"renameat", 2, false}, {"renameat", 3, false},
		{"unlinkat", 1, false}, {"unlinkat", 2, false}, {"unlinkat", 3, false},
	} {
		name := fmt.Sprintf("%s %d", at.call, at.nth)
		if at.block {
			name += " of the block"
		}
		t.Run(name, func(t *testing.T) {
			dataDir := filepath.Join(t.TempDir(), "data")
			p := mustServe(t, program, dataDir)
			operator := p.client(p.operator())
			old, err := operator.CreateKey(t.Context(), client.CreateKeyRequest{Name: "n", Environment: "live", FullAccess: true}, client.WithIdempotencyKey("create"))
			if err != nil {
				t.Fatal(err)
			}
			args := []string{"--trace=" + at.call, fmt.Sprintf("--inject=%s:signal=SIGKILL:when=%d", at.call, at.nth)}
			if at.block {
				args = append(args, "--trace-path="+filepath.Join(dataDir, jetstreamDir, access.AccountLog, "streams", "KEYLEDGER_EVENTS", "msgs", "1.blk"))
			}
			detach := p.attach(tracer, args...)
			request := client.RotateKeyRequest{}
			first, firstErr := operator.RotateKey(t.Context(), old.Key.ID, request, client.WithIdempotencyKey("rotate"), client.WithRequestID("first"))
			if firstErr != nil {
				p.await("cut off by its end", stopWithin, p.ended)
				hit++
			} else {
				t.Log("not hit: the rotation was done without so many of these calls on one thread")
			}
			detach()
			p.kill()

			p = mustServe(t, program, dataDir)
			operator = p.client(p.operator())
			before := mustReadLog(t, operator)
			again, err := operator.RotateKey(t.Context(), old.Key.ID, request, client.WithIdempotencyKey("rotate"), client.WithRequestID("second"))
			if err != nil {
				t.Fatalf("repeat: %v\n%s", err, p.tail())
			}
			told := []soak.Told{{
				Ref: soak.Ref{Actor: domain.ActorID(again.Key.CreatedBy), Command: domain.CommandRotateKey, ID: "rotate"}, RequestID: "second", Target: domain.KeyID(old.Key.ID),
				Key: domain.KeyID(again.Key.ID), Seq: again.Seq, Token: again.Token != "", Replayed: again.Replayed, Repeat: firstErr == nil,
			}}
			if firstErr == nil {
				answered := told[0]
				answered.RequestID, answered.Key, answered.Seq = "first", domain.KeyID(first.Key.ID), first.Seq
				answered.Token, answered.Replayed, answered.Repeat = first.Token != "", first.Replayed, false
				told = append(told, answered)
			}
			history := mustReadLog(t, operator)
			for _, wrong := range history.Judge(told, func(soak.Ref) bool { return true }) {
				t.Error(wrong)
			}
			if (before.Head() == 5) != again.Replayed || before.Head() != 2 && before.Head() != 5 || history.Head() != 5 {
				t.Errorf("%d events after the restart and %d after the repeat, which said replayed %t", before.Head(), history.Head(), again.Replayed)
			}
			for _, wrong := range checkTable(t.Context(), operator, history) {
				t.Error(wrong)
			}
		})
	}
	t.Logf("%d kills hit", hit)
	if hit < 5 {
		t.Error("too few kills hit the rotation: does it use other system calls now?")
	}
}

// attach lets strace do something to the server from now on, and returns when it
// does. The returned function ends it.
func (p *process) attach(tracer string, args ...string) (detach func()) {
	p.t.Helper()
	args = append([]string{"--follow-forks", "--output=/dev/null", "--attach=" + strconv.Itoa(p.cmd.Process.Pid)}, args...)
	cmd := exec.Command(tracer, args...) //nolint:noctx // ended below
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	detach = func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	}
	p.t.Cleanup(detach)
	p.await("traced", readyWithin, p.traced)
	return detach
}

// traced reports whether every thread of the server has a tracer.
func (p *process) traced() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, thread := range threads {
		status, err := os.ReadFile(thread)
		if err != nil || strings.Contains(string(status), "TracerPid:\t0\n") {
			return false
		}
	}
	return true
}
