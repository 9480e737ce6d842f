package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mustTerminal makes a pseudo terminal: what a person types goes into person, and
// the program reads it from terminal.
func mustTerminal(t *testing.T) (person, terminal *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return person, terminal
}

// answerAt runs a command on a terminal and types an answer once it asks.
func (w *testWorld) answerAt(t *testing.T, question, answer string, args ...string) (r result, echoed string) {
	t.Helper()
	person, terminal := mustTerminal(t)
	program := begin(t, w.env, terminal, args...)
	eventually(t, "the question "+question, func() bool { return strings.Contains(program.stderr.String(), question) })
	if _, err := person.WriteString(answer + "\n"); err != nil {
		t.Fatal(err)
	}
	code := program.wait(t)
	// A mark behind what the terminal echoed tells where the echo ends.
	if _, err := terminal.WriteString("|mark|"); err != nil {
		t.Fatal(err)
	}
	echoed, err := bufio.NewReader(person).ReadString('|')
	if err != nil {
		t.Fatal(err)
	}
	return result{code, program.stdout.String(), program.stderr.String()}, echoed
}

func TestConfirmation(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	token, id := w.mustCreate(t, "--name", "Kiosk", "--environment", "live", "--full-access")
	alive := func() bool { return w.cli(t, token, "verify").code == exitOK }

	for _, args := range [][]string{{"keys", "revoke", id}, {"keys", "rotate", id}} {
		if r := w.cli(t, "y\n", args...); r.code != exitUsage || !strings.Contains(r.stderr, "--yes") || !alive() {
			t.Errorf("%v without a terminal: %+v", args, r)
		}
	}
	question := fmt.Sprintf("Revoke \"Kiosk\" (%s, live)? It is refused at once and for good. [y/N]", id)
	for _, no := range []string{"n", "", "yess"} {
		if r, _ := w.answerAt(t, question, no, "keys", "revoke", id); r.code != exitFailed || !strings.Contains(r.stderr, "nothing was changed") || !alive() {
			t.Errorf("answered %q: %+v", no, r)
		}
	}
	if r, _ := w.answerAt(t, question, "y", "keys", "revoke", id); r.code != exitOK || alive() {
		t.Errorf("answered y: %+v", r)
	}
}

func TestVerifyAsksWithoutEcho(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	token, _ := w.mustCreate(t, "--name", "Kiosk", "--environment", "live", "--full-access")
	r, echoed := w.answerAt(t, "Key (not shown): ", token, "verify")
	if r.code != exitOK || !strings.HasPrefix(r.stdout, "VALID\n") {
		t.Errorf("verify: %+v", r)
	}
	if strings.Contains(echoed, token[8:]) {
		t.Error("the terminal showed the key")
	}
}

func TestInterruptedQuestionsEnd(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	_, id := w.mustCreate(t, "--name", "Kiosk", "--environment", "live", "--full-access")
	_, terminal := mustTerminal(t)
	program := begin(t, w.env, terminal, "keys", "revoke", id)
	eventually(t, "the question", func() bool { return strings.Contains(program.stderr.String(), "[y/N]") })
	program.stop()
	if code := program.wait(t); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
}
