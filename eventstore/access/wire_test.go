package access_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wire is a client that speaks the protocol of NATS by hand, so that what the
// server refuses is seen line by line and no library helps or hides.
type wire struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	subs int

	got []string // subjects and bodies of messages
}

// dial connects and gives credentials; ok is false if the server refuses them.
func dial(t *testing.T, url string, login map[string]any) (w *wire, ok bool) {
	t.Helper()
	first, _, _ := strings.Cut(strings.TrimPrefix(url, "nats://"), ",")
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", first)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	w = &wire{t: t, conn: conn, in: bufio.NewReader(conn)}
	maps.Copy(login, map[string]any{"verbose": false, "pedantic": false, "protocol": 1, "headers": true, "lang": "test", "version": "1"})
	text, err := json.Marshal(login)
	if err != nil {
		t.Fatal(err)
	}
	w.send("CONNECT %s\r\n", text)
	errs, alive := w.flush()
	if alive && len(errs) > 0 {
		t.Fatalf("the server let it in and said %q", errs)
	}
	if !alive && !strings.Contains(strings.Join(errs, " "), "Authorization Violation") {
		t.Fatalf("the server hung up and said %q", errs)
	}
	return w, alive
}

func (w *wire) send(format string, args ...any) {
	w.t.Helper()
	_, _ = fmt.Fprintf(w.conn, format, args...) // that the server has hung up, reading tells
}

func (w *wire) publish(subject, reply, body string) {
	w.t.Helper()
	w.send("PUB %s %s %d\r\n%s\r\n", subject, reply, len(body), body)
}

func (w *wire) subscribe(subject string) {
	w.t.Helper()
	w.subs++
	w.send("SUB %s %d\r\n", subject, w.subs)
}

// flush returns what the server complained of until it answered a ping; alive is
// false if it hung up.
func (w *wire) flush() (errs []string, alive bool) {
	w.t.Helper()
	w.send("PING\r\n")
	for {
		line, err := w.in.ReadString('\n')
		if err != nil {
			return errs, false
		}
		line = strings.TrimSpace(line)
		switch verb, rest, _ := strings.Cut(line, " "); verb {
		case "PONG":
			return errs, true
		case "PING":
			w.send("PONG\r\n")
		case "-ERR":
			errs = append(errs, rest)
		case "MSG", "HMSG":
			w.message(rest)
		}
	}
}

// message reads the rest of a message: its sizes come last on its line.
func (w *wire) message(line string) {
	w.t.Helper()
	fields := strings.Fields(line)
	size, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		w.t.Fatalf("a message begins with %q", line)
	}
	body := make([]byte, size+2)
	if _, err := io.ReadFull(w.in, body); err != nil {
		w.t.Fatal(err)
	}
	w.got = append(w.got, fields[0]+" "+strings.TrimSpace(string(body)))
}

// may tries one thing and reports whether the server let it. It fails the test if
// the server says no in another way than it should.
func (w *wire) may(kind, subject string) bool {
	w.t.Helper()
	if kind == "subscription" {
		w.subscribe(subject)
	} else {
		w.publish(subject, "", "{}")
	}
	errs, alive := w.flush()
	switch {
	case !alive:
		w.t.Fatalf("%s %s: the server hung up: %q", kind, subject, errs)
	case len(errs) == 0:
		return true
	case len(errs) > 1 || !strings.Contains(strings.ToLower(errs[0]), strings.ToLower("permissions violation for "+kind+` to "`+subject+`"`)):
		w.t.Errorf("%s %s: %q", kind, subject, errs)
	}
	return false
}
