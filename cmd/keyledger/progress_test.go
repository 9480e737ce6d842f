package main

import (
	"bytes"
	"testing"
	"time"
)

func TestProgressOnATerminal(t *testing.T) {
	person, terminal := mustTerminal(t)
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	a := &app{stderr: terminal, now: func() time.Time { return now }}
	p := a.newProgress(false)
	if p.due("") {
		t.Error("at once")
	}
	now = now.Add(liveEvery)
	if !p.due("") || p.due("") {
		t.Error("not once every while")
	}
	p.show("%d of %d", 10, 10)
	if !p.due("another phase") {
		t.Error("a new phase is not shown")
	}
	p.show("up\x1b")
	p.clear()
	p.clear()
	a.errorf("|")
	const want = "\r10 of 10\rup\\x1b  \r        \r|"
	var got []byte
	for !bytes.HasSuffix(got, []byte("|")) {
		piece := make([]byte, 100)
		n, err := person.Read(piece)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, piece[:n]...)
	}
	if string(got) != want {
		t.Errorf("the terminal got %q, want %q", got, want)
	}
}

func TestProgressElsewhere(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	a := &app{stderr: &out, now: func() time.Time { return now }}
	lines, silent := a.newProgress(true), a.newProgress(false)
	now = now.Add(plainEvery)
	if silent.due("") || !lines.due("") || lines.due("") {
		t.Error("lines come when they should not")
	}
	lines.show("%d %%", 50)
	lines.clear()
	silent.show("never")
	a.json = true
	if a.newProgress(true).show("never"); out.String() != "50 %\n" {
		t.Errorf("it printed %q", out.String())
	}
}
