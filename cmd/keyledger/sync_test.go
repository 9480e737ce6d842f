package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/client"
)

// TestSyncBeforeAnswer watches the system calls of a server that is given one
// command at a time, and shows for each of them that the file which holds its
// events was synced to the disk after they were written and before the answer was.
// docs/decisions/0003-sync-always.md says why; without this a power cut can lose
// what was acknowledged, and no kill -9 would ever show it.
func TestSyncBeforeAnswer(t *testing.T) {
	tracer, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("this test needs strace (make test installs it): %v", err)
	}
	for _, tc := range []struct {
		sync   string
		synced bool // before the answer
	}{{"always", true}, {"lazy", false}} { // lazy shows that the test can tell the difference
		t.Run(tc.sync, func(t *testing.T) {
			dir := t.TempDir()
			trace := filepath.Join(dir, "trace")
			p := mustServe(t, mustBuild(t), filepath.Join(dir, "data"), withFlags("--sync", tc.sync), func(cmd *exec.Cmd) {
				cmd.Args = append([]string{
					tracer, "--follow-forks", "--decode-fds=path", "--string-limit=4096", "--output=" + trace, "--quiet=attach,exit",
					"--trace=fsync,fdatasync,write,writev,pwrite64,pwritev,sendto,sendmsg", "--seccomp-bpf",
				}, cmd.Args...)
				cmd.Path = tracer
			})
			requests := p.lone(t)
			p.stop()
			calls := mustReadTrace(t, trace)
			for _, id := range requests {
				err := syncedBeforeAnswer(calls, id)
				if tc.synced && err != nil {
					t.Errorf("%s: %v", id, err)
				}
				if !tc.synced && err == nil {
					t.Errorf("%s: synced before the answer, which --sync %s does not promise; does this test look at the right files?", id, tc.sync)
				}
			}
		})
	}
}

// lone sends commands of every kind one after another, and returns the ids of
// their requests.
func (p *process) lone(t *testing.T) (requests []string) {
	t.Helper()
	c := p.client(p.operator())
	id := func() client.CallOption {
		requests = append(requests, fmt.Sprintf("lone-request-%d", len(requests)))
		return client.WithRequestID(requests[len(requests)-1])
	}
	must := func(o client.Outcome, err error) client.Outcome {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\n%s", err, p.tail())
		}
		return o
	}
	var key client.Outcome
	for i := range 5 {
		key = must(c.CreateKey(t.Context(), client.CreateKeyRequest{Name: fmt.Sprint("key ", i), Environment: "live", FullAccess: true}, id()))
	}
	name := "renamed"
	must(c.UpdateKey(t.Context(), key.Key.ID, client.UpdateKeyRequest{Name: &name}, id()))
	key = must(c.RotateKey(t.Context(), key.Key.ID, client.RotateKeyRequest{}, id())) // an atomic batch of three events
	must(c.RevokeKey(t.Context(), key.Key.ID, client.RevokeKeyRequest{}, id()))
	return requests
}

// syscallLine is a finished system call: when it began and ended, as places in the trace.
type syscallLine struct {
	name, file, rest string
	began, ended     int
}

// Lines of strace -f: a call on one line, or its two halves with other threads' between.
var (
	wholeCall  = regexp.MustCompile(`^(\d+) +(\w+)\(\d+<(.*?)>(.*)$`)
	resumeCall = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
)

const unfinished = "<unfinished ...>"

func mustReadTrace(t *testing.T, path string) []syscallLine {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var calls []syscallLine
	open := map[string]int{} // thread to its unfinished call
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 0; lines.Scan(); n++ {
		if m := wholeCall.FindStringSubmatch(lines.Text()); m != nil {
			if strings.HasSuffix(m[4], unfinished) {
				open[m[1]] = len(calls)
			}
			calls = append(calls, syscallLine{name: m[2], file: m[3], rest: m[4], began: n, ended: n})
			continue
		}
		if m := resumeCall.FindStringSubmatch(lines.Text()); m != nil {
			if at, ok := open[m[1]]; ok {
				calls[at].ended = n
				calls[at].rest += m[3]
				delete(open, m[1])
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for _, at := range open {
		calls[at].ended = 1 << 60 // it never ended
	}
	return calls
}

// syncedBeforeAnswer checks that the message block that holds the events of a
// request was synced, successfully, between the last write of them and the answer.
func syncedBeforeAnswer(calls []syscallLine, request string) error {
	written, answered := -1, -1
	var block string
	for i, call := range calls {
		switch {
		case strings.HasSuffix(call.file, ".blk") && strings.HasPrefix(call.name, "pwrite") || call.name == "write" && strings.HasSuffix(call.file, ".blk"):
			if strings.Contains(call.rest, `\"requestid\":\"`+request+`\"`) && strings.Contains(call.file, "/streams/KEYLEDGER_EVENTS/msgs/") {
				written, block = i, call.file
			}
		case strings.Contains(call.rest, "HTTP/1.1 20") && strings.Contains(call.rest, "X-Request-Id: "+request):
			answered = i
		}
	}
	if written < 0 || answered < 0 {
		return fmt.Errorf("the trace lacks the write of the event (%d) or of the answer (%d)", written, answered)
	}
	for _, call := range calls {
		isSync := (call.name == "fsync" || call.name == "fdatasync") && call.file == block && strings.HasSuffix(strings.TrimSpace(call.rest), "= 0")
		if isSync && call.began > calls[written].ended && call.ended < calls[answered].began {
			return nil
		}
	}
	return fmt.Errorf("no sync of %s between the write of the event (line %d) and the answer (line %d)", filepath.Base(block), calls[written].ended, calls[answered].began)
}
